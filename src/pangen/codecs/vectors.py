"""Vectors of real numbers, each coordinate to mean 0 and standard deviation 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from pangen.codecs.codec import Codec, Encoded, alike
from pangen.space import Space

if TYPE_CHECKING:
    from pangen.data.dataset import Data


@dataclass(frozen=True, kw_only=True)
class Standardise(Codec):
    """x = (raw - mean) / std; the volume is -sum(log std), so likelihoods are of the raw units."""

    name: ClassVar[str] = "standardise"
    shows: ClassVar = frozenset({"vector", "real"})
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        alike(self.mean, self.std)

    @classmethod
    def applies(cls, data: Data) -> bool:
        return data.modality == "vector"

    @classmethod
    def fit(cls, data: Data, **settings: Any) -> Self:
        x = data.train.in_memory().x.double()
        std = x.std(0, correction=0)
        std = torch.where(std > 0, std, 1.0)  # a constant column stays as it is
        return cls(mean=tuple(x.mean(0).tolist()), std=tuple(std.tolist()), **settings)

    @property
    def data_space(self) -> Space:
        return Space("real", (len(self.mean),))

    def encode(self, raw: Tensor, *, generator: torch.Generator | None = None) -> Encoded:
        raw = raw.to(torch.get_default_dtype())
        mean, std = raw.new_tensor(self.mean), raw.new_tensor(self.std)
        return Encoded((raw - mean) / std, (-std.log().sum()).expand(len(raw)))

    def ready(self, raw: Tensor, device: torch.device | str) -> Callable[[Tensor], Tensor]:
        return self.encode(raw).x.to(device).__getitem__

    def decode(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        return (x * x.new_tensor(self.std) + x.new_tensor(self.mean)).float()
