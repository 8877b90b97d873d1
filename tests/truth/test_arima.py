"""ARIMA and the seasonal naive: likelihoods as statsmodels has them, known coefficients, exact forecasts."""

from __future__ import annotations

import math

import pytest
import torch

import pangen
from pangen.data import load_data
from pangen.families.classical.arima import ARIMA, autocovariance
from pangen.families.classical.seasonal_naive import SeasonalNaive
from pangen.families.classical.series import filtered, season, stitched
from pangen.space import Batch, Space

LINE = Space("real", (1, 40))
GIVEN = {"phi": [0.5, 0.2], "theta": [0.4], "Phi": [0.3], "Theta": [-0.6], "mu": [1.5], "sigma": 0.7}


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def given(d: int, D: int) -> ARIMA:
    """ARIMA(2, d, 1)(1, D, 1)_4 with coefficients of our own."""
    model = ARIMA(LINE, order=(2, d, 1), seasonal=(1, D, 1), period=4)
    for name, value in GIVEN.items():
        getattr(model, name).copy_(torch.tensor(value))
    model.start_from(noise(200).cumsum(0), d + 4 * D, torch.tensor(0.1))
    return model


@pytest.mark.parametrize(("d", "D"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_the_likelihood_is_that_of_statsmodels(d, D):
    """Of the differences; the values before them add the density of a start that is known to be normal."""
    statespace = pytest.importorskip("statsmodels.tsa.statespace.sarimax")
    model, x = given(d, D), noise(3, 1, 40, seed=1).cumsum(2)
    c = {k: torch.as_tensor(getattr(model, k)).double() for k in GIVEN}
    intercept = c["mu"] * (1 - c["phi"].sum()) * (1 - c["Phi"].sum())
    values = torch.cat([intercept, c["phi"], c["theta"], c["Phi"], c["Theta"], c["sigma"][None] ** 2])
    expected = []
    for row in x[:, 0]:
        w = filtered(row, model.delta())
        oracle = statespace.SARIMAX(w.numpy(), order=(2, 0, 1), seasonal_order=(1, 0, 1, 4), trend="c")
        start = (
            torch.distributions.MultivariateNormal(model.m.double(), model.S.double())
            if len(model.m)
            else None
        )
        k = len(model.m)
        expected.append(oracle.loglike(values.numpy()) + float(start.log_prob(row[:k]) if start else 0))
    assert torch.allclose(model.log_prob(x).nats, torch.tensor(expected, dtype=torch.float64), atol=1e-6)


def test_autocovariances_are_those_of_statsmodels():
    process = pytest.importorskip("statsmodels.tsa.arima_process")
    ar, ma = torch.tensor([1.4, -0.85, 0.1]).double(), torch.tensor([0.5, 0.3]).double()
    expected = process.arma_acovf([1, *(-ar).tolist()], [1, *ma.tolist()], 30)
    assert torch.allclose(autocovariance(ar, ma, 30), torch.from_numpy(expected), rtol=1e-8)


@pytest.fixture(scope="module")
def ar2():
    pytest.importorskip("statsmodels")
    return load_data("ar2")


def test_the_orders_and_coefficients_of_a_known_process_are_found(ar2):
    """Within two standard errors, sqrt((1 - b^2) / n) of either coefficient (Box and Jenkins); n = 4000."""
    run = pangen.fit("arima", ar2, device="cpu")
    assert run.recipe.model["order"] == (2, 0, 0)
    assert run.recipe.model["seasonal"] == (0, 0, 0)
    error = math.sqrt((1 - 0.85**2) / 4000)
    for found, true in zip(run.model.phi.tolist(), (1.4, -0.85), strict=True):
        assert abs(found - true) < 2 * error
    # three parameters from 4000 values cost half a nat each over all of them, and a window is 64 of them
    regret = (ar2.truth.log_prob(ar2.test.x) - run.log_prob(ar2.test.x).nats).mean()
    assert abs(float(regret)) < 0.1


def test_forecasts_are_the_conditional_law_of_the_process():
    """Mean by the recursion, variance by its weights psi; 20 000 paths, tolerance five standard errors."""
    model, n = ARIMA(Space("real", (1, 64)), order=(2, 0, 0), seasonal=(0, 0, 0), period=1), 20_000
    model.phi.copy_(torch.tensor([1.4, -0.85]))
    past = torch.tensor([0.3, -1.0, 2.0, 1.5]).view(1, 1, 4).expand(n, -1, -1)
    paths = model.follow(past, 5, generator=torch.Generator().manual_seed(0))[:, 0].double()
    values, psi = [2.0, 1.5], [0.0, 1.0]
    for _ in range(5):
        values.append(1.4 * values[-1] - 0.85 * values[-2])
        psi.append(1.4 * psi[-1] - 0.85 * psi[-2])
    variance = torch.tensor(psi[1:6]).double().square().cumsum(0)
    assert ((paths.mean(0) - torch.tensor(values[2:])).abs() < 5 * (variance / n).sqrt()).all()
    assert ((paths.var(0) / variance - 1).abs() < 5 * math.sqrt(2 / n)).all()


@pytest.mark.parametrize(("d", "D"), [(0, 0), (1, 1)])
def test_a_window_is_its_past_and_what_follows(d, D):
    """p(x) = p(past) p(rest given past), and samples are those of the law: the same noise, one map."""
    model, x = given(d, D), noise(2, 1, 40, seed=2)
    mean, M = model.law(40)
    whole = torch.distributions.MultivariateNormal(mean, scale_tril=M)
    assert torch.allclose(model.log_prob(x).nats, whole.log_prob(x[:, 0]), atol=1e-8)
    shorter, T = model.law(25)
    assert torch.allclose(mean[:25], shorter, atol=1e-10)
    assert torch.allclose(M[:25, :25], T, atol=1e-10)
    sample = model.follow(x[:, :, :0], 40, generator=torch.Generator().manual_seed(5))
    z = torch.randn(2, 40, generator=torch.Generator().manual_seed(5)).double()
    assert torch.allclose(sample[:, 0], mean + z @ M.T, atol=1e-5)


def test_seasonal_naive_is_a_seasonal_difference_and_noise():
    naive, arima = SeasonalNaive(LINE, period=6), ARIMA(LINE, order=(0, 0, 0), seasonal=(0, 1, 0), period=6)
    for model in (naive, arima):
        model.sigma.fill_(0.8)
        model.start_from(noise(100), 6, torch.tensor(0.8))
    x = noise(3, 1, 40, seed=3)
    assert torch.allclose(naive.log_prob(x).nats, arima.log_prob(x).nats, atol=1e-9)
    later = naive.follow(x, 12, generator=torch.Generator().manual_seed(0))
    away = torch.cat([x[:, :, -6:], later], 2)  # each value less the one a season before is one draw of noise
    z = torch.randn(3, 12, generator=torch.Generator().manual_seed(0)).double()
    assert torch.allclose((away[:, 0, 6:] - away[:, 0, :-6]), 0.8 * z, atol=1e-6)


@pytest.mark.parametrize("shift", [1, 3, 12])
def test_windows_become_the_series_again(shift):
    x = noise(12 + 5 * shift)
    assert torch.equal(stitched(x.unfold(0, 12, shift)[:, None]), x)


def test_seasons_are_found_where_there_are_some():
    t = torch.arange(500).double()
    daily = torch.sin(2 * math.pi * t / 24) + 0.01 * t + 0.3 * noise(500)
    assert season(daily, 100) == 24
    assert season(noise(500).cumsum(0), 100) == 1
    assert season(noise(500), 100) == 1


def test_a_random_walk_is_fitted_and_its_forecasts_spread():
    """At a root of one no covariance may break down."""
    pytest.importorskip("statsmodels")
    x = noise(600).cumsum(0)
    train, validation = (Batch(part.unfold(0, 40, 1)[:, None].float()) for part in (x[:500], x[500:]))
    model = ARIMA(LINE)
    settings = model.fit_exactly(train, validation)
    assert settings["period"] == 1
    paths = model.follow(train.x[:1].expand(400, -1, -1), 40, generator=torch.Generator().manual_seed(0))[
        :, 0
    ]
    assert 2 < float(paths[:, 35].std() / paths[:, 0].std()) < 12  # sqrt(36) of a walk
