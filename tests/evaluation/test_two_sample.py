"""Two-sample measures against closed forms, other libraries, and their own null."""

from __future__ import annotations

import pytest
import torch

from pangen.evaluation.fidelity import Pairs, frechet_distance
from pangen.evaluation.two_sample import (
    DIRECTIONS,
    frechet_extrapolated,
    gaussian,
    mmd,
    polynomial,
    sliced_wasserstein,
    two_sample_hits,
)
from pangen.rng import generator


def normal(n: int, d: int, *keys: int | str) -> torch.Tensor:
    return torch.randn(n, d, generator=generator("cpu", "two", *keys), dtype=torch.float64)


def test_kernels_are_those_of_scikit_learn() -> None:
    from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel

    a, b = normal(20, 4, "a"), normal(30, 4, "b")
    expected = torch.from_numpy(polynomial_kernel(a.numpy(), b.numpy(), degree=3, gamma=1 / 4, coef0=1))
    torch.testing.assert_close(polynomial(Pairs(a, b)).between, expected)
    s = torch.pdist(a).median()
    expected = torch.from_numpy(rbf_kernel(a.numpy(), b.numpy(), gamma=float(1 / (2 * s**2))))
    torch.testing.assert_close(gaussian(a)(Pairs(a, b)).between, expected)


def test_the_kernel_distance_is_that_of_torchmetrics() -> None:
    image = pytest.importorskip("torchmetrics.image.kid")
    a, b = normal(40, 6, "c"), 0.3 + normal(40, 6, "d")
    expected = image.poly_mmd(a, b, degree=3, gamma=None, coef=1.0)
    assert mmd(polynomial(Pairs(a, b)))[0] == pytest.approx(float(expected), rel=1e-10)


def test_mmd_is_the_sum_over_pairs() -> None:
    a, b = normal(7, 2, "e"), normal(9, 2, "f")
    K = gaussian(a)(Pairs(a, b))
    within = [sum(float(k[i, j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1)) for k, n in ((K.of_real, 7), (K.of_fake, 9))]  # fmt: skip
    assert mmd(K)[0] == pytest.approx(sum(within) - 2 * float(K.between.mean()))


def test_mmd_is_unbiased_and_its_interval_covers_zero_under_the_null() -> None:
    values, hits = [], 0
    for i in range(60):
        a, b = normal(50, 3, "g", i), normal(50, 3, "h", i)
        value, (low, high) = mmd(gaussian(a)(Pairs(a, b)))
        values.append(value)
        hits += low <= 0 <= high
    values = torch.tensor(values)
    assert abs(values.mean()) < 3 * values.std() / 60**0.5
    assert hits >= 51  # of 60 at 95 %, three binomial errors below


def test_sliced_wasserstein_is_that_of_pot() -> None:
    ot = pytest.importorskip("ot")
    a, b = normal(50, 5, "i"), 0.5 + 2 * normal(30, 5, "j")  # of different counts
    u = torch.randn(5, DIRECTIONS, generator=generator("cpu", "directions", 3), dtype=torch.float64)
    u = (u / u.norm(dim=0)).numpy()
    expected = ot.sliced_wasserstein_distance(a.numpy(), b.numpy(), projections=u, p=2)
    assert sliced_wasserstein(a, b, seed=3)[0] == pytest.approx(float(expected), rel=1e-9)


def test_sliced_wasserstein_of_a_shift_is_its_projection() -> None:
    """|shift . u|, whose mean square over directions is |shift|^2 / d."""
    a, shift = normal(200, 3, "k"), torch.tensor([3.0, 0.0, 0.0]).double()
    value, (low, high) = sliced_wasserstein(a, a + shift)
    assert value == pytest.approx(3**0.5, rel=0.15)  # 50 directions
    assert low < value < high


def test_extrapolation_takes_the_bias_away() -> None:
    """Between draws of one law the distance is 0; at 60 examples in 6 dimensions it is measured far above."""
    plain, found, hits = [], [], 0
    for i in range(20):
        a, b = normal(60, 6, "l", i), normal(60, 6, "m", i)
        value, (low, high) = frechet_extrapolated(a, b)
        plain.append(frechet_distance(a, b))
        found.append(value)
        hits += low <= 0 <= high
    plain, found = torch.tensor(plain), torch.tensor(found)
    assert plain.mean() > 0.5
    assert abs(found.mean()) < 0.15 * plain.mean()
    assert hits >= 15


def test_a_classifier_cannot_tell_one_law_from_itself_and_can_tell_two() -> None:
    same = torch.cat([two_sample_hits(normal(200, 3, "n", i), normal(200, 3, "o", i)) for i in range(10)])
    assert float(same.double().mean()) == pytest.approx(0.5, abs=3 * 0.5 / len(same) ** 0.5)
    apart = two_sample_hits(normal(200, 3, "p"), 2 + normal(100, 3, "q"))
    assert len(apart) == 100  # half of as many of each as there are of the fewer
    assert float(apart.double().mean()) > 0.9
