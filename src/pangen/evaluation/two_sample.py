"""Whether samples and real data are drawn from one law, in a feature space: `(M, d)` float64 against `(N, d)`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from pangen.evaluation.fidelity import (
    RESAMPLES,
    Pairs,
    class_weights,
    distances,
    frechet_distance,
    frechet_of_moments,
    moments,
)
from pangen.evaluation.intervals import centred_interval, normal_interval, resampling_weights
from pangen.rng import generator

Labels = tuple[Tensor | None, Tensor | None]
"""Classes of the real examples and of the samples, where they are known."""
NOBODY: Labels = (None, None)
DIRECTIONS = 50
FEWER = 50
"""Resamples of what costs more."""
HALVINGS = 8
BANDWIDTH_FROM = 500


class Kernels(NamedTuple):
    """A kernel of all pairs of `N` real examples and `M` samples."""

    of_real: Tensor
    """`(N, N)`."""
    of_fake: Tensor
    """`(M, M)`."""
    between: Tensor
    """`(N, M)`."""


Kernel = Callable[[Pairs], Kernels]


def polynomial(pairs: Pairs) -> Kernels:
    """(a·b / d + 1)^3, the kernel of the kernel distance (Bińkowski et al. 2018)."""

    def of(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    real, fake = pairs.real, pairs.fake
    return Kernels(pairs.of_real_alone("polynomial", lambda: of(real, real)), of(fake, fake), of(real, fake))


def gaussian(real: Tensor) -> Kernel:
    """exp(-|a - b|^2 / 2 s^2), s the median distance between real examples (Gretton et al. 2012)."""
    some = real[:BANDWIDTH_FROM]
    s = torch.pdist(some).median().clamp(min=1e-12)

    def of(d: Tensor) -> Tensor:
        return torch.exp(-(d**2) / (2 * s**2))

    return lambda pairs: Kernels(
        pairs.of_real_alone(("gaussian", float(s)), lambda: of(pairs.of_real)),
        of(pairs.of_fake),
        of(pairs.between),
    )


def mmd(
    K: Kernels,
    labels: Labels = NOBODY,
    shares: Tensor | None = None,
    *,
    seed: int = 0,
) -> tuple[float, list[float]]:
    """Squared maximum mean discrepancy, unbiased (Gretton et al. 2012, Eq. 3), and its 95 % interval.

    Below 0 as often as above between draws of one law. With `shares` `(classes,)`, sets whose
    classes are known are weighted to them.
    """
    counts = K.between.shape
    one = [torch.full((1, n), 1 / n, dtype=torch.float64) for n in counts]
    many = [resampling_weights(n, RESAMPLES, name, seed) for n, name in zip(counts, ("real", "fake"), strict=True)]  # fmt: skip
    value, replicates = (
        _mmd(K, *(class_weights(y, shares, w) for y, w in zip(labels, drawn, strict=True)))
        for drawn in (one, many)
    )
    return float(value), centred_interval(float(value), replicates, least=-math.inf)


def _mmd(K: Kernels, v: Tensor, w: Tensor) -> Tensor:
    """For weights `(B, N)` and `(B, M)`; an example never meets itself, also when it was drawn twice."""

    def within(k: Tensor, u: Tensor) -> Tensor:
        return ((u @ k * u).sum(1) - u**2 @ k.diagonal()) / (1 - (u**2).sum(1))

    return within(K.of_real, v) + within(K.of_fake, w) - 2 * (v @ K.between * w).sum(1)


def sliced_wasserstein(real: Tensor, fake: Tensor, *, seed: int = 0) -> tuple[float, list[float]]:
    """Root of the mean squared 2-Wasserstein distance along random directions, and its 95 % interval.

    Bonneel et al. 2015. The directions depend on `seed` alone.
    """
    directions = torch.randn(
        real.shape[1], DIRECTIONS, generator=generator("cpu", "directions", seed), dtype=torch.float64
    )
    u = directions / directions.norm(dim=0)
    a, b = ((x @ u).T.contiguous().sort() for x in (real, fake))
    value = _sliced(a.values, b.values)
    replicates = [_sliced(_redrawn(*a, "real", seed, i), _redrawn(*b, "fake", seed, i)) for i in range(FEWER)]
    return float(value), normal_interval(float(value), torch.stack(replicates))


def _sliced(a: Tensor, b: Tensor) -> Tensor:
    """Of sorted projections `(directions, N)` and `(directions, M)`: the gap between their quantile functions."""
    n, m = a.shape[1], b.shape[1]
    ends = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique()  # in units of 1 / nm
    widths = torch.diff(ends, prepend=ends.new_zeros(1)).double() / (n * m)
    gaps = a[:, (ends - 1) // m] - b[:, (ends - 1) // n]
    return (gaps**2 @ widths).mean().sqrt()


def _redrawn(x: Tensor, order: Tensor, *keys: int | str) -> Tensor:
    """Examples drawn again from themselves, sorted as they were: x `(directions, N)` and whose each is `(directions, N)`."""
    n = x.shape[1]
    drawn = torch.randint(n, (n,), generator=generator("cpu", "sliced", *keys))
    times = torch.bincount(drawn, minlength=n)
    return x.flatten().repeat_interleave(times[order].flatten()).view_as(x)


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
