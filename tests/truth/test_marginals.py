"""Probabilities of a part of an example: sums, quadrature and Gaussian conditioning; and Bayes' rule from them."""

from __future__ import annotations

import math

import pytest
import torch

import pangen
from pangen.data import Data, Split
from pangen.families.classical.gaussians import log_gaussians
from pangen.families.classical.independent import Independent
from pangen.families.classical.kde import KDE
from pangen.families.classical.mixture import Mixture
from pangen.space import Batch, Space, class_space
from pangen.tasks.classify import imputed, shown

PLANE = Space("real", (2,), condition=class_space(2))


def clouds(n: int, seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 2
    x = torch.randn(n, 2, generator=generator) @ torch.tensor([[1.0, 0.7], [0.0, 0.5]])
    return Batch(x + 1.5 * y[:, None], y)


@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_the_marginal_of_gaussians_is_that_of_their_submatrices(covariance):
    generator = torch.Generator().manual_seed(0)
    x, mean = torch.randn(6, 5, generator=generator), torch.randn(3, 5, generator=generator)
    A = 0.3 * torch.randn(3, 5, 5, generator=generator)
    L = torch.linalg.cholesky(A @ A.mT + torch.eye(5))
    if covariance == "diag":
        L = L.diagonal(dim1=1, dim2=2)
    seen = torch.rand(6, 5, generator=generator) < 0.6
    found = log_gaussians(x, mean, L, seen)
    for k in range(3):
        sigma = torch.diag(L[k] ** 2) if covariance == "diag" else L[k] @ L[k].T
        for b in range(6):
            if (m := seen[b]).any():
                part = torch.distributions.MultivariateNormal(mean[k, m], sigma[m][:, m])
                assert torch.allclose(found[k, b], part.log_prob(x[b, m]), atol=1e-4)


@pytest.mark.parametrize("family", [Mixture, KDE, Independent])
def test_the_marginal_is_the_integral_over_what_is_missing(family):
    """By the midpoint rule, whose cells are as fine as the narrowest bin of a histogram."""
    torch.manual_seed(0)
    settings = {"components": 2, "covariance": "full"} if family is Mixture else {}
    model = family(PLANE, **settings)
    model.fit_exactly(clouds(120, 0), clouds(40, 1))
    n, reach = 30_000, 30.0
    grid = (torch.arange(n) + 0.5) / n * 2 * reach - reach
    for y in (0, 1, 2):  # the last is the null condition
        at = torch.stack([torch.full((n,), 0.4), grid], 1)
        whole = model.log_prob(at, torch.full((n,), y)).nats.double().exp().sum() * 2 * reach / n
        part = model.marginal_log_prob(at[:1], torch.tensor([[True, False]]), torch.tensor([y])).nats
        assert float(part) == pytest.approx(math.log(float(whole)), abs=2e-3)


def test_bayes_rule_from_what_is_observed():
    """Two classes that differ in their first feature alone; the second tells nothing."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(4000) % 2
    x = torch.randn(4000, 2, generator=generator)
    x[:, 0] += 2.0 * y
    data = Data("two", "vector", *(Split(x[a:b], y[a:b]) for a, b in ((0, 3000), (3000, 3500), (3500, 4000))), labels=("a", "b"))  # fmt: skip
    run = pangen.fit("mixture", data, device="cpu", recipe={"model.components": 1})
    point = torch.tensor([[2.5, 0.3], [2.5, 0.3], [2.5, 0.3]])
    observed = torch.tensor([[True, True], [True, False], [False, True]])
    p = run.classify(point, observed).exp()[:, 1]
    # log p(b) - log p(a) = 2 x - 2 in x[0]; mean and variance of 1500 examples a class: 5 standard errors
    true = 1 / (1 + math.exp(-(2 * 2.5 - 2)))
    assert torch.allclose(p, torch.tensor([true, true, 0.5]).double(), atol=0.03)
    assert torch.allclose(run.classify(point, observed).exp().sum(1), torch.ones(3).double())
    assert torch.allclose(run.classify(point, torch.ones(3, 2).bool()), run.classify(point), atol=1e-4)


def test_what_is_hidden_is_the_share_asked_for_and_of_whole_pixels():
    x = torch.zeros(600, 3, 8, 8)
    kept = shown(x, 0.3, 0)
    assert kept.shape == x.shape
    assert torch.equal(kept[:, 0], kept[:, 2])
    # five standard errors of 38 400 draws
    assert float(kept[:, 0].double().mean()) == pytest.approx(0.7, abs=5 * (0.21 / 38_400) ** 0.5)
    assert torch.equal(shown(x[:10], 0.3, 0), kept[:10])


def test_missing_features_come_from_the_nearest_examples():
    donors = torch.tensor([[0.0, 5.0], [1.0, 6.0], [9.0, 7.0]])
    x, observed = torch.tensor([[0.1, -1.0], [8.0, -1.0]]), torch.tensor([[True, False], [True, False]])
    found = imputed(x, observed, donors, 2)
    assert found[:, 0].tolist() == [[pytest.approx(0.1), 5.0], [pytest.approx(0.1), 6.0]]
    assert found[:, 1, 1].tolist() == [7.0, 6.0]
