"""Bootstrap intervals (Efron 1979): how far a number would move with another draw of examples."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pangen.rng import generator

LEVEL = 0.95
RESAMPLES = 1000


def resampling_weights(n: int, resamples: int, *keys: int | str) -> Tensor:
    """Bootstrap weights `(resamples, n)` float64: how often each example is drawn, divided by n."""
    drawn = torch.randint(n, (resamples, n), generator=generator("cpu", "bootstrap", *keys))
    ones = torch.ones(1, dtype=torch.float64).expand_as(drawn)
    return torch.zeros(resamples, n, dtype=torch.float64).scatter_add_(1, drawn, ones) / n


def mean_interval(values: Tensor, *keys: int | str, resamples: int = RESAMPLES) -> list[float]:
    """95 % percentile interval `[low, high]` of the mean of `values` `(n,)`.

    A share observed as exactly 0 or 1 leaves nothing to resample: its other end is the share under
    which such a draw still has a probability of 5 % (the "rule of three", 3 / n).
    """
    values = values.double().flatten()
    n, first = len(values), float(values[0])
    if first in (0.0, 1.0) and bool((values == first).all()):
        reach = 1 - (1 - LEVEL) ** (1 / n)
        return [0.0, reach] if first == 0 else [1 - reach, 1.0]
    means = torch.cat(
        [resampling_weights(n, 100, *keys, i) @ values for i in range(max(resamples // 100, 1))]
    )
    return _quantiles(means)


def centred_interval(value: float, replicates: Tensor, *, least: float = 0.0) -> list[float]:
    """`[low, high]` around `value` with the spread of bootstrap `replicates`, never below `least`.

    A distance between distributions is biased upwards in small samples, and once more in each
    resample: the spread of the replicates is used and their shift is not.
    """
    low, high = _quantiles(replicates - replicates.mean())
    return [max(value + low, least), value + high]


def normal_interval(value: float, replicates: Tensor, *, least: float = 0.0) -> list[float]:
    """The same from too few replicates for their quantiles: 1.96 of their standard deviations."""
    half = 1.96 * float(replicates.std())
    return [max(value - half, least), value + half]


def ratio_interval(above: Tensor, below: Tensor, *keys: int | str, resamples: int = RESAMPLES) -> list[float]:
    """95 % percentile interval of mean(above) / mean(below) `(n,)`, `(m,)`, each resampled on its own."""
    ratios = [
        resampling_weights(len(above), 100, *keys, "above", i)
        @ above.double()
        / (resampling_weights(len(below), 100, *keys, "below", i) @ below.double())
        for i in range(max(resamples // 100, 1))
    ]
    return _quantiles(torch.cat(ratios))


def seeds_interval(values: Sequence[float]) -> list[float] | None:
    """95 % interval of a mean over seeds by Student's t; None for a single seed."""
    if len(values) < 2:
        return None
    from scipy.stats import t

    found = torch.tensor(values, dtype=torch.float64)
    half = float(t.ppf((1 + LEVEL) / 2, len(values) - 1)) * float(found.std()) / len(values) ** 0.5
    mean = float(found.mean())
    return [mean - half, mean + half]


def _quantiles(values: Tensor) -> list[float]:
    ends = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64)
    return torch.quantile(values.double(), ends).tolist()
