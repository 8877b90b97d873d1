"""Trained runs as codecs: the bound of a model in two stages against what can be computed by hand."""

from __future__ import annotations

import json
import math
import shutil
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal
from torch.distributions import Normal as Law

import pangen
from pangen.codecs import LearnedCodec, accepts, codec_from_json, learned
from pangen.codecs.images import Binary, Dequantise
from pangen.codecs.vectors import Standardise
from pangen.data import Data, Split
from pangen.data.batches import Batches
from pangen.errors import PangenError
from pangen.likelihoods import Bernoulli, Normal, Point
from pangen.registry import entries
from pangen.run import load_run
from pangen.space import Space

D, LATENT = 4, 2
SMALL = {"model.width": 16, "training.validations": 1}
QUICK = {"model.components": 1, "model.covariance": "diag"}


class First:
    """A first stage made by hand: `q` and `p` are functions, the codec is the data's."""

    chunk = 8
    device = torch.device("cpu")

    def __init__(self, latent_space: Space) -> None:
        self.latent_space = latent_space

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.q(x).mean

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.p(z).mean

    def interpolate(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        return a


class Linear(First):
    """x = W z + m + s e, and the posterior it has under z ~ N(0, I): W has orthogonal columns."""

    def __init__(self) -> None:
        super().__init__(Space("real", (LATENT,)))
        generator = torch.Generator().manual_seed(0)
        rotation = torch.linalg.qr(torch.randn(D, LATENT, generator=generator, dtype=torch.float64)).Q
        self.W = rotation * torch.tensor([2.0, 0.7], dtype=torch.float64)
        self.m, self.s = torch.linspace(-1, 1, D, dtype=torch.float64), 0.3
        self.precision = (self.W**2).sum(0) / self.s**2 + 1

    def q(self, x: Tensor, y: Tensor | None = None) -> Normal:
        mean = (x - self.m) @ self.W / self.s**2 / self.precision
        return Normal(mean, (-0.5 * self.precision.log()).expand_as(mean))

    def p(self, z: Tensor, y: Tensor | None = None) -> Normal:
        mean = z @ self.W.T + self.m
        return Normal(mean, torch.full_like(mean, math.log(self.s)))

    def evidence(self, x: Tensor) -> Tensor:
        covariance = self.W @ self.W.T + self.s**2 * torch.eye(D, dtype=torch.float64)
        return MultivariateNormal(self.m, covariance).log_prob(x)


class Majority(First):
    """Two tokens, the majority of either half of four bits, and bits that are mostly so."""

    def __init__(self) -> None:
        super().__init__(Space("tokens", (2,), levels=2))

    def q(self, x: Tensor, y: Tensor | None = None) -> Point:
        return Point((x.view(-1, 2, 2).sum(2) > 1).long())

    def p(self, z: Tensor, y: Tensor | None = None) -> Bernoulli:
        return Bernoulli((3.0 * z.float() - 2.0).repeat_interleave(2, 1).view(-1, 1, 1, 2, 2))


class Maps(First):
    """Three channels of a map of numbers, of scales of their own."""

    def __init__(self) -> None:
        super().__init__(Space("real", (3, 4, 4)))

    def q(self, x: Tensor, y: Tensor | None = None) -> Normal:
        mean = x * torch.tensor([1.0, 10.0, 100.0])[:, None, None] + 5
        return Normal(mean, torch.full_like(mean, -2.0))

    def p(self, z: Tensor, y: Tensor | None = None) -> Bernoulli:
        return Bernoulli(z.mean(1, keepdim=True)[:, None])


def stage(model: First, codec: object, dtype: str = "float32") -> SimpleNamespace:
    return SimpleNamespace(model=model, codec=codec, recipe=SimpleNamespace(dtype=dtype))


@pytest.fixture
def by_hand(monkeypatch):
    """Makes a stage the first one, whatever the codec's path says."""

    def use(first: SimpleNamespace) -> None:
        monkeypatch.setattr(learned, "first_stage", lambda *_: first)
        monkeypatch.setattr(learned, "digest", lambda run: "0" * 16)

    return use


def linear(**fields) -> tuple[LearnedCodec, SimpleNamespace]:
    settings = {"mean": (0.4, -2.0), "std": (0.5, 3.0), "bound": True, **fields}
    codec = LearnedCodec(run="first", weights="0" * 16, code_shape=(LATENT,), code_levels=0, **settings)
    outer = Standardise(mean=(1.0, 2.0, 3.0, 4.0), std=(2.0, 0.5, 1.0, 4.0))
    return codec, stage(Linear(), outer, "float64")


def raw_vectors(n: int) -> Tensor:
    return torch.randn(n, D, generator=torch.Generator().manual_seed(1)) * 3 + 2


def log_p_codes(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """log-density of standardised codes whose raw ones are N(mean, std^2)."""
    codec_mean, codec_std = (torch.tensor(v, dtype=torch.float64) for v in ((0.4, -2.0), (0.5, 3.0)))
    return Law((mean - codec_mean) / codec_std, std / codec_std).log_prob(x).sum(1)


def test_with_the_true_posterior_every_draw_gives_the_evidence(by_hand):
    """Prior of the codes N(0, I): standardising them and the data must not move the number."""
    codec, first = linear()
    by_hand(first)
    raw = raw_vectors(40)
    torch.set_default_dtype(torch.float64)
    try:
        x, volume = codec.encode(raw, generator=torch.Generator().manual_seed(2))
        zero, one = torch.zeros(LATENT), torch.ones(LATENT)
        found = log_p_codes(x, zero, one) + volume
        seen, outer = first.codec.encode(raw)
        expected = first.model.evidence(seen) + outer
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)


def test_with_another_prior_the_bound_is_the_one_computed_by_hand(by_hand):
    """E_q[log p(x given z) + log p(z) - log q(z given x)], all of them Gaussian."""
    codec, first = linear()
    by_hand(first)
    model, n = first.model, 4000
    one = raw_vectors(1)
    mean, std = torch.tensor([0.5, -1.0]).double(), torch.tensor([1.5, 0.4]).double()
    x, volume = codec.encode(one.expand(n, -1), generator=torch.Generator().manual_seed(3))
    found = log_p_codes(x.double(), mean, std) + volume.double()
    seen, outer = first.codec.encode(one.double())
    q = model.q(seen.double())
    mu, sigma = q.mean[0], q.log_scale[0].exp()
    error = (seen[0] - model.W @ mu - model.m).square().sum() + (sigma**2 * (model.W**2).sum(0)).sum()
    likelihood = -D * math.log(2 * math.pi * model.s**2) / 2 - error / (2 * model.s**2)
    prior = (Law(mean, std).log_prob(mu) - sigma**2 / (2 * std**2)).sum()
    entropy = (0.5 * math.log(2 * math.pi * math.e) + sigma.log()).sum()
    expected = float(likelihood + prior + entropy + outer[0])
    error = float(found.std()) / n**0.5
    assert float(found.mean()) == pytest.approx(expected, abs=5 * error)
    covariance = model.W @ torch.diag(std**2) @ model.W.T + model.s**2 * torch.eye(D).double()
    evidence = MultivariateNormal(model.m + model.W @ mean, covariance).log_prob(seen[0].double()) + outer[0]
    assert expected < float(evidence)


def test_bound_of_tokens_is_the_codes_and_what_they_leave(by_hand):
    """log p(k) + log p(x given k), summed over all x to at most 1."""
    by_hand(stage(Majority(), Binary(shape=(1, 2, 2), levels=2)))
    codec = LearnedCodec(run="first", weights="0" * 16, code_shape=(2,), code_levels=2, bound=True)
    raw = torch.tensor(list(product([0, 1], repeat=4)), dtype=torch.uint8).view(-1, 1, 2, 2)
    k, volume = codec.encode(raw)
    assert k.dtype == torch.int64
    assert torch.equal(k, (raw.view(-1, 2, 2).sum(2) > 1).long())
    logit = (3.0 * k - 2.0).repeat_interleave(2, 1)
    bits = raw.flatten(1).float()
    expected = (bits * logit - torch.nn.functional.softplus(logit)).sum(1)
    torch.testing.assert_close(volume, expected)
    log_p = torch.tensor([0.1, 0.2, 0.3, 0.4]).log()[2 * k[:, 0] + k[:, 1]]
    total = float((log_p + volume).exp().sum())
    assert 0.2 < total < 1
    assert torch.equal(codec.decode(k), (bits * 0 + (logit > 0)).view(-1, 1, 2, 2).to(torch.uint8))
    assert codec.space == Space("tokens", (2,), levels=2)


def maps_data(n: int = 60) -> Data:
    x = torch.randint(2, (n, 1, 4, 4), generator=torch.Generator().manual_seed(4)).to(torch.uint8)
    parts = [Split(part) for part in x.split([n - 20, 10, 10])]
    return Data("maps", "image", *parts, levels=2, encoder="first", raw_name="bits")


def test_real_codes_have_unit_scale_by_entry_or_channel_and_the_volume_of_that(by_hand):
    by_hand(stage(Maps(), Binary(shape=(1, 4, 4), levels=2)))
    data = maps_data(520)
    codec = LearnedCodec.fit(data)
    assert len(codec.mean) == len(codec.std) == 3
    x, volume = codec.encode(data.train.x, generator=torch.Generator().manual_seed(0))
    each = x.movedim(1, 0).flatten(1)
    # 8000 values a channel: five standard errors
    assert (each.mean(1).abs() < 5 / 8000**0.5).all()
    assert ((each.std(1) - 1).abs() < 0.04).all()
    z = x * torch.tensor(codec.std)[:, None, None] + torch.tensor(codec.mean)[:, None, None]
    bits = data.train.x.float()
    model = Maps()
    expected = (
        model.p(z).log_prob(bits) - model.q(bits).log_prob(z) - 16 * torch.tensor(codec.std).log().sum()
    )
    torch.testing.assert_close(volume, expected, atol=1e-2, rtol=1e-4)
    again = codec_from_json(json.loads(json.dumps(codec.to_json())))
    assert again == codec
    assert again.space == Space("real", (3, 4, 4))


def test_dequantised_data_beneath_codes_keeps_its_volume(by_hand):
    outer = Dequantise(shape=(1, 4, 4), levels=2)
    by_hand(stage(Maps(), outer))
    codec = LearnedCodec.fit(maps_data())
    raw = maps_data().test.x[:8]
    x, volume = codec.encode(raw, generator=torch.Generator().manual_seed(5))
    seen, below = outer.encode(raw, generator=torch.Generator().manual_seed(5))
    z = x * torch.tensor(codec.std)[:, None, None] + torch.tensor(codec.mean)[:, None, None]
    model = Maps()
    rest = model.p(z).log_prob(seen) - model.q(seen).log_prob(z) - 16 * torch.tensor(codec.std).log().sum()
    torch.testing.assert_close(volume, below + rest, atol=1e-2, rtol=1e-4)
    assert Batches(maps_data().train, codec, 8, 0, "cpu")._ready is None  # its noise is drawn anew


@pytest.mark.parametrize("name", ["mixture", "realnvp", "glow", "ddpm", "edm"])
def test_models_take_maps_of_numbers(by_hand, name):
    by_hand(stage(Maps(), Binary(shape=(1, 4, 4), levels=2)))
    recipe = QUICK if name == "mixture" else SMALL
    run = pangen.fit(name, maps_data(), steps=2, device="cpu", recipe=recipe)
    assert run.codec.space == Space("real", (3, 4, 4))
    assert run.sample(3).shape == (3, 1, 4, 4)
    found = run.log_prob(maps_data().test.x)
    assert found.nats.isfinite().all()
    assert found.kind == ("estimate" if name == "edm" else "lower bound")  # the weaker of two kinds


def test_training_draws_codes_anew_and_finds_posteriors_once(by_hand):
    codec, first = linear()
    by_hand(first)
    raw = raw_vectors(30)
    batches, calls = Batches(Split(raw), codec, 30, 0, "cpu"), []
    first.model.q = lambda x, y=None: calls.append(x)
    draws = torch.stack([batches.take(torch.arange(30)).x for _ in range(400)])
    assert not calls
    q = Linear().q(first.codec.encode(raw)[0].double())
    mean, std = torch.tensor(codec.mean), torch.tensor(codec.std)
    spread = q.log_scale.exp() / std
    # five standard errors of 400 draws, for 60 numbers
    assert ((draws.mean(0) - (q.mean - mean) / std).abs() < 5 * spread / 400**0.5).all()
    assert ((draws.std(0) / spread - 1).abs() < 5 / 800**0.5).all()


# -- with runs of the package ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def first_stages(tmp_path_factory) -> Path:
    """Barely trained first stages of the digits."""
    folder = tmp_path_factory.mktemp("first")
    for name in ("vae", "ae", "vqvae"):
        pangen.fit(name, "digits", steps=3, out=folder / name, device="cpu", conditional=False, recipe=SMALL)
    return folder


def test_codes_are_taken_by_whoever_knows_their_layout_and_values(first_stages):
    taking = {
        name: {
            e.name
            for e in entries().values()
            if accepts(e, pangen.load_data(f"latents:{first_stages / name}"))
        }
        for name in ("vae", "ae", "vqvae")
    }
    for name, entry in entries().items():
        assert (name in taking["vae"]) == (name in taking["ae"]) == ("standardise" in entry.codecs)
        assert (name in taking["vqvae"]) == ("characters" in entry.codecs)


def test_a_model_in_two_stages_is_a_run_like_any_other(first_stages, tmp_path, quick_features):
    """Weights of its own alone, samples by (seed, i), the same when loaded, judged on raw data."""
    spec = f"latents:{first_stages / 'vae'}"
    run = pangen.fit("realnvp", spec, steps=2, out=tmp_path / "run", device="cpu", recipe=SMALL)
    digits = pangen.load_data("digits")
    assert run.recipe.data.name == f"latents:{(first_stages / 'vae').resolve()}"
    assert run.recipe.data.fingerprint == digits.fingerprint
    assert not any("encoder" in name for name in run.model.state_dict())
    few, many = run.sample(3, seed=1), run.sample(70, seed=1)
    assert torch.equal(few, many[:3])
    assert few.shape == (3, 1, 8, 8)
    again = load_run(tmp_path / "run", device="cpu")
    assert again.codec == run.codec
    assert torch.equal(again.sample(3, seed=1), few)
    raw = digits.test.x[:9]
    assert torch.equal(run.log_prob(raw[:4]).nats, again.log_prob(raw).nats[:4])
    assert run.sample(2, "3").shape == (2, 1, 8, 8)  # the prior knows the labels
    row = pangen.evaluate(run, examples=20, samples=20)
    assert row["likelihood"]["kind"] == "lower bound"
    assert row["likelihood"]["dims"] == 64
    assert row["fidelity"]["frechet"]["features"].startswith("digits classifier")
    assert pangen.evaluate(run, "digits", examples=20, samples=20)["likelihood"] == row["likelihood"]


def test_a_prior_of_tokens_bounds_the_data_and_one_stage_can_follow_another(first_stages, tmp_path):
    gpt = pangen.fit("gpt", f"latents:{first_stages / 'vqvae'}", steps=2, device="cpu", recipe=SMALL)
    raw = pangen.load_data("digits").test.x[:5]
    found = gpt.log_prob(raw)
    k, volume = gpt.codec.encode(raw)
    with torch.no_grad():
        own = torch.stack([gpt.model.log_prob(k, torch.full((5,), c)).nats for c in range(10)], 1)
    expected = (own.double() + gpt.codec.label_log_prior).logsumexp(1) + volume
    torch.testing.assert_close(found.nats, expected, atol=1e-3, rtol=0)
    assert found.kind == "lower bound"
    fields = {"steps": 2, "device": "cpu", "conditional": False, "recipe": SMALL}
    pangen.fit("vae", f"latents:{first_stages / 'vae'}", out=tmp_path / "second", **fields)
    fields["recipe"] = QUICK
    third = pangen.fit("mixture", f"latents:{tmp_path / 'second'}", **fields)
    assert third.sample(2).shape == (2, 1, 8, 8)
    assert third.log_prob(raw).nats.isfinite().all()


def test_codes_without_a_probability_give_no_likelihood(first_stages, tmp_path, quick_features):
    """Neither from Python nor in an evaluation, and never nats of the codes."""
    spec = f"latents:{first_stages / 'ae'}"
    run = pangen.fit("nice", spec, steps=1, device="cpu", recipe=SMALL)
    raw = pangen.load_data("digits").test.x[:4]
    assert run.codec.encode(raw).log_volume.isnan().all()
    for ask in (run.log_prob, run.joint_log_prob, run.classify):
        with pytest.raises(
            PangenError, match=r"nice has no likelihood: its first stage .* without a probability"
        ):
            ask(raw)
    row = pangen.evaluate(run, examples=20, samples=20)
    assert list(row["likelihood"]) == ["none"]
    assert row["density"] == "none"
    assert row["fidelity"]["frechet"]["value"] >= 0
    # a second stage with posteriors does not mend the first
    fields = {"steps": 1, "device": "cpu", "conditional": False, "recipe": SMALL}
    pangen.fit("vae", spec, out=tmp_path / "vae", **fields)
    fields["recipe"] = QUICK
    assert pangen.fit("mixture", f"latents:{tmp_path / 'vae'}", **fields).no_likelihood


def test_a_first_stage_that_is_gone_or_changed_is_one_sentence(first_stages, tmp_path):
    folder = tmp_path / "first"
    shutil.copytree(first_stages / "ae", folder)
    pangen.fit("nice", f"latents:{folder}", steps=1, out=tmp_path / "run", device="cpu", recipe=SMALL)
    learned.first_stage.cache_clear()
    weights = folder / "weights.safetensors"
    weights.write_bytes((first_stages / "vae" / "weights.safetensors").read_bytes())
    run = load_run(tmp_path / "run", device="cpu")
    with pytest.raises(PangenError, match="have changed since its codes were modelled"):
        run.sample(2)
    shutil.rmtree(folder)
    with pytest.raises(PangenError, match="is gone, and codes mean nothing without it"):
        run.sample(2)


def test_what_cannot_be_a_first_stage_is_one_sentence(first_stages, digits_run, tmp_path):
    for spec, words in (
        ("latents:", "no run folder ''"),
        ("latents:nowhere", "no run folder 'nowhere'"),
        (f"latents:{digits_run}", "the independent in .* has no codes"),
    ):
        with pytest.raises(PangenError, match=words):
            pangen.load_data(spec)
    pangen.fit("vae", "digits", steps=1, out=tmp_path / "labelled", device="cpu", recipe=SMALL)
    with pytest.raises(PangenError, match=r"was trained with labels.* fit it with --unconditional"):
        pangen.fit("mixture", f"latents:{tmp_path / 'labelled'}")
    pangen.fit("vae", torch.randn(50, 3), steps=1, out=tmp_path / "memory", device="cpu", recipe=SMALL)
    with pytest.raises(PangenError, match="data from memory, which is not kept"):
        pangen.load_data(f"latents:{tmp_path / 'memory'}")
    spec = f"latents:{first_stages / 'vae'}"
    with pytest.raises(PangenError, match=r"gpt cannot model .*codes that are real vectors"):
        pangen.fit("gpt", spec)
    with pytest.raises(PangenError, match="behind the codec 'grid'; take learned"):
        pangen.fit("ddpm", spec, codec="grid")
    with pytest.raises(PangenError, match="does not take the option 'size'"):
        pangen.load_data(spec, size=(8, 8))
    with pytest.raises(PangenError, match="behind the codec 'learned'; take"):
        pangen.fit("mixture", "digits", codec="learned")
