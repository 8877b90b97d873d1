"""Sound by the mu-law: each sample one of 256 levels, fine near silence and coarse where it is loud."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pangen.codecs.codec import Codec, Encoded
from pangen.errors import PangenError
from pangen.space import Space

if TYPE_CHECKING:
    from pangen.data.dataset import Data

LEVELS = 256
MU = LEVELS - 1


def compress(x: Tensor) -> Tensor:
    """sign(x) ln(1 + mu |x|) / ln(1 + mu), [-1, 1] to [-1, 1] (ITU-T G.711; van den Oord et al. 2016, Section 2.2)."""
    return x.sign() * (MU * x.abs()).log1p() / math.log1p(MU)


def expand(f: Tensor) -> Tensor:
    """The inverse of `compress`."""
    return f.sign() * (f.abs() * math.log1p(MU)).expm1() / MU


def quantise(x: Tensor) -> Tensor:
    """The level 0 .. 255 nearest to x in [-1, 1], near by the mu-law."""
    return ((compress(x) + 1) * (MU / 2)).round().long().clamp(0, MU)


def amplitude(level: Tensor) -> Tensor:
    """What a level stands for, in [-1, 1]."""
    return expand(level * (2 / MU) - 1)


@dataclass(frozen=True, kw_only=True)
class Sound(Codec):
    """Levels of the mu-law, and where a clip ends, as whatever a model sees.

    Probabilities are of the levels, and of where a clip ends: bits a dimension are bits for each sample of
    8-bit mu-law sound, not of what it was recorded with.
    """

    rate: int
    """Samples a second."""
    length: int
    """Of the longest clip, its end included."""
    ends: bool
    """Whether clips differ in length."""

    @abstractmethod
    def shown(self, levels: Tensor) -> Tensor:
        """Levels `(B, length)`, LEVELS behind a clip's end, as a model sees them."""

    @abstractmethod
    def levels_of(self, x: Tensor) -> Tensor:
        """The inverse of `shown`, for any x."""

    @classmethod
    def applies(cls, data: Data) -> bool:
        return data.modality == "sound"

    @classmethod
    def fit(cls, data: Data, **settings: Any) -> Self:
        ends = data.window == 0
        longest = max(len(clip) for s in (data.train, data.validation, data.test) for clip in s.x)
        return cls(rate=data.rate, length=longest + ends, ends=ends, **settings)

    def encode(self, raw: tuple[Tensor, ...], *, generator: torch.Generator | None = None) -> Encoded:
        room = self.length - self.ends
        for row, clip in enumerate(raw):
            if len(clip) > room or (not self.ends and len(clip) < room):
                raise PangenError(
                    f"clip {row} has {len(clip)} samples and this codec was made for {'at most ' if self.ends else ''}"
                    f"{room}; cut it with --seconds {room / self.rate:g}."
                )
        return Encoded(self.shown(self._padded(map(quantise, raw))), torch.zeros(len(raw)))

    def decode(self, x: Tensor, *, generator: torch.Generator | None = None) -> tuple[Tensor, ...]:
        levels = self.levels_of(x.cpu())
        lengths = (levels == LEVELS).long().cumsum(1).eq(0).sum(1).tolist()
        table = amplitude(torch.arange(LEVELS, dtype=torch.float64)).float()
        return tuple(table[row[:n]] for row, n in zip(levels, lengths, strict=True))

    def ready(self, raw: tuple[Tensor, ...], device: torch.device | str) -> Callable[[Tensor], Tensor]:
        levels = [quantise(clip).to(torch.uint8) for clip in raw]
        return lambda index: self.shown(self._padded(levels[i].long() for i in index.tolist())).to(device)

    def _padded(self, clips: Iterable[Tensor]) -> Tensor:
        whole = torch.empty(self.length, dtype=torch.long)  # so that all have room for the longest
        return pad_sequence([*clips, whole], batch_first=True, padding_value=LEVELS)[:-1]

    def dims(self, raw: tuple[Tensor, ...]) -> int:
        """Samples, and one for each modelled end of a clip."""
        return sum(map(len, raw)) + self.ends * len(raw)


@dataclass(frozen=True, kw_only=True)
class MuLaw(Sound):
    """Each sample a token; clips that differ in length end in a token of their own, the last."""

    name: ClassVar[str] = "mulaw"
    shows: ClassVar = frozenset({"sequence", "sound"})

    @property
    def data_space(self) -> Space:
        return Space("tokens", (self.length,), LEVELS + self.ends, end=LEVELS if self.ends else None)

    def shown(self, levels: Tensor) -> Tensor:
        return levels

    def levels_of(self, x: Tensor) -> Tensor:
        return x


@dataclass(frozen=True, kw_only=True)
class Waveform(Sound):
    """Each sample a real number, its level put on the grid from -1 to 1: a row `(1, length)`.

    Clips that differ in length end in silence, and have a second channel, 1 while they last and then -1.
    """

    name: ClassVar[str] = "waveform"
    shows: ClassVar = frozenset({"series", "sound"})

    @property
    def data_space(self) -> Space:
        return Space("real", (1 + self.ends, self.length), LEVELS)

    def shown(self, levels: Tensor) -> Tensor:
        over = levels == LEVELS
        wave = levels.where(~over, quantise(torch.zeros(()))) * (2 / MU) - 1
        channels = [wave, 1 - 2 * over.to(wave)] if self.ends else [wave]
        return torch.stack(channels, 1).to(torch.get_default_dtype())

    def levels_of(self, x: Tensor) -> Tensor:
        levels = ((x[:, 0] + 1) * (MU / 2)).round().clamp(0, MU).long()
        if not self.ends:
            return levels
        lasting = torch.nn.functional.pad(x[:, 1].cumsum(1), (1, 0)).argmax(1)  # the likeliest step
        return levels.where(torch.arange(self.length) < lasting[:, None], LEVELS)
