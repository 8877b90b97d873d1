"""Whether samples and real data are drawn from one law, in a feature space: `(M, d)` float64 against `(N, d)`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from pangen.evaluation.fidelity import (
    RESAMPLES,
    class_weights,
    distances,
    frechet_distance,
    frechet_of_moments,
    moments,
)
from pangen.evaluation.intervals import centred_interval, normal_interval, resampling_weights
from pangen.rng import generator

Kernel = Callable[[Tensor, Tensor], Tensor]
Labels = tuple[Tensor | None, Tensor | None]
"""Classes of the real examples and of the samples, where they are known."""
NOBODY: Labels = (None, None)
DIRECTIONS = 50
FEWER = 50
"""Resamples of what costs more."""
HALVINGS = 8
BANDWIDTH_FROM = 500


def polynomial(a: Tensor, b: Tensor) -> Tensor:
    """(a·b / d + 1)^3, the kernel of the kernel distance (Bińkowski et al. 2018)."""
    return (a @ b.T / a.shape[1] + 1) ** 3


def gaussian(real: Tensor) -> Kernel:
    """exp(-|a - b|^2 / 2 s^2), s the median distance between real examples (Gretton et al. 2012)."""
    some = real[:BANDWIDTH_FROM]
    s = torch.pdist(some).median().clamp(min=1e-12)
    return lambda a, b: torch.exp(-(distances(a, b) ** 2) / (2 * s**2))


def mmd(
    kernel: Kernel,
    real: Tensor,
    fake: Tensor,
    labels: Labels = NOBODY,
    shares: Tensor | None = None,
    *,
    seed: int = 0,
) -> tuple[float, list[float]]:
    """Squared maximum mean discrepancy, unbiased (Gretton et al. 2012, Eq. 3), and its 95 % interval.

    Below 0 as often as above between draws of one law. With `shares` `(classes,)`, sets whose
    classes are known are weighted to them.
    """
    K = kernel(real, real), kernel(fake, fake), kernel(real, fake)
    one = [torch.full((1, len(x)), 1 / len(x), dtype=torch.float64) for x in (real, fake)]
    many = [resampling_weights(len(x), RESAMPLES, name, seed) for x, name in ((real, "real"), (fake, "fake"))]
    value, replicates = (
        _mmd(*K, *(class_weights(y, shares, w) for y, w in zip(labels, drawn, strict=True)))
        for drawn in (one, many)
    )
    return float(value), centred_interval(float(value), replicates, least=-math.inf)


def _mmd(K_real: Tensor, K_fake: Tensor, K_both: Tensor, v: Tensor, w: Tensor) -> Tensor:
    """For weights `(B, N)` and `(B, M)`; an example never meets itself, also when it was drawn twice."""

    def within(K: Tensor, u: Tensor) -> Tensor:
        return ((u @ K * u).sum(1) - u**2 @ K.diagonal()) / (1 - (u**2).sum(1))

    return within(K_real, v) + within(K_fake, w) - 2 * (v @ K_both * w).sum(1)


def sliced_wasserstein(real: Tensor, fake: Tensor, *, seed: int = 0) -> tuple[float, list[float]]:
    """Root of the mean squared 2-Wasserstein distance along random directions, and its 95 % interval.

    Bonneel et al. 2015. The directions depend on `seed` alone.
    """
    directions = torch.randn(
        real.shape[1], DIRECTIONS, generator=generator("cpu", "directions", seed), dtype=torch.float64
    )
    u = directions / directions.norm(dim=0)
    a, b = real @ u, fake @ u
    value = _sliced(a.sort(0).values, b.sort(0).values)
    replicates = [_sliced(_redrawn(a, "real", seed, i), _redrawn(b, "fake", seed, i)) for i in range(FEWER)]
    return float(value), normal_interval(float(value), torch.stack(replicates))


def _sliced(a: Tensor, b: Tensor) -> Tensor:
    """Of sorted projections `(N, directions)` and `(M, directions)`: the gap between their quantile functions."""
    n, m = len(a), len(b)
    ends = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique()  # in units of 1 / nm
    widths = torch.diff(ends, prepend=ends.new_zeros(1)).double() / (n * m)
    gaps = a[(ends - 1) // m] - b[(ends - 1) // n]
    return (widths @ gaps**2).mean().sqrt()


def _redrawn(x: Tensor, *keys: int | str) -> Tensor:
    drawn = torch.randint(len(x), (len(x),), generator=generator("cpu", "sliced", *keys))
    return x[drawn].sort(0).values


def frechet_extrapolated(
    real: Tensor,
    fake: Tensor,
    labels: Labels = NOBODY,
    shares: Tensor | None = None,
    *,
    seed: int = 0,
) -> tuple[float, list[float]]:
    """The Fréchet distance as both counts go to infinity, and its 95 % interval.

    The bias falls as 1 / N (Chong and Forsyth 2020), so that twice the distance less that of halves
    is free of it to first order; halves are averaged over several cuts.
    """

    def halves(i: int) -> list[list[Tensor]]:
        """Weights of two halves of each set."""
        found = []
        for x, name in ((real, "real"), (fake, "fake")):
            order = torch.randperm(len(x), generator=generator("cpu", "halves", name, seed, i))
            first = torch.zeros(len(x), dtype=torch.float64)
            first[order[: len(x) // 2]] = 1
            found.append([first, 1 - first])
        return found

    def of(v: Tensor, w: Tensor) -> tuple[Tensor, ...]:
        weights = [class_weights(y, shares, u / u.sum()) for y, u in zip(labels, (v, w), strict=True)]
        return *moments(real, weights[0]), *moments(fake, weights[1])

    cuts = [of(v, w) for i in range(HALVINGS) for v, w in zip(*halves(i), strict=True)]
    whole = frechet_distance(real, fake, *(class_weights(y, shares) for y in labels))
    value = 2 * whole - float(_frechet(cuts).mean())
    drawn = [resampling_weights(len(x), FEWER, name, seed) for x, name in ((real, "real"), (fake, "fake"))]
    parts = halves(0)
    all_of = _frechet([of(v, w) for v, w in zip(*drawn, strict=True)])
    half = [
        _frechet([of(v * a, w * b) for v, w in zip(*drawn, strict=True)]) for a, b in zip(*parts, strict=True)
    ]
    return value, normal_interval(value, 2 * all_of - (half[0] + half[1]) / 2, least=-math.inf)


def _frechet(found: list[tuple[Tensor, ...]]) -> Tensor:
    return frechet_of_moments(*(torch.stack(part) for part in zip(*found, strict=True)))


def two_sample_hits(real: Tensor, fake: Tensor, *, seed: int = 0) -> Tensor:
    """Which of some examples and samples `(n,)` a classifier trained on others tells apart rightly.

    Lopez-Paz and Oquab 2017: half of each set, equally many, teaches a vote of the sqrt(n) nearest
    neighbours, the other half is told apart. The mean is .5 where both are of one law.
    """
    n = min(len(real), len(fake))
    parts = []
    for x, name in ((real, "real"), (fake, "fake")):
        order = torch.randperm(len(x), generator=generator("cpu", "two-sample", name, seed))[:n]
        parts.append(x[order])
    taught = torch.cat([x[: n // 2] for x in parts])
    asked = torch.cat([x[n // 2 :] for x in parts])
    is_fake = torch.arange(2).double().repeat_interleave(n // 2)
    k = math.isqrt(len(taught)) | 1  # odd: no ties
    votes = is_fake[distances(asked, taught).topk(min(k, len(taught)), largest=False).indices].mean(1)
    truth = torch.arange(2).repeat_interleave(n - n // 2)
    return (votes > 0.5) == truth.bool()
