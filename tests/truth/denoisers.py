"""Denoisers whose law is known, and how samplers are run to their end."""

from __future__ import annotations

import math

import torch
from torch import Tensor

MEAN, STD = torch.tensor([1.0, -0.5, 0.0]), torch.tensor([0.3, 1.0, 2.0])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Gaussian:
    """The exact denoiser of independent N(MEAN, STD^2)."""

    sigma_min, sigma_max = 0.002, 80.0

    def denoise(self, x: Tensor, sigma: Tensor, y: Tensor | None = None) -> Tensor:
        kept = STD**2 / (STD**2 + sigma[:, None] ** 2)
        return (MEAN + kept * (x - MEAN)).to(x.dtype)

    def error(self, sigma: Tensor) -> Tensor:
        return STD**2 * sigma**2 / (STD**2 + sigma**2)


class Constant:
    """A denoiser that is sure of one example, and writes down the states it is asked about."""

    sigma_min, sigma_max = 0.1, 20.0

    def __init__(self, x0: float) -> None:
        self.x0, self.states = x0, []

    def denoise(self, x: Tensor, sigma: Tensor, y: Tensor | None = None) -> Tensor:
        self.states.append((float(sigma[0]), x))
        return torch.full_like(x, self.x0)


def end(sampler, model, noise: Tensor) -> Tensor:
    return list(sampler(model, noise, generator=generator(1)))[-1]


class Mixture:
    """The exact denoiser of a mixture of isotropic Gaussians in the plane, one for each label where there are any."""

    sigma_min, sigma_max = 0.01, 100.0
    centres = torch.tensor([[-1.0, 0.0], [1.5, 1.0], [0.0, -2.0]], dtype=torch.float64)
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    std = 0.4

    def __init__(self) -> None:
        self.calls = 0

    def log_prob(self, x: Tensor, sigma: Tensor | float = 0.0) -> Tensor:
        """Nats of `x` at a noise level."""
        variance = torch.as_tensor(self.std**2 + sigma**2, dtype=x.dtype).expand(len(x))
        return self._parts(x, variance).logsumexp(1)

    def denoise(self, x: Tensor, sigma: Tensor, y: Tensor | None = None) -> Tensor:
        self.calls += 1
        variance = self.std**2 + sigma**2
        share = self._parts(x, variance).softmax(1)
        kept = (self.std**2 / variance)[:, None]
        return (share @ self.centres.to(x)) * (1 - kept) + kept * x

    def _parts(self, x: Tensor, variance: Tensor) -> Tensor:
        squares = (x[:, None] - self.centres.to(x)).square().sum(2)
        return (
            self.weights.to(x).log()
            - squares / (2 * variance[:, None])
            - (2 * math.pi * variance[:, None]).log()
        )
