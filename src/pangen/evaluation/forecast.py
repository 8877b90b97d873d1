"""How good forecasts are: paths, drawn from a model, against what came."""

from __future__ import annotations

import torch
from torch import Tensor


def quantile(paths: Tensor, p: float) -> Tensor:
    """Of paths `(n, ...)`, so that one more path drawn like them lies below it with probability p.

    The k-th of n ordered values has a share of k / (n + 1) below it; between them it is linear, and
    beyond the first and the last nothing is known.
    """
    ordered = paths.double().sort(0).values
    place = min(max(p * (len(paths) + 1) - 1, 0.0), len(paths) - 1.0)
    k = min(int(place), len(paths) - 2)
    return ordered[k] + (place - k) * (ordered[k + 1] - ordered[k])


def crps(paths: Tensor, y: Tensor) -> Tensor:
    """Continuous ranked probability score of each entry of `y` `(...)` under `paths` `(n, ...)`; lower is better.

    E|X - y| - E|X - X'| / 2 (Gneiting and Raftery 2007, Eq. 21), the second over pairs of different paths: an
    unbiased estimate for whatever number of them (Ferro 2014).
    """
    x, n = paths.double().sort(0).values, len(paths)
    rank = torch.arange(1, n + 1, dtype=torch.float64).view(-1, *[1] * y.ndim)
    spread = ((2 * rank - n - 1) * x).sum(0) / (n * (n - 1))
    return (x - y.double()).abs().mean(0) - spread


def covered(paths: Tensor, y: Tensor, level: float) -> Tensor:
    """Whether each entry of `y` lies within the central interval of that level."""
    return (quantile(paths, (1 - level) / 2) <= y) & (y <= quantile(paths, (1 + level) / 2))
