"""Text as the characters it is written in."""

from __future__ import annotations

import math
from collections.abc import Callable
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
class Characters(Codec):
    """Each character a token. Tokens after the alphabet: the escape, then the end of a line.

    A character that the training split lacks is written as the escape and costs, beside it, the
    nats of naming one of all other code points: any text has a likelihood, and an honest one.
    Where the alphabet is known beforehand there is no escape.
    """

    name: ClassVar[str] = "characters"
    shows: ClassVar = frozenset({"sequence", "tokens"})
    alphabet: str
    length: int
    """Longest sequence in tokens, the end included."""
    escape: bool
    lines: bool

    @classmethod
    def applies(cls, data: Data) -> bool:
        return data.modality == "text"

    @classmethod
    def fit(cls, data: Data, **settings: Any) -> Self:
        lines = data.window == 0
        longest = max(len(text) for s in (data.train, data.validation, data.test) for text in s.x)
        return cls(
            alphabet=data.alphabet or "".join(sorted(set("".join(data.train.x)))),
            length=longest + 1 if lines else data.window,
            escape=data.alphabet is None,
            lines=lines,
            **settings,
        )

    @property
    def data_space(self) -> Space:
        levels = len(self.alphabet) + self.escape + self.lines
        return Space("tokens", (self.length,), levels, end=levels - 1 if self.lines else None)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {character: i for i, character in enumerate(self.alphabet)}

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text of any length, without an end."""
        unknown = len(self.alphabet)
        found = [self._index.get(character, unknown) for character in text]
        if not self.escape and unknown in found:
            raise PangenError(
                f"the character {text[found.index(unknown)]!r} is not in this data's alphabet {self.alphabet!r}."
            )
        return found

    def encode(self, raw: tuple[str, ...], *, generator: torch.Generator | None = None) -> Encoded:
        pad = self.data_space.end or 0
        x = torch.full((len(raw), self.length), pad)
        room = self.length - self.lines
        for row, text in enumerate(raw):
            if len(text) > room or (not self.lines and len(text) < room):
                raise PangenError(
                    f"example {row} has {len(text)} characters; this codec was made for {room}."
                )
            x[row, : len(text)] = torch.tensor(self.tokens(text), dtype=torch.long)
        if not self.escape:
            return Encoded(x, torch.zeros(len(raw)))
        escapes = (x == len(self.alphabet)).sum(1)
        return Encoded(x, -escapes * math.log(_CODE_POINTS - len(self.alphabet)))

    def decode(self, x: Tensor, *, generator: torch.Generator | None = None) -> tuple[str, ...]:
        symbols = self.alphabet + "\ufffd" * self.escape
        end = self.data_space.end
        texts = []
        for row in x.tolist():
            stop = row.index(end) if end in row else len(row)
            texts.append("".join(symbols[token] for token in row[:stop]))
        return tuple(texts)

    def ready(self, raw: tuple[str, ...], device: torch.device | str) -> Callable[[Tensor], Tensor]:
        tokens = self.encode(raw).x.to(device)
        return lambda index: tokens[index]

    def dims(self, raw: tuple[str, ...]) -> int:
        """Characters, and one for each modelled end of a line."""
        return sum(map(len, raw)) + self.lines * len(raw)
