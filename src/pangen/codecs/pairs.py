"""Texts that answer to texts: each side in tokens of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, cast

import torch
from annotated_types import Ge
from torch import Tensor

from pangen.codecs.codec import Codec, Encoded
from pangen.codecs.subwords import BYTES, Subwords
from pangen.codecs.text import Characters, Text
from pangen.codecs.words import Words
from pangen.rng import generator
from pangen.space import Space, Trust

if TYPE_CHECKING:
    from pangen.data.dataset import Data

DRAWN = 1000
"""Texts of the training split that are kept, to draw from where none is given."""
LEAST = 16
"""Tokens that a text may have which describes an example, at least; at most twice those of the data."""


def drawn(data: Data) -> tuple[str, ...]:
    """Some of the texts that examples of the training split answer to."""
    train = data.train.in_memory()
    order = torch.randperm(len(train), generator=generator("cpu", "pairs"))[:DRAWN]
    return cast("tuple[str, ...]", train.conditions(order))


def captions(data: Data) -> dict[str, Any]:
    """What a codec of other things than texts must know to let models be told the texts beside them."""
    codec = Words.fit(replace(_sources(data), modality="text", alphabet=None, window=0))
    return {"source": replace(codec, length=max(2 * codec.length, LEAST)), "examples": drawn(data)}


def _sources(data: Data) -> Data:
    """The texts that examples answer to, in the place of these."""
    train, validation, test = (
        replace(split, x=split.y, redraw=False) for split in (data.train, data.validation, data.test)
    )
    return replace(data, train=train, validation=validation, test=test)


@dataclass(frozen=True, kw_only=True)
class Pairs(Codec):
    """x is a line of `target`, y a line of `source`; models behind it know p(x given y)."""

    shows: ClassVar = frozenset()
    texts: ClassVar[type[Text]]
    """What codes either side."""
    target: Text

    @classmethod
    def applies(cls, data: Data) -> bool:
        return data.pairs

    @classmethod
    def sides(cls, data: Data, **settings: Any) -> dict[str, Any]:
        """Both codecs, each fitted on its side, and the sources that are kept."""
        source = cls.texts.fit(_sources(data), **settings)
        return {"target": cls.texts.fit(data, **settings), "source": source, "examples": drawn(data)}

    @property
    def outer(self) -> Codec:
        return self.target

    @property
    def data_space(self) -> Space:
        return self.target.data_space

    def encode(self, raw: tuple[str, ...], *, generator: torch.Generator | None = None) -> Encoded:
        return self.target.encode(raw)

    def decode(self, x: Tensor, *, generator: torch.Generator | None = None) -> tuple[str, ...]:
        return self.target.decode(x)

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
    kind: ClassVar[Trust] = Subwords.kind
    texts: ClassVar = Subwords
    vocabulary: Annotated[int, Ge(BYTES)]
    """Tokens at most, on either side."""

    @classmethod
    def applies(cls, data: Data) -> bool:
        return data.pairs and data.alphabet is None

    @classmethod
    def fit(cls, data: Data, *, vocabulary: int = 4096, **settings: Any) -> Self:
        return cls(vocabulary=vocabulary, **cls.sides(data, vocabulary=vocabulary), **settings)
