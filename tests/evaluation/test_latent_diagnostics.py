"""What is said of codes, against closed forms; and the alarm for codes that carry nothing."""

from __future__ import annotations

import json
import math

import pytest
import torch
from evaluation_fakes import image_data, normal_data
from torch import Tensor

import pangen
from pangen.data.batches import Batches
from pangen.evaluation import Judge
from pangen.evaluation.latent import latent_of, mutual_information
from pangen.evaluation.likelihood import Examples
from pangen.evaluation.table import code_facts
from pangen.likelihoods import Normal
from pangen.rng import generator
from pangen.run import Run
from pangen.training.alarm import collapse_warnings
from pangen.training.codes import active_units, bound, codebook_use

SMALL = {"model.latent": 3, "model.width": 32}


def fitted(name: str, steps: int = 40, conditional: bool = False, **fields) -> Run:
    recipe = {**SMALL, **fields} if name != "vqvae" else fields
    return pangen.fit(
        name, image_data(), steps=steps, conditional=conditional, device="cpu", recipe=recipe
    )  # fmt: skip


def held_out() -> Examples:
    return Examples(*image_data().test.all())


def randn(*shape: int, key: str = "") -> Tensor:
    return torch.randn(*shape, generator=generator("cpu", "latent test", key), dtype=torch.float64)


# -- mutual information --------------------------------------------------------------------------


def test_information_of_a_linear_channel():
    """z = a x + s e with normal x and e: I(x; z) = log(1 + a^2 / s^2) / 2 in each dimension."""
    a, s, n = torch.tensor([2.0, 0.5]), torch.tensor([1.0, 1.0]), 1500
    mean = a * randn(n, 2, key="x")
    q = Normal(mean, s.log().double().expand(n, 2))
    found = mutual_information(q, q.at(randn(n, 2, key="e")))
    expected = float(torch.log1p(a**2 / s**2).sum() / 2)
    assert float(found.mean()) == pytest.approx(expected, abs=4 * float(found.std()) / n**0.5)


def test_information_is_nothing_where_all_posteriors_are_one_and_log_n_where_none_overlap():
    n = 50
    same = Normal(torch.zeros(n, 2), torch.zeros(n, 2))
    assert mutual_information(same, randn(n, 2)).abs().max() < 1e-9
    apart = Normal(100.0 * torch.arange(n)[:, None], torch.zeros(n, 1))
    found = mutual_information(apart, apart.at(randn(n, 1)))
    torch.testing.assert_close(found, torch.full((n,), math.log(n), dtype=torch.float64))


def test_information_does_not_depend_on_the_scale_of_codes_far_from_the_origin():
    """Squares are multiplied out; in float64 nothing is lost by that."""
    q = Normal(randn(40, 3, key="m"), 0.3 * randn(40, 3, key="s"))
    e = randn(40, 3, key="e")
    moved = Normal(5 * q.mean + 1e3, q.log_scale + math.log(5))
    torch.testing.assert_close(
        mutual_information(moved, moved.at(e)), mutual_information(q, q.at(e)), atol=1e-6, rtol=0
    )


# -- the bound ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vampprior", "hvae", "vae"])
def test_the_two_parts_add_up_to_minus_the_bound_with_one_sample(name):
    """Exactly, where KL comes from the same sample; on average over samples, where it has a closed form."""
    run = fitted(name, steps=15, conditional=True)
    raw, y = held_out()
    x = run.codec.encode(raw).x
    with torch.no_grad():
        q, found = run.model.q(x, y), []
        for i in range(1 if name != "vae" else 100):
            parts = bound(run.model, q, x, y, generator("cpu", i))
            log_w = run.model.log_weights(
                q, x, y, torch.randn(1, *parts.z.shape, generator=generator("cpu", i))
            )
            found.append(parts.reconstruction + parts.kl + log_w[0])
    gap = torch.stack(found).double()
    assert (parts.per_dim is None) == (name != "vae")
    if name == "vae":
        error = float(gap.mean(1).std()) / len(gap) ** 0.5
        assert abs(float(gap.mean())) < 4 * error
        torch.testing.assert_close(parts.per_dim.sum(1), parts.kl)
    else:
        assert gap.abs().max() < 1e-4


def test_kl_of_a_known_posterior():
    """q = N(m, s) for every x: KL = (m^2 + s^2 - 1) / 2 - log s in each dimension, sorted; no information."""
    run = fitted("vae", steps=1)
    m, s = torch.tensor([0.0, 1.5, -0.5]), torch.tensor([1.0, 0.4, 0.8])
    run.model.q = lambda x, y=None: Normal(m.expand(len(x), 3), s.log().expand(len(x), 3))
    found = latent_of(run, image_data(), held_out())
    expected = ((m**2 + s**2 - 1) / 2 - s.log()).sort(descending=True).values
    assert found["kl_per_dim"] == pytest.approx(expected.tolist(), abs=1e-6)
    assert found["kl"]["value"] == pytest.approx(float(expected.sum()), abs=1e-5)
    assert found["active_units"]["value"] == 0
    assert found["mutual_information"]["value"] == pytest.approx(0, abs=1e-9)
    assert found["kl_of_aggregate"] == pytest.approx(float(expected.sum()), abs=1e-5)


def test_active_units_are_those_whose_variance_is_above_a_hundredth():
    mean = randn(1000, 4)
    mean = (mean - mean.mean(0)) / mean.std(0) * torch.tensor([1.0, 0.101, 0.099, 0.0])
    assert active_units(mean).tolist() == [True, True, False, False]


# -- examples and what comes back -------------------------------------------------------------------


def test_a_conditional_model_is_given_its_labels():
    run, (raw, y) = fitted("vae", conditional=True), held_out()
    found = latent_of(run, image_data(), Examples(raw, y))
    x = run.codec.encode(raw).x
    with torch.no_grad():
        again = run.model.decode(run.model.encode(x, y), y)
    error = float(((again - x) / 2).square().mean())  # a grid is two wide
    assert found["error"]["value"] == pytest.approx(error, rel=1e-4)
    other = latent_of(run, image_data(), Examples(raw, (y + 1) % 3))
    assert other["error"]["value"] > found["error"]["value"]


def test_reconstruction_is_in_nats_of_the_raw_data():
    """Units ten times as long make each of two dimensions log 10 dearer."""
    nats = []
    for scale in (1.0, 10.0):
        data = normal_data()
        parts = [pangen.data.Split(s.x * scale) for s in (data.train, data.validation, data.test)]
        data = pangen.data.Data("scaled", "vector", *parts)
        run = pangen.fit("vae", data, steps=5, device="cpu", recipe=SMALL)
        nats.append(latent_of(run, data, Examples(*data.test.all()))["reconstruction"]["value"])
    assert nats[1] - nats[0] == pytest.approx(2 * math.log(10), abs=1e-3)


def test_what_a_model_has_no_posterior_for_is_not_said():
    for name, some in (("ae", {"sharpness"}), ("realnvp", {"sharpness"})):
        run = pangen.fit(name, image_data(), steps=5, conditional=False, device="cpu")
        found = latent_of(run, image_data(), held_out())
        assert set(found) == {"codes", "shape", "error"} | some
    assert found["error"] == {
        "value": 0.0, "interval": [0.0, 0.0], "samples": 90, "unit": "mean square, pixels in [0, 1]",
    }  # fmt: skip


# -- codebooks ----------------------------------------------------------------------------------------


def test_use_of_a_codebook():
    run = fitted("vqvae", steps=1, **{"model.codes": 8})
    even = codebook_use(run.model, torch.arange(8).view(2, 4))
    assert even.perplexity == pytest.approx(8)
    assert even.share == 1
    assert codebook_use(run.model, torch.zeros(5, 4, dtype=torch.long))[:2] == pytest.approx((1, 1 / 8))
    half = codebook_use(run.model, torch.tensor([[0, 0, 0, 5]]))  # -3/4 log 3/4 - 1/4 log 1/4
    assert half.perplexity == pytest.approx(math.exp(0.75 * math.log(4 / 3) + 0.25 * math.log(4)))
    assert half.share == 0.25


def test_codebooks_of_remainders_are_counted_apart():
    run = fitted("vqvae", steps=1, **{"model.codes": 8, "model.residual": 2})
    codes = torch.tensor([[3, 0, 3, 1, 3, 2, 3, 4]])  # the first book gives 3 alone, the second all four
    assert codebook_use(run.model, codes).perplexity == pytest.approx((1 + 4) / 2)


def test_tokens_have_a_codebook_and_no_divergence():
    found = latent_of(fitted("vqvae", steps=20), image_data(), held_out())
    assert found["codebook"]["size"] == 256
    assert 1 <= found["codebook"]["perplexity"] <= 256
    assert found["reconstruction"]["value"] > 0
    assert not {"kl", "active_units", "mutual_information"} & set(found)


# -- where it is told --------------------------------------------------------------------------------


def test_evaluations_hold_it_as_json_and_it_can_be_read(quick_features):
    row = Judge(image_data()).judge(fitted("vae"))
    found = json.loads(json.dumps(row, allow_nan=False))["latent"]
    for key in ("reconstruction", "kl", "mutual_information", "error", "sharpness"):
        low, high = found[key]["interval"]
        assert low <= found[key]["value"] <= high
    assert found["mutual_information"]["value"] <= math.log(90)
    assert sum(found["kl_per_dim"]) == pytest.approx(found["kl"]["value"], abs=1e-5)
    told = {fact.name: fact.text for fact in code_facts(found)}
    assert told["active units"].endswith("of 3")
    assert told["information"].startswith("≥ ")


def test_the_report_shows_it(quick_features, tmp_path):
    pangen.compare(image_data(), "vae,ae", steps=4, out=tmp_path, device="cpu")
    page = (tmp_path / "report.html").read_text()
    for text in (
        "What the codes carry",
        "active units",
        "round-trip error",
        "dimension of the code",
        "; sharpness",
    ):
        assert text in page


# -- the alarm ----------------------------------------------------------------------------------------


def test_a_weight_of_fifty_on_kl_is_told_and_a_healthy_vae_is_not():
    (found,) = fitted("vae", steps=120, **{"model.beta": 50.0}).card["warnings"]
    assert found.startswith("the posterior has collapsed: 0 of 3 dimensions")
    for remedy in ("raise model.warmup", "set model.free_bits", "lower model.beta", "train longer"):
        assert remedy in found
    assert fitted("vae", steps=120).card["warnings"] == []


def test_remedies_are_settings_that_the_model_has():
    run = fitted("iwae", steps=1)
    run.model.q = lambda x, y=None: Normal(torch.zeros(len(x), 3), torch.zeros(len(x), 3))
    (found,) = collapse_warnings(run.model, batches(run), examples=100)
    assert "model.width" in found
    assert "beta" not in found


def test_a_codebook_of_which_one_entry_is_used_is_told():
    run = fitted("vqvae", steps=60, **{"model.codes": 8})
    assert collapse_warnings(run.model, batches(run), examples=100) == []
    run.model.quantiser.codebook.zero_()
    (found,) = collapse_warnings(run.model, batches(run), examples=100)
    assert "perplexity of 1: raise model.dead" in found


def batches(run: Run) -> Batches:
    return Batches(image_data().validation, run.codec, 32, 0, "cpu")
