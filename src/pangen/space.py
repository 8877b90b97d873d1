"""What one example is as a model sees it, and what a model is handed at each training step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Kind = Literal["real", "binary", "tokens"]


@dataclass(frozen=True)
class Space:
    """The set one example lives in.

    `kind` and dtype: `real` is float32; `binary` is float32 in {0, 1}; `tokens` is int64 in
    {0 .. levels - 1}. A `real` space with `levels` > 0 is a *grid*: `levels` equally spaced values
    from -1 to 1, as grey levels are; a likelihood over it is a probability, not a density.

    `shape`: `(C, H, W)` for images, `(D,)` for vectors, `(L,)` for sequences of tokens,
    `()` for a single value such as a class. The index `levels` is no token: it pads a sequence that goes on
    behind what is known of it, and counts for nothing.
    """

    kind: Kind
    shape: tuple[int, ...]
    levels: int = 0
    end: int | None = None
    """Token that ends a sequence of at most `shape[0]` tokens, and pads it; None: fixed length."""
    condition: Space | None = None
    """The space of `y`: a class is a token of shape `()`, a text tokens `(S,)`, a vector real numbers `(d,)`."""

    @property
    def dims(self) -> int:
        """Number of scalar values in one example."""
        return math.prod(self.shape)

    @property
    def is_image(self) -> bool:
        return len(self.shape) == 3

    @property
    def is_grid(self) -> bool:
        return self.kind == "real" and self.levels > 0

    @property
    def classes(self) -> int:
        """Number of classes, where the condition is one; else 0."""
        return self.condition.levels if self.condition and self.condition.shape == () else 0

    def no_condition(self, n: int, device: torch.device | str = "cpu") -> Tensor | None:
        """The null condition `(n, *condition.shape)`: the class after the last, an empty text, NaN.

        None where models are not conditional.
        """
        import torch

        y = self.condition
        if y is None:
            return None
        null = math.nan if y.kind != "tokens" else y.levels if y.end is None else y.end
        return torch.full((n, *y.shape), null, device=device)

    def filled(self, y: Tensor | None, n: int, device: torch.device | str = "cpu") -> Tensor | None:
        """`y` `(m, *condition.shape)`, and the null condition for the other n - m; None where there is no condition."""
        found = self.no_condition(n, device)
        if found is not None and y is not None:
            found[: len(y)] = y.to(device)
        return found

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Space:
        condition = fields.get("condition")
        return cls(
            kind=fields["kind"],
            shape=tuple(fields["shape"]),
            levels=fields.get("levels", 0),
            end=fields.get("end"),
            condition=cls.from_json(condition) if condition else None,
        )


def class_space(classes: int) -> Space:
    """The space of one of `classes` labels."""
    return Space("tokens", (), levels=classes)


class Batch(NamedTuple):
    """Examples `x` `(B, *space.shape)` and, for conditional spaces, `y` `(B, *space.condition.shape)`."""

    x: Tensor
    y: Tensor | None = None


class Progress(NamedTuple):
    """Where training stands: the only thing a schedule may depend on."""

    step: int
    total: int

    @property
    def fraction(self) -> float:
        """Share of the training already done, in [0, 1)."""
        return self.step / max(self.total, 1)


class Loss(NamedTuple):
    """What a player minimises (a scalar), and the named parts of it that go to the log."""

    total: Tensor
    terms: Mapping[str, Tensor] = MappingProxyType({})


class Distribution(Protocol):
    """A distribution over one example, for each row of a batch."""

    @property
    def mean(self) -> Tensor:
        """`(B, *shape)`, in the units of x; of tokens, which have no order, the most probable."""
        ...

    def log_prob(self, x: Tensor) -> Tensor:
        """Nats `(B,)`: log-probability of discrete x, log-density of real x."""
        ...

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """One draw for each row `(B, *shape)`."""
        ...


Trust = Literal["exact", "lower bound", "estimate"]
"""How far a log-probability can be trusted."""


class LogProb(NamedTuple):
    """Log-probability in nats, one value per example `(B,)`, and how far it can be trusted."""

    nats: Tensor
    kind: Trust


Method = Literal["exact", "ais"]
"""How a normalising constant is found: a sum over states, or annealed importance sampling."""


class LogZ(NamedTuple):
    """A log normalising constant, or one for each class: a sum, or an estimate between two bounds."""

    value: Tensor
    low: Tensor
    high: Tensor
    method: Method = "ais"

    @property
    def pessimistic(self) -> Tensor:
        """The end that does not flatter a likelihood."""
        return self.high

    def plus(self, change: Tensor) -> LogZ:
        """Of densities that are exp(change) times as large."""
        return LogZ(self.value + change, self.low + change, self.high + change, self.method)

    @classmethod
    def exact(cls, value: Tensor) -> LogZ:
        return cls(value, value, value, "exact")


_STRENGTH: tuple[Trust, ...] = ("exact", "lower bound", "estimate")


def weaker(*kinds: Trust) -> Trust:
    """The kind of a likelihood put together from several: the weakest of them."""
    return max(kinds, key=_STRENGTH.index)
