"""Intervals are where they should be, as wide as they should be, and the same each time."""

from __future__ import annotations

import pytest
import torch

from pangen.evaluation.intervals import (
    centred_interval,
    mean_interval,
    resampling_weights,
    seeds_interval,
)
from pangen.rng import generator


def test_weights_are_multiplicities() -> None:
    w = resampling_weights(7, 50, "weights")
    torch.testing.assert_close(w.sum(1), torch.ones(50).double())
    torch.testing.assert_close((w * 7).round(), w * 7)


def test_mean_interval_covers_the_mean() -> None:
    """Of 200 95 % intervals, at least 90 % cover: three binomial errors below the level."""
    hits = 0
    for i in range(200):
        x = torch.randn(60, generator=generator("cpu", "cover", i), dtype=torch.float64)
        low, high = mean_interval(x, i, resamples=300)
        hits += low <= 0 <= high
    assert hits >= 180


def test_mean_interval_has_the_normal_width() -> None:
    x = torch.randn(400, generator=generator("cpu", "width"), dtype=torch.float64)
    low, high = mean_interval(x, 0)
    # 2 x 1.96 standard errors; 1000 resamples leave an error of about 4 % on the quantiles' distance
    assert high - low == pytest.approx(2 * 1.96 * float(x.std()) / 20, rel=0.15)


@pytest.mark.parametrize(("value", "expected"), [(0.0, [0.0, 0.0095]), (1.0, [0.9905, 1.0])])
def test_a_certain_share_still_has_an_interval(value: float, expected: list[float]) -> None:
    """None of 315: (1 - p)^315 = 0.05 at p = 0.0095."""
    assert mean_interval(torch.full((315,), value), 0) == pytest.approx(expected, abs=1e-4)


def test_intervals_repeat() -> None:
    x = torch.arange(30.0)
    assert mean_interval(x, 1) == mean_interval(x, 1)
    assert mean_interval(x, 1) != mean_interval(x, 2)


def test_centred_interval_ignores_the_shift_of_its_replicates() -> None:
    replicates = torch.linspace(4, 6, 201).double()
    assert centred_interval(2.0, replicates) == pytest.approx([1.05, 2.95])
    assert centred_interval(0.5, replicates)[0] == 0


def test_seeds_interval_is_students() -> None:
    assert seeds_interval([1.0]) is None
    assert seeds_interval([1.0, 2.0, 3.0]) == pytest.approx([2 - 2.4841, 2 + 2.4841], abs=1e-4)
