"""Solvers of the probability-flow equation of a denoiser, dx/dsigma = (x - D(x, sigma)) / sigma.

Along one of its paths the law at every noise level is that of the noising process. Each takes the
estimate at the lowest level for the end, where sigma is 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from pangen.capabilities import HasDenoiser
from pangen.errors import PangenError
from pangen.samplers.denoise import denoised, fresh, precise, refuse, start
from pangen.samplers.noise import Spacing, spaced
from pangen.samplers.ode import DormandPrince
from pangen.samplers.probability_flow import carry


@dataclass(frozen=True)
class _Churned:
    """What goes straight on, or first back to a higher level by fresh noise (Karras et al. 2022, Algorithm 2)."""

    steps: int
    churn: float = 0.0
    """S_churn: the noise level rises by the factor 1 + S_churn / steps, at most by sqrt(2)."""
    s_min: float = 0.0
    s_max: float = math.inf
    """Levels at which there is churn."""
    s_noise: float = 1.0
    """Standard deviation of the fresh noise."""
    spacing: Spacing = spaced

    def __post_init__(self) -> None:
        refuse(self.churn < 0, "churn", self.churn, "0 or more")

    @property
    def deterministic(self) -> bool:
        return self.churn == 0

    def stirred(
        self, x: Tensor, sigma: Tensor, noise: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """The state at the higher level that churn takes it to, and that level."""
        if self.churn == 0 or not self.s_min <= sigma <= self.s_max:
            return x, sigma
        higher = sigma * (1 + min(self.churn / self.steps, math.sqrt(2) - 1))
        return x + (higher**2 - sigma**2).sqrt() * self.s_noise * fresh(noise, generator), higher


@dataclass(frozen=True)
class Euler(_Churned):
    """Straight on from each level to the next: first order.

    Without churn this is `DDIM` without fresh noise, and for data on straight lines to noise it is
    Euler's method in their time: in these coordinates they are one.
    """

    steps: int = 50

    @property
    def evaluations(self) -> int:
        return self.steps

    def __call__(
        self, model: HasDenoiser, noise: Tensor, y: Tensor | None = None, *, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """From `noise` `(n, *shape)` of variance 1; yields the estimate of the example at each step."""
        x, levels = start(model, noise, self.steps, self.spacing)
        for sigma, lower in pairwise(levels):
            x, sigma = self.stirred(x, sigma, noise, generator)
            x0 = denoised(model, x, sigma, y, noise)
            yield x0.to(noise.dtype)
            x = torch.lerp(x0, x, lower / sigma)


@dataclass(frozen=True)
class Heun(_Churned):
    """The mean of the slopes at both ends of a step: second order (Karras et al. 2022, Algorithms 1 and 2).

    The last step is Euler's.
    """

    steps: int = 18

    @property
    def evaluations(self) -> int:
        return 2 * self.steps - 1

    def __call__(
        self, model: HasDenoiser, noise: Tensor, y: Tensor | None = None, *, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """From `noise` `(n, *shape)` of variance 1; yields the estimate of the example at each step."""
        x, levels = start(model, noise, self.steps, self.spacing)
        for sigma, lower in pairwise(levels):
            x, sigma = self.stirred(x, sigma, noise, generator)
            x0 = denoised(model, x, sigma, y, noise)
            yield x0.to(noise.dtype)
            if lower == 0:
                return
            slope = (x - x0) / sigma
            ahead = x + (lower - sigma) * slope
            slope_ahead = (ahead - denoised(model, ahead, lower, y, noise)) / lower
            x = x + (lower - sigma) * (slope + slope_ahead) / 2


@dataclass(frozen=True)
class DPMSolver:
    """DPM-Solver++: x given the estimate, which a polynomial in log sigma through the last ones foretells.

    Lu et al. 2022b. The equation is linear in x but for the estimate, so that all else is solved
    exactly. One evaluation a step whatever the `order`, 1 to 3; the first steps have a lower one, as
    there is no past yet. `noisy` takes the stochastic equation in the place of the ordinary one
    (Section 5; first and second order).
    """

    steps: int = 20
    order: int = 2
    noisy: bool = False
    spacing: Spacing = spaced

    def __post_init__(self) -> None:
        if not 1 <= self.order <= 3 - self.noisy:
            raise PangenError(
                f"there is no DPM-Solver++ of order {self.order}{' with noise' * self.noisy}; take one of 1 to "
                f"{3 - self.noisy}."
            )

    @property
    def evaluations(self) -> int:
        return self.steps

    @property
    def deterministic(self) -> bool:
        return not self.noisy

    def __call__(
        self, model: HasDenoiser, noise: Tensor, y: Tensor | None = None, *, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """From `noise` `(n, *shape)` of variance 1; yields the estimate of the example at each step."""
        x, levels = start(model, noise, self.steps, self.spacing)
        past: list[tuple[Tensor, Tensor]] = []  # log sigma and the estimate there, the newest first
        for sigma, lower in pairwise(levels):
            x0 = denoised(model, x, sigma, y, noise)
            yield x0.to(noise.dtype)
            if lower == 0:
                return
            past = [(sigma.log(), x0), *past[: self.order - 1]]
            h = (sigma / lower).log()  # the step in lambda = -log sigma
            kept = torch.exp(-2 * h if self.noisy else -h)  # of x - x0
            if len(past) == 3:
                mean = _foretold(past, h)
            else:  # Algorithm 2, its last line
                mean = x0 + (x0 - past[1][1]) * h / (past[1][0] - past[0][0]) / 2 if len(past) == 2 else x0
                mean = (1 - kept) * mean
            x = kept * x + mean
            if self.noisy:
                x = x + lower * (1 - kept).sqrt() * fresh(noise, generator)


@dataclass(frozen=True)
class Adaptive:
    """Dormand and Prince's pair in log sigma, the steps of each example its own."""

    tolerance: float = 1e-3
    """Of the error of a step, absolute and relative."""
    evaluations = None
    deterministic = True

    def __post_init__(self) -> None:
        refuse(not self.tolerance > 0, "tolerance", self.tolerance, "more than 0, such as 0.001")

    def __call__(
        self, model: HasDenoiser, noise: Tensor, y: Tensor | None = None, *, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """From `noise` `(n, *shape)` of variance 1; yields the example alone."""
        high, low = model.sigma_max, model.sigma_min
        solver = DormandPrince(self.tolerance)
        x = carry(model, precise(noise) * high, y, solver, start=high, end=low, like=noise)
        refuse(
            bool(x.isnan().any()), "tolerance", self.tolerance, "a larger one, at which the solver arrives"
        )
        yield denoised(model, x, x.new_tensor(low), y, noise).to(noise.dtype)


def _foretold(past: list[tuple[Tensor, Tensor]], h: Tensor) -> Tensor:
    """The integral of exp(lambda - h) times the polynomial through past estimates, lambda from 0 to h."""
    nodes = torch.stack(
        [past[0][0] - u for u, _ in past]
    )  # lambda of each estimate, from where the step starts
    moments = [-torch.expm1(-h)]
    for power in range(1, len(past)):  # by parts
        moments.append(h**power - power * moments[-1])
    weights = torch.linalg.solve(torch.linalg.vander(nodes).T, torch.stack(moments))
    return sum(w * x0 for w, (_, x0) in zip(weights, past, strict=True))
