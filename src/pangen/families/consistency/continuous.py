"""Consistency in continuous time: the two levels of a pair meet, and f has no slope along the path.

Lu and Song 2024, Algorithm 1, in TrigFlow: x_t = cos(t) x0 + sin(t) e, and f = cos(t) x_t - sin(t) F.
Over cos(t) that is x0 + sigma e with sigma = tan(t), what all of this package speaks of, and f predicts v.
The weights that the paper learns for each level are left out: with normalised tangents all levels weigh alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from pangen.families.consistency.distillation import Estimate
from pangen.families.consistency.levels import HIGHEST, LOWEST
from pangen.networks.preconditioning import column
from pangen.samplers.noise import log_normal
from pangen.space import Progress


def tangent(f: Estimate, x: Tensor, sigma: Tensor, x0: Tensor, r: float) -> tuple[Tensor, Tensor]:
    """f(x, sigma), and g = cos(t) df/dt along the path whose end seems to be `x0`.

    With r < 1 that is blended with the error of f as an estimate of `x0`: at r = 0 it is diffusion's.
    """
    level = column(sigma, x)
    scale = (1 + level**2).sqrt()  # 1 / cos(t)
    along = ((x - x0) / level, torch.ones_like(sigma))  # dx / dsigma and dsigma / dsigma
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):  # attention that has a forward derivative
        found, slope = torch.func.jvp(f, (x, sigma), along)[:2]
    # -cos^2 (F - dx_t/dt) - r cos sin (x_t + dF/dt), by dsigma/dt = 1 / cos^2
    return found, (1 - r) * (found - x0) / (level * scale) + r * scale * slope


@dataclass(frozen=True)
class Continuous:
    """The level log-normal, the tangent normalised, and r rising over the first part of training."""

    mean: float = -0.3
    """Of log sigma, and below its deviation: the paper's, with data of variance 1."""
    std: float = 1.4
    c: float = 1.0
    """0.1 in the paper: hardly another where tangents are long, and worse in few dimensions, where they are short."""
    warmup: float = 0.1
    """Share of the training after which r is 1."""

    def __call__(
        self, f: Estimate, x0: Tensor, e: Tensor, teacher: Estimate | None, progress: Progress
    ) -> Tensor:
        low, high = x0.new_tensor([1.1 * LOWEST, HIGHEST])
        u = torch.rand(len(x0), device=x0.device, dtype=x0.dtype)
        sigma = log_normal(u, low, high, mean=self.mean, std=self.std)
        x = x0 + column(sigma, x0) * e
        with torch.no_grad():
            end = teacher(x, sigma) if teacher else x0
        fixed, g = tangent(f, x, sigma, end, min(progress.fraction / self.warmup, 1.0))
        g = g / (column(g.flatten(1).norm(dim=1), g) + self.c)
        sin = column(sigma / (1 + sigma**2).sqrt(), x)
        return ((f(x, sigma) - fixed) / sin + g).square().mean()  # F - F_fixed - g, as f = ... - sin(t) F
