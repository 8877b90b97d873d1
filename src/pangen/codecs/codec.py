"""A codec turns raw data into tensors of a space and back, and accounts for the change of volume."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, cast, get_type_hints

import torch
from torch import Tensor

from pangen.errors import PangenError
from pangen.space import Space, Trust, class_space

if TYPE_CHECKING:
    from pangen.codecs.text import Text
    from pangen.data.dataset import Data


class Encoded(NamedTuple):
    """Tensors `x` `(B, *space.shape)`, and `log_volume` `(B,)` in nats.

    log p(raw) = log p_model(x) + log_volume, or at least that where the codec is a lower bound.
    """

    x: Tensor
    log_volume: Tensor


@dataclass(frozen=True, kw_only=True)
class Codec(ABC):
    """Raw data <-> a `Space`. A frozen value: all it learnt (from the training split) is JSON."""

    labels: tuple[str, ...] = ()
    """Class names, when models behind this codec are conditional on the class; else empty."""
    label_counts: tuple[int, ...] = ()
    """How often each class occurs in the training split: p(y)."""
    source: Codec | None = None
    """How texts become tokens, when models behind this codec are conditional on texts; else None."""
    examples: tuple[str, ...] = ()
    """Some of these texts that the training split has."""

    name: ClassVar[str]
    kind: ClassVar[Trust] = "exact"
    """What an exact model becomes behind this codec: "exact" or "lower bound"."""
    shows: ClassVar[frozenset[str]]
    """Layout of x (vector, sequence or map) and its values, which a model behind this codec therefore knows."""

    @classmethod
    @abstractmethod
    def applies(cls, data: Data) -> bool:
        """Whether this codec can hold data of that kind."""

    @classmethod
    @abstractmethod
    def fit(cls, data: Data, **settings: Any) -> Self:
        """Learn what is needed from the training split.

        What a user may decide is a keyword-only parameter with a default, and a field of the same name.
        """

    @classmethod
    def settings(cls) -> dict[str, Any]:
        """The types of what a user may decide, by name."""
        types = get_type_hints(cls, include_extras=True)
        return {
            name: types[name]
            for name, parameter in signature(cls.fit).parameters.items()
            if parameter.kind is Parameter.KEYWORD_ONLY
        }

    @property
    def reason(self) -> str:
        """Why there is no likelihood behind this codec; empty where there is one."""
        return ""

    @property
    def outer(self) -> Codec:
        """The codec that meets the data: this one, or that of a first stage."""
        return self

    @property
    @abstractmethod
    def data_space(self) -> Space:
        """The space of x, without its condition."""

    @property
    def raw_shape(self) -> tuple[int, ...]:
        """Shape of one raw example, where examples are tensors."""
        return self.data_space.shape

    @property
    def space(self) -> Space:
        """The space a model behind this codec sees."""
        space = self.data_space
        return Space(space.kind, space.shape, space.levels, space.end, self.condition)

    @property
    def condition(self) -> Space | None:
        """The space of y, where models behind this codec are conditional."""
        if self.source is not None:
            return self.source.data_space
        return class_space(len(self.labels)) if self.labels else None

    def encode_condition(self, y: Any) -> Tensor | None:
        """Raw conditions, as `Split.y` holds them, to `(B, *condition.shape)`; None without condition."""
        if self.source is not None:
            return cast("Text", self.source).told(y)
        return y if self.labels else None

    def draw_conditions(self, n: int, generator: torch.Generator) -> Any:
        """`n` raw conditions, as often as the training data has them."""
        if self.source is not None:
            index = torch.randint(len(self.examples), (n,), generator=generator)
            return tuple(self.examples[i] for i in index.tolist())
        return torch.multinomial(self.label_log_prior.exp(), n, replacement=True, generator=generator)

    @abstractmethod
    def encode(self, raw: Any, *, generator: torch.Generator | None = None) -> Encoded:
        """Raw examples, as `Split.x` holds them, to tensors on the device of `raw` or the CPU."""

    @abstractmethod
    def decode(self, x: Tensor, *, generator: torch.Generator | None = None) -> Any:
        """Tensors of the space to raw examples, always within the raw domain.

        Where x leaves them uncertain, `generator` draws one of each; without it they are means.
        """

    def ready(self, raw: Any, device: torch.device | str) -> Callable[[Tensor], Tensor] | None:
        """x of the examples of `raw` at an index, where it pays to read all of them at once; else None."""
        return None

    def dims(self, raw: Any) -> int:
        """Data dimensions of these examples together, the divisor of bits/dim."""
        return raw.numel()

    @property
    def label_log_prior(self) -> Tensor:
        """log p(y) `(classes,)` from the training split."""
        counts = torch.tensor(self.label_counts, dtype=torch.float64)
        return (counts / counts.sum()).log()

    def to_json(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            "name": self.name,
            **{k: v.to_json() if isinstance(v, Codec) else v for k, v in values.items()},
        }


def alike(mean: Sequence[float], std: Sequence[float]) -> None:
    """Raise where there is not a deviation for each mean, as in damaged files."""
    if len(mean) != len(std):
        raise PangenError(f"{len(mean)} means and {len(std)} deviations are recorded: the run is damaged.")
