"""Samplers of a denoiser that draw from the noising chain's own conditionals, backwards.

All work where the signal keeps its size: x = x0 + sigma e. `pangen.samplers.solvers` has those that
solve the probability-flow equation instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from pangen.capabilities import HasDenoiser
from pangen.samplers.denoise import at_least_one, denoised, fresh, precise, refuse, start
from pangen.samplers.noise import Spacing, posterior, spaced


@dataclass(frozen=True)
class Ancestral:
    """Draw each state from its distribution given the one before (Ho et al. 2020, Algorithm 2).

    The mean is the posterior's with the estimate in place of the example; the last step adds no
    noise. `error`, where it is known, gives the mean squared error of the estimate at a noise
    level; the variance is then the optimal one (Bao et al. 2022, Eq. 8), else the posterior's.
    """

    steps: int = 50
    spacing: Spacing = spaced
    error: Callable[[Tensor], Tensor] | None = None
    deterministic = False

    @property
    def evaluations(self) -> int:
        return self.steps

    def __call__(
        self, model: HasDenoiser, noise: Tensor, y: Tensor | None = None, *, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """From `noise` `(n, *shape)` of variance 1; yields the estimate of the example at each step."""
        x, levels = start(model, noise, self.steps, self.spacing)
        for sigma, lower in pairwise(levels):
            x0 = denoised(model, x, sigma, y, noise)
            mean, variance = posterior(x, x0, sigma, lower)
            if self.error is not None:
                variance = variance + (1 - (lower / sigma) ** 2) ** 2 * self.error(sigma)
            x = mean + variance.sqrt() * fresh(noise, generator)
            yield x0.to(noise.dtype)


@dataclass(frozen=True)
class DDIM:
    """Follow the noise that the estimate implies (Song et al. 2021a, Eq. 12).

    `eta` in [0, 1] scales the fresh noise of each step: 0 is deterministic and of first order, 1 is
    `Ancestral` with the posterior's variance.
    """

    steps: int = 50
    eta: float = 0.0
    spacing: Spacing = spaced

    def __post_init__(self) -> None:
        refuse(not 0 <= self.eta <= 1, "eta", self.eta, "a number from 0 to 1")

    @property
    def evaluations(self) -> int:
        return self.steps

    @property
    def deterministic(self) -> bool:
        return self.eta == 0

    def __call__(
        self, model: HasDenoiser, noise: Tensor, y: Tensor | None = None, *, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """From `noise` `(n, *shape)` of variance 1; yields the estimate of the example at each step."""
        x, levels = start(model, noise, self.steps, self.spacing)
        for sigma, lower in pairwise(levels):
            x0 = denoised(model, x, sigma, y, noise)
            variance = self.eta**2 * posterior(x, x0, sigma, lower)[1]
            x = x0 + (lower**2 - variance).sqrt() / sigma * (x - x0)
            if self.eta > 0:
                x = x + variance.sqrt() * fresh(noise, generator)
            yield x0.to(noise.dtype)

    def encode(self, model: HasDenoiser, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The noise `(n, *shape)` of variance 1 that comes to `x` without fresh noise, up to the steps' error.

        The same steps the other way (Song et al. 2021a, Section 5.4): each takes the estimate of
        where it starts.
        """
        _, levels = start(model, x, self.steps, self.spacing)
        z = precise(x)
        for lower, sigma in pairwise(levels[:-1].flip(0)):
            x0 = denoised(model, z, lower, y, x)
            z = x0 + sigma / lower * (z - x0)
        return (z / model.sigma_max).to(x.dtype)


@dataclass(frozen=True)
class PredictorCorrector:
    """After each ancestral step, `corrections` steps of Langevin dynamics (Song et al. 2021b, Algorithms 2 and 3).

    The score is (x0 - x) / sigma^2, and the predictor the ancestral one (Appendix F). A correction of
    signal-to-noise ratio r has the step 2 (r |z| / |score|)^2, in which the norms are those that are
    expected, |z| / |score| = sigma, where the paper takes means over a batch.
    """

    steps: int = 50
    corrections: int = 1
    ratio: float = 0.16
    spacing: Spacing = spaced
    deterministic = False

    @property
    def evaluations(self) -> int:
        return self.steps + (self.steps - 1) * self.corrections

    def __call__(
        self, model: HasDenoiser, noise: Tensor, y: Tensor | None = None, *, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """From `noise` `(n, *shape)` of variance 1; yields the estimate of the example at each step."""
        x, levels = start(model, noise, self.steps, self.spacing)
        for sigma, lower in pairwise(levels):
            x0 = denoised(model, x, sigma, y, noise)
            yield x0.to(noise.dtype)
            if lower == 0:
                return
            mean, variance = posterior(x, x0, sigma, lower)
            x = mean + variance.sqrt() * fresh(noise, generator)
            for _ in range(self.corrections):
                step = 2 * (self.ratio * lower) ** 2
                score = (denoised(model, x, lower, y, noise) - x) / lower**2
                x = x + step * score + (2 * step).sqrt() * fresh(noise, generator)


@dataclass(frozen=True)
class Multistep:
    """Jump to the data from each of the noise levels `sigmas`, falling (Song et al. 2023, Algorithm 1)."""

    sigmas: tuple[float, ...]

    @property
    def evaluations(self) -> int:
        return len(self.sigmas)

    @property
    def deterministic(self) -> bool:
        return len(self.sigmas) == 1

    def __call__(
        self, model: HasDenoiser, noise: Tensor, y: Tensor | None = None, *, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """From `noise` `(n, *shape)` of variance 1; yields the example after each jump."""
        at_least_one(len(self.sigmas))
        x = precise(noise) * self.sigmas[0]
        for sigma, following in zip(self.sigmas, (*self.sigmas[1:], 0.0), strict=True):
            x0 = denoised(model, x, x.new_tensor(sigma), y, noise)
            yield x0.to(noise.dtype)
            x = x0 + max(following**2 - model.sigma_min**2, 0.0) ** 0.5 * fresh(noise, generator)
