"""Scores of forecasts, bins with a density, and forecasts of a law that is known."""

from __future__ import annotations

import math

import pytest
import torch

import pangen
from pangen.codecs.series import Quantise
from pangen.data import load_data
from pangen.data.known_truth.series import AR2
from pangen.data.series import Clock, Series, series_data
from pangen.evaluation.forecast import crps, quantile


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("n", [2, 10, 100])
def test_the_score_of_an_ensemble_has_no_bias(n):
    """Against the closed form for a normal law (Gneiting and Raftery 2007): 20 000 draws, five standard errors."""
    y = torch.tensor(0.7).double()
    normal = torch.distributions.Normal(torch.tensor(0.0).double(), torch.tensor(1.0).double())
    exact = y * (2 * normal.cdf(y) - 1) + 2 * normal.log_prob(y).exp() - 1 / math.sqrt(math.pi)
    found = crps(noise(n, 20_000), y.expand(20_000))
    assert abs(float(found.mean() - exact)) < 5 * float(found.std()) / math.sqrt(20_000)


def test_the_score_is_its_definition():
    paths, y = noise(7, 3), noise(3, seed=1)
    pairs = (paths[:, None] - paths[None]).abs().sum((0, 1)) / (7 * 6)
    assert torch.allclose(crps(paths, y), (paths - y).abs().mean(0) - pairs / 2)


def test_one_more_path_lies_below_a_quantile_with_its_probability():
    """Exactly so where p (n + 1) is whole: 39 paths, 20 000 times, five standard errors."""
    for p in (0.025, 0.1, 0.5, 0.975):
        below = (noise(20_000, seed=2) < quantile(noise(39, 20_000), p)).double().mean()
        assert abs(float(below) - p) < 5 * math.sqrt(p * (1 - p) / 20_000)


def test_ar2_has_the_density_and_entropy_it_says():
    law = AR2()
    x = law.sample(20_000, torch.Generator().manual_seed(0))
    at0, at1 = law.autocovariance
    gamma = [at0, at1]
    for _ in range(62):
        gamma.append(law.a * gamma[-1] + law.b * gamma[-2])
    lag = torch.arange(64)
    covariance = torch.tensor(gamma, dtype=torch.float64)[(lag[:, None] - lag).abs()]
    normal = torch.distributions.MultivariateNormal(torch.full((64,), 10.0).double(), covariance)
    nats = law.log_prob(x)
    assert torch.allclose(nats[:50], normal.log_prob(x[:50, 0].double()), atol=1e-6)
    assert law.entropy == pytest.approx(float(normal.entropy()), abs=1e-6)
    assert abs(float(-nats.mean()) - law.entropy) < 5 * float(nats.std()) / math.sqrt(20_000)


A = noise(2000).float()
B = noise(2000, seed=1).exp().round(decimals=1).float()
"""One with a long tail and many equal values."""


def binned(*columns: torch.Tensor) -> Quantise:
    names = tuple(map(str, range(len(columns))))
    return Quantise.fit(series_data("x", Series(torch.stack(columns), names, Clock()), 20), bins=30)


@pytest.fixture(scope="module")
def skewed() -> Quantise:
    return binned(A, B)


@pytest.mark.parametrize("values", [A, B])
def test_bins_have_a_density_that_integrates_to_one(values):
    """Each bin's, the endless ones too, by sums over a grid that has 100 points in the narrowest."""
    codec = binned(values)
    step = float(codec.widths.min()) / 100
    grid = torch.arange(codec.edges[0] - 20 * codec.tails[0], codec.edges[-1] + 20 * codec.tails[1], step)
    found = codec.encode(grid.view(-1, 1, 1))
    density = found.log_volume.double().exp()
    mass = torch.zeros(30, dtype=torch.float64).index_add(0, found.x[:, 0], density * step)
    assert torch.allclose(mass, torch.ones(30, dtype=torch.float64), atol=0.02)


def test_bins_come_back_as_values_within_them(skewed):
    x = torch.randint(30, (70, 40), generator=torch.Generator().manual_seed(0))
    middle = skewed.decode(x)
    assert middle.shape == (70, 2, 20)
    assert torch.equal(skewed.encode(middle).x, x)
    drawn = skewed.decode(x, generator=torch.Generator().manual_seed(0))
    assert torch.equal(skewed.decode(x[:3], generator=torch.Generator().manual_seed(0)), drawn[:3])
    assert (skewed.encode(drawn).x != x).double().mean() < 1e-3  # a value on an edge, after rounding
    assert not torch.equal(drawn, middle)


@pytest.fixture(scope="module")
def oracle():
    """The law of ar2 itself, as a run."""
    pytest.importorskip("statsmodels")
    data = load_data("ar2")
    run = pangen.fit("arima", data, device="cpu", recipe={"model.order": [2, 0, 0], "model.period": 1})
    model, codec = run.model, run.codec
    model.phi.copy_(torch.tensor([AR2.a, AR2.b]))
    model.mu.fill_((AR2.mean - codec.mean[0]) / codec.std[0])
    model.sigma.fill_(1 / codec.std[0])
    return run, data


def test_intervals_of_the_exact_forecast_cover_as_often_as_they_say(oracle):
    """125 origins of the test split; five standard errors over origins that lie 80 steps apart."""
    run, data = oracle
    found = pangen.score_forecasts(run, data, horizon=8, every=80, paths=199)
    for level in (80, 90, 95):
        low, high = found[f"coverage_{level}"]["interval"]
        error = (high - low) / (2 * 1.96)
        assert abs(found[f"coverage_{level}"]["value"] - level / 100) < 5 * error
    assert found["origins"] == 125
    assert found["crps"]["value"] < found["mae"]["value"]


def test_path_i_depends_on_the_seed_and_i_alone(oracle):
    run, data = oracle
    past = data.series.values[:, :500]
    few, many = (pangen.forecast(run, past, horizon=4, paths=n, seed=3) for n in (5, 100))
    assert torch.equal(few, many[:5])
    assert not torch.equal(few, pangen.forecast(run, past, horizon=4, paths=5, seed=4))
    # no more of the past is seen than a window has room for
    assert torch.equal(few, pangen.forecast(run, past[:, -60:], horizon=4, paths=5, seed=3))


def test_a_model_of_tokens_forecasts_from_its_own_conditionals():
    """One step ahead, the bins of 1600 paths have the probabilities of `next_logits`: a chi-squared test."""
    t = torch.arange(400)
    values = torch.sin(math.pi * t / 3)[None].float() + 0.1 * noise(1, 400).float()
    data = series_data("waves", Series(values, ("x",), Clock()), 12)
    recipe = {"model.width": 16, "training.batch": 16, "codec.bins": 8}
    run = pangen.fit("rnn", data, steps=30, device="cpu", recipe=recipe)
    paths = pangen.forecast(run, values, horizon=2, paths=1600)
    assert paths.shape == (1600, 1, 2)
    seen = run.codec.encode(values[None, :, -10:]).x
    with torch.no_grad():
        p = run.model.next_logits(seen)[0][0].softmax(-1).double()
    counts = torch.bincount(run.codec.encode(paths[:, :, :1]).x[:, 0], minlength=8).double()
    common = p > 1e-3
    chi2 = ((counts - 1600 * p) ** 2 / (1600 * p))[common].sum()
    assert float(chi2) < 24.3  # the 99.9 % point for 7 degrees of freedom
