"""Text as tokens: what all its codecs share, and the simplest, each character a token."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from pangen.codecs.codec import Codec, Encoded
from pangen.errors import PangenError
from pangen.space import Space

if TYPE_CHECKING:
    from pangen.data.dataset import Data

_CODE_POINTS = 0x110000 - 0x800  # all of Unicode but the surrogates


@dataclass(frozen=True, kw_only=True)
class Text(Codec):
    """Lines, which end in a token of their own, the last; or windows of a stream, of `window` characters.

    Windows may differ in their number of tokens. The probability of one is that of a stream which starts so:
    what is behind it is padded with the index `levels`, which is no token and costs nothing.
    """

    shows: ClassVar = frozenset({"sequence", "tokens"})
    length: int
    """Longest sequence in tokens, the end included."""
    window: int
    """Characters of an example; 0: each is a line."""

    @classmethod
    def applies(cls, data: Data) -> bool:
        return data.modality == "text"

    @property
    @abstractmethod
    def symbols(self) -> int:
        """Kinds of tokens, the end not among them."""

    @abstractmethod
    def tokens(self, text: str) -> list[int]:
        """The tokens of a text of any length, without an end."""

    @abstractmethod
    def text(self, tokens: Sequence[int]) -> str:
        """What tokens, no end among them, spell."""

    def counted(self, data: Data) -> list[list[int]]:
        """Tokens of each text of the training, validation and test splits, an end not counted."""
        return [
            [len(self.tokens(text)) for text in split.x] for split in (data.train, data.validation, data.test)
        ]

    @property
    def context(self) -> int:
        """Tokens that a model behind this codec has learnt to look back over."""
        return self.length

    @property
    def lines(self) -> bool:
        return self.window == 0

    @property
    def data_space(self) -> Space:
        levels = self.symbols + self.lines
        return Space("tokens", (self.length,), levels, end=levels - 1 if self.lines else None)

    def encode(self, raw: tuple[str, ...], *, generator: torch.Generator | None = None) -> Encoded:
        pad = self.symbols  # of lines their end, of windows no token
        x = torch.full((len(raw), self.length), pad)
        for row, text in enumerate(raw):
            if self.window and len(text) != self.window:
                raise PangenError(
                    f"example {row} has {len(text)} characters; this codec was made for {self.window}."
                )
            found, room = self.tokens(text), self.length - self.lines
            if len(found) > room:
                raise PangenError(f"example {row} has {len(found)} tokens; this codec was made for {room}.")
            x[row, : len(found)] = torch.tensor(found, dtype=torch.long)
        return Encoded(x, self.log_volume(x))

    def told(self, texts: tuple[str, ...]) -> Tensor:
        """Tokens `(B, length)` of texts that a user gives."""
        room = self.length - self.lines
        for text in texts:
            if (count := len(self.tokens(text))) > room:
                shown = text if len(text) <= 40 else text[:37] + "..."
                raise PangenError(
                    f"'{shown}' has {count} tokens and this run takes {room}; shorten it, or give it in parts."
                )
        return self.encode(texts).x

    def log_volume(self, x: Tensor) -> Tensor:
        """Nats `(B,)` of what the tokens leave open."""
        return torch.zeros(len(x))

    def decode(self, x: Tensor, *, generator: torch.Generator | None = None) -> tuple[str, ...]:
        texts = []
        for row in x.tolist():
            stop = row.index(self.symbols) if self.symbols in row else len(row)
            texts.append(self.text(row[:stop])[: self.window or None])
        return tuple(texts)

    def ready(self, raw: tuple[str, ...], device: torch.device | str) -> Callable[[Tensor], Tensor]:
        tokens = self.encode(raw).x.to(device)
        return lambda index: tokens[index]

    def dims(self, raw: tuple[str, ...]) -> int:
        """Characters, and one for each modelled end of a line: the same for every codec."""
        return sum(map(len, raw)) + self.lines * len(raw)


@dataclass(frozen=True, kw_only=True)
class Characters(Text):
    """Each character a token. After the alphabet comes the escape, then the end of a line.

    A character that the training split lacks is written as the escape and costs, beside it, the
    nats of naming one of all other code points: any text has a likelihood, and an honest one.
    Where the alphabet is known beforehand there is no escape.
    """

    name: ClassVar[str] = "characters"
    alphabet: str
    escape: bool

    @classmethod
    def fit(cls, data: Data, **settings: Any) -> Self:
        longest = max(len(text) for s in (data.train, data.validation, data.test) for text in s.x)
        return cls(
            alphabet=data.alphabet or "".join(sorted(set("".join(data.train.x)))),
            length=data.window or longest + 1,
            window=data.window,
            escape=data.alphabet is None,
            **settings,
        )

    @property
    def symbols(self) -> int:
        return len(self.alphabet) + self.escape

    @cached_property
    def _index(self) -> dict[str, int]:
        return {character: i for i, character in enumerate(self.alphabet)}

    def unknown(self, text: str) -> str | None:
        """The first character that is not in the alphabet."""
        return next((character for character in text if character not in self._index), None)

    def tokens(self, text: str) -> list[int]:
        strange = None if self.escape else self.unknown(text)
        if strange is not None:
            raise PangenError(f"the character {strange!r} is not in this data's alphabet {self.alphabet!r}.")
        return [self._index.get(character, len(self.alphabet)) for character in text]

    def text(self, tokens: Sequence[int]) -> str:
        symbols = self.alphabet + "\ufffd" * self.escape
        return "".join(symbols[token] for token in tokens)

    def log_volume(self, x: Tensor) -> Tensor:
        if not self.escape:
            return super().log_volume(x)
        escapes = (x == len(self.alphabet)).sum(1)
        return -escapes * math.log(_CODE_POINTS - len(self.alphabet))
