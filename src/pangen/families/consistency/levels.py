"""Pairs of noise levels on one path, between which a consistency model has to agree; in standard deviations of the data.

Song et al. 2023 draw neighbours of a grid uniformly, Song and Dhariwal 2024 by a log-normal law, and
Geng et al. 2024 leave the grid: a gap in the place of an interval. N, the number of intervals, grows.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from pangen.samplers.noise import log_normal, spaced

LOWEST, HIGHEST = 0.01, 50.0
"""Ends of the path."""
MEAN, STD = -0.4, 2.0
"""Of log(sigma) in training."""

Pairs = Callable[[int, Tensor], tuple[Tensor, Tensor]]
"""N and examples `(B, *shape)` to the lower and the upper level `(B,)` of a pair for each."""


def log_normal_neighbours(N: int, x: Tensor) -> tuple[Tensor, Tensor]:
    """Of a grid, Song and Dhariwal 2024, Eq. 12."""
    edge = torch.erf((grid(N, x).log() - MEAN) / (math.sqrt(2) * STD))
    return _neighbours(N, x, torch.multinomial(edge.diff(), len(x), replacement=True))


def uniform_neighbours(N: int, x: Tensor) -> tuple[Tensor, Tensor]:
    """Of a grid, Song et al. 2023, Algorithm 2."""
    return _neighbours(N, x, torch.randint(N, (len(x),), device=x.device))


def log_normal_gaps(N: int, x: Tensor) -> tuple[Tensor, Tensor]:
    """A log-normal level, and one less than it by a share n(sigma) / N, Geng et al. 2024, Section 3.2.

    N = 1 is diffusion: the lower level is the lowest. The paper's data has standard deviation 1/2.
    """
    low, high = x.new_tensor([1.1 * LOWEST, HIGHEST])
    upper = log_normal(torch.rand(len(x), device=x.device), low, high, mean=MEAN, std=STD).to(x)
    n = 1 + 8 * torch.sigmoid(-upper / 2)
    return (upper * (1 - n / N)).clamp(min=LOWEST), upper


def grid(N: int, x: Tensor) -> Tensor:
    """N + 1 levels that rise, equally spaced in sigma^(1/7) (Karras et al. 2022, Eq. 5)."""
    return spaced(N + 1, LOWEST, HIGHEST).flip(0).to(x)


def _neighbours(N: int, x: Tensor, i: Tensor) -> tuple[Tensor, Tensor]:
    sigmas = grid(N, x)
    return sigmas[i], sigmas[i + 1]
