"""Images: integers 0 .. K-1 as bits, as a grid in [-1, 1], as tokens, or dequantised."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from pangen.codecs.codec import Codec, Encoded
from pangen.space import Space, Trust

if TYPE_CHECKING:
    from pangen.data.dataset import Data


@dataclass(frozen=True, kw_only=True)
class ImageCodec(Codec):
    """What codecs of images share."""

    shape: tuple[int, ...]
    levels: int

    @classmethod
    def applies(cls, data: Data) -> bool:
        return data.modality == "image"

    @classmethod
    def fit(cls, data: Data, **settings: Any) -> Self:
        return cls(shape=data.shape, levels=data.levels, **settings)

    def _no_volume(self, x: Tensor) -> Encoded:
        return Encoded(x, torch.zeros(len(x), device=x.device))


@dataclass(frozen=True, kw_only=True)
class Binary(ImageCodec):
    """Two-level images as they are."""

    name: ClassVar[str] = "binary"
    shows: ClassVar = frozenset({"map", "bits"})

    @classmethod
    def applies(cls, data: Data) -> bool:
        return data.modality == "image" and data.levels == 2

    @property
    def data_space(self) -> Space:
        return Space("binary", self.shape, levels=2)

    def encode(self, raw: Tensor, *, generator: torch.Generator | None = None) -> Encoded:
        return self._no_volume(raw.to(torch.get_default_dtype()))

    def decode(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        return (x > 0.5).to(torch.uint8)


@dataclass(frozen=True, kw_only=True)
class Grid(ImageCodec):
    """K levels as K equally spaced values from -1 to 1."""

    name: ClassVar[str] = "grid"
    shows: ClassVar = frozenset({"map"})

    @property
    def data_space(self) -> Space:
        return Space("real", self.shape, levels=self.levels)

    def encode(self, raw: Tensor, *, generator: torch.Generator | None = None) -> Encoded:
        return self._no_volume(raw.to(torch.get_default_dtype()) * (2 / (self.levels - 1)) - 1)

    def decode(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        top = self.levels - 1
        return ((x.float() + 1) * (top / 2)).round().clamp(0, top).to(torch.uint8)


@dataclass(frozen=True, kw_only=True)
class Levels(ImageCodec):
    """K levels as K tokens, without an order."""

    name: ClassVar[str] = "levels"
    shows: ClassVar = frozenset({"map", "tokens"})

    @property
    def data_space(self) -> Space:
        return Space("tokens", self.shape, levels=self.levels)

    def encode(self, raw: Tensor, *, generator: torch.Generator | None = None) -> Encoded:
        return self._no_volume(raw.long())

    def decode(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        return x.to(torch.uint8)


@dataclass(frozen=True, kw_only=True)
class Dequantise(ImageCodec):
    """Uniform noise fills each level's cell, then a logit opens the interval to the real line.

    y = (raw + u) / K, u ~ U[0, 1); x = logit(alpha + (1 - 2 alpha) y). By Jensen's inequality the
    expected log-density is a lower bound on the log-probability of the level (Theis et al. 2016,
    Eq. 4; the logit is Dinh et al. 2017, Section 4.1).
    """

    name: ClassVar[str] = "dequantise"
    shows: ClassVar = frozenset({"map", "real"})
    kind: ClassVar[Trust] = "lower bound"
    alpha: float = 0.05

    @property
    def data_space(self) -> Space:
        return Space("real", self.shape)

    def encode(self, raw: Tensor, *, generator: torch.Generator | None = None) -> Encoded:
        noise = torch.rand(raw.shape, generator=generator, device=raw.device)
        p = self.alpha + (1 - 2 * self.alpha) * (raw + noise) / self.levels
        # dx/dy = (1 - 2 alpha) / (p (1 - p)) and dy/draw = 1 / K
        slope = math.log((1 - 2 * self.alpha) / self.levels) - p.log() - (-p).log1p()
        return Encoded(p.logit(), slope.flatten(1).sum(1))

    def decode(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        y = (x.float().sigmoid() - self.alpha) / (1 - 2 * self.alpha)
        return (y * self.levels).floor().clamp(0, self.levels - 1).to(torch.uint8)
