"""Distances between samples and real data, against closed forms and brute force."""

from __future__ import annotations

import math

import pytest
import torch

from pangen.evaluation.fidelity import (
    Pairs,
    class_weights,
    density_coverage,
    frechet_distance,
    frechet_of_moments,
    moments,
    precision_recall,
    resampled_moments,
)
from pangen.evaluation.intervals import centred_interval
from pangen.rng import generator


def normal(n: int, d: int, *keys: int | str) -> torch.Tensor:
    return torch.randn(n, d, generator=generator("cpu", "fidelity", *keys), dtype=torch.float64)


def test_frechet_between_commuting_gaussians_is_the_closed_form() -> None:
    m1, m2 = torch.tensor([1.0, -2.0]).double(), torch.tensor([0.5, 1.0]).double()
    v1, v2 = torch.tensor([4.0, 0.25]).double(), torch.tensor([1.0, 9.0]).double()
    expected = ((m1 - m2) ** 2).sum() + ((v1.sqrt() - v2.sqrt()) ** 2).sum()
    found = frechet_of_moments(m1, torch.diag(v1), m2, torch.diag(v2))
    assert float(found) == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize("rank", [5, 3])
def test_frechet_equals_the_matrix_square_root(rank: int) -> None:
    """Also where covariances are singular, as they are with few samples."""
    from scipy.linalg import sqrtm

    a = normal(200, 5, "a") @ normal(5, 5, "mix")
    b = 0.5 + normal(150, rank, "b") @ normal(rank, 5, "blend")
    (m1, S1), (m2, S2) = moments(a), moments(b)
    root = sqrtm((S1 @ S2).numpy())
    expected = float(((m1 - m2) ** 2).sum() + S1.trace() + S2.trace()) - 2 * root.trace().real
    # a matrix root of a singular product loses half of the digits
    assert frechet_distance(a, b) == pytest.approx(expected, abs=1e-6)


def test_moments_are_the_unbiased_ones() -> None:
    x = normal(50, 4, "moments")
    mean, S = moments(x)
    torch.testing.assert_close(mean, x.mean(0))
    torch.testing.assert_close(S, torch.cov(x.T))


def test_frechet_of_a_set_with_itself_is_zero() -> None:
    x = normal(100, 6, "self")
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-10)


def test_class_weights_undo_a_chance_composition() -> None:
    """Two far classes in shares 80:20 against 50:50: the mean moves by 3; weighted, it does not."""
    y = torch.tensor([0] * 80 + [1] * 20)
    x = normal(100, 1, "classes") * 0.1 + 10 * y[:, None]
    z = torch.tensor([0] * 50 + [1] * 50)
    other = normal(100, 1, "others") * 0.1 + 10 * z[:, None]
    shares = torch.tensor([0.5, 0.5], dtype=torch.float64)
    weights = class_weights(y, shares)
    assert float(weights[y == 0].sum()) == pytest.approx(0.5)
    assert frechet_distance(x, other) > 8
    assert frechet_distance(x, other, weights, None) < 0.01
    sets = (resampled_moments(x, y, shares, "real"), resampled_moments(other, z, shares, "fake"))
    drawn = frechet_of_moments(*sets[0], *sets[1])
    assert 0 <= float(drawn.min()) <= float(drawn.max()) < 0.1  # resamples are weighted as well


def test_frechet_interval_covers_at_its_level() -> None:
    """95 % intervals around the expected value at these counts; 60 draws, so 85 % is 3 errors below."""
    values, hits = [], 0
    draws = [(normal(60, 2, "c", i), 0.7 + normal(60, 2, "d", i)) for i in range(60)]
    for a, b in draws:
        values.append(frechet_distance(a, b))
    expected = sum(values) / len(values)
    for a, b in draws:
        redrawn = (*resampled_moments(a, None, None, "a"), *resampled_moments(b, None, None, "b"))
        low, high = centred_interval(frechet_distance(a, b), frechet_of_moments(*redrawn))
        hits += low <= expected <= high
    assert hits >= 0.85 * len(draws)


def brute_radius(x: torch.Tensor, i: int, k: int) -> float:
    return sorted(math.dist(x[i].tolist(), x[j].tolist()) for j in range(len(x)) if j != i)[k - 1]


def test_neighbour_metrics_equal_brute_force() -> None:
    real, fake = normal(25, 3, "real"), 0.4 + 0.8 * normal(20, 3, "fake")
    k = 3
    r = [brute_radius(real, i, k) for i in range(25)]
    s = [brute_radius(fake, j, k) for j in range(20)]
    d = [[math.dist(real[i].tolist(), fake[j].tolist()) for j in range(20)] for i in range(25)]
    precise = [any(d[i][j] <= r[i] for i in range(25)) for j in range(20)]
    recalled = [any(d[i][j] <= s[j] for j in range(20)) for i in range(25)]
    dense = [sum(d[i][j] <= r[i] for i in range(25)) / k for j in range(20)]
    covered = [min(d[i]) <= r[i] for i in range(25)]
    pr, dc = precision_recall(Pairs(real, fake), k), density_coverage(Pairs(real, fake), k)
    assert pr.of_samples.tolist() == [float(v) for v in precise]
    assert pr.of_real.tolist() == [float(v) for v in recalled]
    assert dc.of_samples.tolist() == pytest.approx(dense)
    assert dc.of_real.tolist() == [float(v) for v in covered]


def test_dropped_modes_lower_recall_and_junk_lowers_precision() -> None:
    """Precision and recall are not swapped: two modes, of which the samples keep one, or add a third."""
    real = torch.cat([normal(50, 2, "p"), 20 + normal(50, 2, "q")])
    kept, junk = normal(100, 2, "r"), torch.cat([real + 1e-3, 60 + normal(100, 2, "s")])
    assert float(precision_recall(Pairs(real, kept)).of_samples.mean()) > 0.8
    assert float(precision_recall(Pairs(real, kept)).of_real.mean()) < 0.55
    assert float(density_coverage(Pairs(real, kept)).of_real.mean()) < 0.55
    assert float(precision_recall(Pairs(real, junk)).of_samples.mean()) == pytest.approx(0.5)
    assert float(precision_recall(Pairs(real, junk)).of_real.mean()) == 1
