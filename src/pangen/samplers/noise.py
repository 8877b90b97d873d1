"""Noise levels of a denoiser: schedules in time, spacings for samplers, and one step of the noising chain.

All speak of a signal that keeps its size: x = x0 + sigma e. Every process of diffusion is that one in
other coordinates. A chain that keeps the variance, x_t = sqrt(abar) x0 + sqrt(1 - abar) e, is it times
sqrt(abar), with sigma^2 = 1 / abar - 1; a straight line from data to noise, x_t = (1 - t) x0 + t e, is
it times 1 - t, with sigma = t / (1 - t). Schedules are elementwise: levels have the shape of the times.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.special import ndtri

Schedule = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Time in [0, 1] and the levels at its ends, `low` and `high`, to the level between them."""
Spacing = Callable[[int, float, float], Tensor]
"""How many levels, the lowest and the highest, to levels `(steps,)` that fall; float64."""


def stratified(n: int, device: torch.device) -> Tensor:
    """Times `(n,)`, uniform and evenly spread (Kingma et al. 2021)."""
    return torch.linspace(0, 1 - 1 / n, n, device=device).add_(torch.rand((), device=device)).frac_()


def geometric(t: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """log sigma rises linearly with time: the variance-exploding process (Song et al. 2021, Eq. 30)."""
    return low * (high / low) ** t


def linear(t: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """beta rises linearly with time in a process that keeps the variance: -log abar = log(1 + sigma^2).

    Ho et al. 2020, Section 4, in continuous time (Song et al. 2021, Eq. 32).
    """
    return _with_linear_beta(t, (low**2).log1p(), (high**2).log1p()).expm1().sqrt()


def linear_sub(t: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The same beta in the sub-VP process, x_t = sqrt(abar) x0 + (1 - abar) e (Song et al. 2021, Eq. 29).

    sigma = (1 - abar) / sqrt(abar) = 2 sinh(-log(abar) / 2).
    """
    return 2 * (_with_linear_beta(t, 2 * (low / 2).asinh(), 2 * (high / 2).asinh()) / 2).sinh()


def cosine(t: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """sqrt(abar) is a cosine of time: Nichol and Dhariwal 2021, Eq. 17, its ends cut at `low` and `high`."""
    start, stop = low.atan(), high.atan()
    return (start + t * (stop - start)).tan()


def sigmoid(t: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """abar falls like a sigmoid of time from -3 to 3 (Jabri et al. 2023; Chen 2023, Algorithm 1), cut."""
    top, bottom = torch.sigmoid(torch.tensor([3.0, -3.0], dtype=torch.float64)).to(low)
    start, stop = ((top - (top - bottom) / (1 + sigma**2)).logit() for sigma in (low, high))
    abar = (top - (start + t * (stop - start)).sigmoid()) / (top - bottom)
    return (1 / abar - 1).sqrt()


def straight(t: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Time is that of the line x_t = (1 - t) x0 + t e: sigma = t / (1 - t) (Lipman et al. 2023)."""
    start, stop = low / (1 + low), high / (1 + high)
    at = torch.lerp(start, stop, t)
    return at / (1 - at)


def log_normal(t: Tensor, low: Tensor, high: Tensor, *, mean: float, std: float) -> Tensor:
    """Quantiles of a normal law of log(sigma), cut at `low` and `high` (Karras et al. 2022, Table 1).

    sigma = t / (1 - t) makes of it the logit-normal law of t (Esser et al. 2024, Eq. 19).
    """
    return torch.maximum(torch.minimum((mean + std * ndtri(t)).exp(), high), low)


def spaced(steps: int, low: float, high: float, rho: float = 7.0) -> Tensor:
    """Levels equally spaced in sigma^(1/rho) (Karras et al. 2022, Eq. 5)."""
    at = torch.linspace(0, 1, steps, dtype=torch.float64)
    return (high ** (1 / rho) + at * (low ** (1 / rho) - high ** (1 / rho))) ** rho


def in_time(schedule: Schedule) -> Spacing:
    """Levels equally spaced in the time of a schedule; of the geometric one, in log(sigma)."""
    return partial(_in_time, schedule)


def _in_time(schedule: Schedule, steps: int, low: float, high: float) -> Tensor:
    at = torch.linspace(1, 0, steps, dtype=torch.float64)
    return schedule(at, *at.new_tensor([low, high]))


def posterior(x: Tensor, x0: Tensor, sigma: Tensor, lower: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of the example at noise `lower`, given that it is `x` at `sigma` and `x0` at 0.

    Ho et al. 2020, Eq. 7, divided by the size of the signal.
    """
    kept = (lower / sigma) ** 2
    return x0 + kept * (x - x0), lower**2 * (1 - kept)


def _with_linear_beta(t: Tensor, start: Tensor, stop: Tensor) -> Tensor:
    """The integral of beta between two of its values: it is 0.1 s + 9.95 s^2 after time s."""
    first, last = (((0.01 + 39.8 * B).sqrt() - 0.1) / 19.9 for B in (start, stop))
    s = first + t * (last - first)
    return 0.1 * s + 9.95 * s**2
