"""Classifier-free guidance: a denoiser made of one denoiser's estimates with and without the condition."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pangen.capabilities import HasDenoiser


@dataclass(frozen=True)
class Guided:
    """D(x, null) + weight (D(x, y) - D(x, null)), Ho and Salimans 2022, Eq. 6 with weight = 1 + w.

    0 forgets the condition, 1 is the model itself, more takes the condition further than the data do.
    Costs two evaluations of the model.
    """

    model: HasDenoiser
    weight: float

    @property
    def sigma_min(self) -> float:
        return self.model.sigma_min

    @property
    def sigma_max(self) -> float:
        return self.model.sigma_max

    def denoise(self, x: Tensor, sigma: Tensor, y: Tensor | None = None) -> Tensor:
        null = self.model.denoise(x, sigma)
        return torch.lerp(null, self.model.denoise(x, sigma, y), self.weight)
