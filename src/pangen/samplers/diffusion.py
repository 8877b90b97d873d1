"""Noise schedules, and samplers of a denoiser: from noise to data along falling noise levels.

All work where the signal keeps its size: x = x0 + sigma e. A chain that keeps the variance,
x_t = sqrt(abar) x0 + sqrt(1 - abar) e, is the same chain divided by sqrt(abar), with
sigma^2 = (1 - abar) / abar. States are float64, networks see the type of the noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from pangen.capabilities import HasDenoiser
from pangen.errors import PangenError


def linear(t: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """sigma at time t in [0, 1], from `low` to `high`, where beta rises linearly with time.

    -log abar = 0.1 s + 9.95 s^2 for some time s, which is Ho et al. 2020, Section 4, in continuous time.
    """
    start, stop = (((0.01 + 39.8 * (sigma**2).log1p()).sqrt() - 0.1) / 19.9 for sigma in (low, high))
    s = start + t * (stop - start)
    return (0.1 * s + 9.95 * s**2).expm1().sqrt()


def cosine(t: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """sigma at time t in [0, 1], from `low` to `high`, where sqrt(abar) is a cosine of time.

    Nichol and Dhariwal 2021, Eq. 17, its ends cut at `low` and `high`.
    """
    start, stop = low.atan(), high.atan()
    return (start + t * (stop - start)).tan()


def spaced(steps: int, low: float, high: float, rho: float = 7.0) -> Tensor:
    """Noise levels `(steps,)` falling from `high` to `low`, equally spaced in sigma^(1/rho).

    Float64. Karras et al. 2022, Eq. 5.
    """
    at = torch.linspace(0, 1, steps, dtype=torch.float64)
    return (high ** (1 / rho) + at * (low ** (1 / rho) - high ** (1 / rho))) ** rho


def posterior(x: Tensor, x0: Tensor, sigma: Tensor, lower: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of the example at noise `lower`, given that it is `x` at `sigma` and `x0` at 0.

    Ho et al. 2020, Eq. 7, divided by the size of the signal.
    """
    kept = (lower / sigma) ** 2
    return x0 + kept * (x - x0), lower**2 * (1 - kept)


@dataclass(frozen=True)
class Ancestral:
    """Draw each state from its distribution given the one before (Ho et al. 2020, Algorithm 2).

    The mean is the posterior's with the estimate in place of the example; the last step adds no
    noise. `error`, where it is known, gives the mean squared error of the estimate at a noise
    level; the variance is then the optimal one (Bao et al. 2022, Eq. 8), else the posterior's.
    """

    steps: int = 50
    rho: float = 7.0
    error: Callable[[Tensor], Tensor] | None = None

    def __call__(
        self, model: HasDenoiser, noise: Tensor, y: Tensor | None = None, *, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """From `noise` `(n, *shape)` of variance 1; yields the estimate of the example at each step."""
        x, levels = _start(noise, model, self.steps, self.rho)
        for sigma, lower in pairwise(levels):
            x0 = _denoised(model, x, sigma, y, noise)
            mean, variance = posterior(x, x0, sigma, lower)
            if self.error is not None:
                variance = variance + (1 - (lower / sigma) ** 2) ** 2 * self.error(sigma)
            x = mean + variance.sqrt() * _fresh(noise, generator)
            yield x0.to(noise.dtype)


@dataclass(frozen=True)
class DDIM:
    """Follow the noise that the estimate implies (Song et al. 2021, Eq. 12).

    `eta` in [0, 1] scales the fresh noise of each step: 0 is deterministic and of first order, 1 is
    `Ancestral` with the posterior's variance.
    """

    steps: int = 50
    eta: float = 0.0
    rho: float = 7.0

    def __call__(
        self, model: HasDenoiser, noise: Tensor, y: Tensor | None = None, *, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """From `noise` `(n, *shape)` of variance 1; yields the estimate of the example at each step."""
        x, levels = _start(noise, model, self.steps, self.rho)
        for sigma, lower in pairwise(levels):
            x0 = _denoised(model, x, sigma, y, noise)
            variance = self.eta**2 * posterior(x, x0, sigma, lower)[1]
            x = x0 + (lower**2 - variance).sqrt() / sigma * (x - x0)
            if self.eta > 0:
                x = x + variance.sqrt() * _fresh(noise, generator)
            yield x0.to(noise.dtype)


@dataclass(frozen=True)
class Multistep:
    """Jump to the data from each of the noise levels `sigmas`, falling (Song et al. 2023, Algorithm 1)."""

    sigmas: tuple[float, ...]

    def __call__(
        self, model: HasDenoiser, noise: Tensor, y: Tensor | None = None, *, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """From `noise` `(n, *shape)` of variance 1; yields the example after each jump."""
        _at_least_one(len(self.sigmas))
        x = precise(noise) * self.sigmas[0]
        for sigma, following in zip(self.sigmas, (*self.sigmas[1:], 0.0), strict=True):
            x0 = _denoised(model, x, x.new_tensor(sigma), y, noise)
            yield x0.to(noise.dtype)
            x = x0 + max(following**2 - model.sigma_min**2, 0.0) ** 0.5 * _fresh(noise, generator)


def precise(x: Tensor) -> Tensor:
    """In float64, where the device has it."""
    return x.float() if x.device.type == "mps" else x.double()


def _start(noise: Tensor, model: HasDenoiser, steps: int, rho: float) -> tuple[Tensor, Tensor]:
    _at_least_one(steps)
    levels = spaced(steps, model.sigma_min, model.sigma_max, rho)
    x = precise(noise) * model.sigma_max
    return x, torch.cat([levels, levels.new_zeros(1)]).to(x.dtype).to(x.device)


def _denoised(model: HasDenoiser, x: Tensor, sigma: Tensor, y: Tensor | None, noise: Tensor) -> Tensor:
    return model.denoise(x.to(noise.dtype), sigma.to(noise.dtype).expand(len(x)), y).to(x.dtype)


def _fresh(noise: Tensor, generator: torch.Generator) -> Tensor:
    return precise(torch.randn(noise.shape, generator=generator, device=noise.device, dtype=noise.dtype))


def _at_least_one(steps: int) -> None:
    if steps < 1:
        raise PangenError(f"cannot sample in {steps} steps; ask for at least 1.")
