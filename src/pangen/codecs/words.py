"""Text as words: the frequent ones tokens of their own, all others spelled."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from pangen.codecs.text import Characters, Text
from pangen.settings import Count
from pangen.space import Trust

if TYPE_CHECKING:
    from pangen.data.dataset import Data

PIECE = re.compile(r" ?\w+| ?[^\w\s]|\s")
"""A word or a sign with the blank before it, or white space that stands alone."""
OFTEN = 2
"""Times that a word must occur to become a token."""


@dataclass(frozen=True, kw_only=True)
class Words(Text):
    """A token for each of the most frequent words, blank before it included; other words in characters.

    Spelled, a frequent word has another probability than as a token; what is counted is the token, so that
    log p is a lower bound on that of the text.
    """

    name: ClassVar[str] = "words"
    kind: ClassVar[Trust] = "lower bound"
    vocabulary: Count
    """Words at most, as long as one occurs twice."""
    spelling: Characters
    words: tuple[str, ...]

    @classmethod
    def applies(cls, data: Data) -> bool:
        return data.modality == "text" and data.alphabet is None

    @classmethod
    def fit(cls, data: Data, *, vocabulary: int = 8000, **settings: Any) -> Self:
        counts = Counter(piece for text in data.train.x for piece in PIECE.findall(text) if len(piece) > 1)
        frequent = sorted(counts, key=lambda piece: (-counts[piece], piece))[:vocabulary]
        words = tuple(piece for piece in frequent if counts[piece] >= OFTEN)
        fields = {"vocabulary": vocabulary, "spelling": Characters.fit(data), "words": words, **settings}
        codec = cls(length=1, window=data.window, **fields)
        return replace(codec, length=max(n for part in codec.counted(data) for n in part) + codec.lines)

    @property
    def symbols(self) -> int:
        return self.spelling.symbols + len(self.words)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {word: self.spelling.symbols + i for i, word in enumerate(self.words)}

    def tokens(self, text: str) -> list[int]:
        found: list[int] = []
        for piece in PIECE.findall(text):
            word = self._index.get(piece)
            found += self.spelling.tokens(piece) if word is None else [word]
        return found

    def text(self, tokens: Sequence[int]) -> str:
        first = self.spelling.symbols
        return "".join(self.spelling.text([t]) if t < first else self.words[t - first] for t in tokens)

    def log_volume(self, x: Tensor) -> Tensor:
        return self.spelling.log_volume(torch.where(x < self.spelling.symbols, x, self.spelling.symbols))
