"""Texts that answer to texts: each side in tokens of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import torch
from annotated_types import Ge
from torch import Tensor

from pangen.codecs.codec import Codec, Encoded
from pangen.codecs.subwords import BYTES, Subwords
from pangen.codecs.text import Characters, Text
from pangen.errors import PangenError
from pangen.rng import generator
from pangen.space import Space

if TYPE_CHECKING:
    from pangen.data.dataset import Data

DRAWN = 1000
"""Sources of the training split that are kept, to draw from where none is given."""


@dataclass(frozen=True, kw_only=True)
class Pairs(Codec):
    """x is a line of `target`, y a line of `source`; models behind it know p(x given y)."""

    shows: ClassVar = frozenset()
    texts: ClassVar[type[Text]]
    """What codes either side."""
    target: Text
    source: Text
    examples: tuple[str, ...]
    """Sources that the training split has."""

    @classmethod
    def applies(cls, data: Data) -> bool:
        return data.pairs

    @classmethod
    def sides(cls, data: Data, **settings: Any) -> dict[str, Any]:
        """Both codecs, each fitted on its side, and the sources that are kept."""
        sources = {
            name: replace(data.split(name), x=data.split(name).y) for name in ("train", "validation", "test")
        }
        order = torch.randperm(len(data.train), generator=generator("cpu", "pairs"))[:DRAWN]
        return {
            "target": cls.texts.fit(data, **settings),
            "source": cls.texts.fit(replace(data, **sources), **settings),
            "examples": data.train.take(order)[1],
        }

    @property
    def outer(self) -> Codec:
        return self.target

    @property
    def data_space(self) -> Space:
        return self.target.data_space

    @property
    def condition(self) -> Space:
        return self.source.data_space

    def encode(self, raw: tuple[str, ...], *, generator: torch.Generator | None = None) -> Encoded:
        return self.target.encode(raw)

    def decode(self, x: Tensor, *, generator: torch.Generator | None = None) -> tuple[str, ...]:
        return self.target.decode(x)

    def encode_condition(self, y: tuple[str, ...]) -> Tensor:
        room = self.source.length - 1
        for text in y:
            if (count := len(self.source.tokens(text))) > room:
                shown = text if len(text) <= 40 else text[:37] + "..."
                raise PangenError(
                    f"'{shown}' has {count} tokens and this run takes {room}; give it in parts."
                )
        return self.source.encode(y).x

    def draw_conditions(self, n: int, generator: torch.Generator) -> tuple[str, ...]:
        index = torch.randint(len(self.examples), (n,), generator=generator)
        return tuple(self.examples[i] for i in index.tolist())

    def ready(self, raw: tuple[str, ...], device: torch.device | str) -> Callable[[Tensor], Tensor]:
        return self.target.ready(raw, device)

    def dims(self, raw: tuple[str, ...]) -> int:
        return self.target.dims(raw)


@dataclass(frozen=True, kw_only=True)
class CharacterPairs(Pairs):
    """Each character a token."""

    name: ClassVar[str] = "character-pairs"
    texts: ClassVar = Characters

    @classmethod
    def fit(cls, data: Data, **settings: Any) -> Self:
        return cls(**cls.sides(data), **settings)


@dataclass(frozen=True, kw_only=True)
class SubwordPairs(Pairs):
    """Byte-pair encoding, learnt on each side."""

    name: ClassVar[str] = "bpe-pairs"
    kind: ClassVar[str] = Subwords.kind
    texts: ClassVar = Subwords
    vocabulary: Annotated[int, Ge(BYTES)]
    """Tokens at most, on either side."""

    @classmethod
    def applies(cls, data: Data) -> bool:
        return data.pairs and data.alphabet is None

    @classmethod
    def fit(cls, data: Data, *, vocabulary: int = 4096, **settings: Any) -> Self:
        return cls(vocabulary=vocabulary, **cls.sides(data, vocabulary=vocabulary), **settings)
