"""What every registered model promises; a new model inherits all of it."""

from __future__ import annotations

import copy
import json
from functools import cache

import pytest
import torch
from cases import CASES, ONE_EACH, Case

from pangen.capabilities import CAPABILITIES, HasClosedForm, HasDenoiser, HasLatent, HasLogProb
from pangen.data.batches import Batches
from pangen.errors import PangenError
from pangen.evaluation.likelihood import Examples
from pangen.recipes import Recipe, build_model, settings_of
from pangen.registry import entries
from pangen.run import Run, load_run
from pangen.space import Batch, LogProb, Progress, weaker
from pangen.training import fit_recipe
from pangen.training.loop import start_state, train_step


def over(cases: list[Case]) -> pytest.MarkDecorator:
    """All tests of a case come after each other, whatever the test: the process that trains it has them all."""
    return pytest.mark.parametrize("case", cases, ids=str, scope="module")


every_case, one_each = over(CASES), over(ONE_EACH)
sampling = over([case for case in CASES if case.entry.samples])


@cache
def trained(case: Case) -> Run:
    return fit_recipe(case.recipe(steps=6), case.data, case.codec)


def encoded(case: Case, n: int = 8) -> Batch:
    return Batches(case.data.test, case.codec, n, 0, "cpu").first(n)


def held_out(case: Case, n: int) -> Examples:
    """Raw examples, and what likelihoods cannot do without."""
    raw, y = case.data.test.first(n).all()
    return Examples(raw, y if trained(case).answers else None)


@cache
def log_prob(case: Case) -> LogProb:
    """Of five examples, as a user asks for it."""
    return trained(case).log_prob(*held_out(case, 5))


@sampling
def test_samples_are_raw_data(case):
    """Right shape and type, inside the domain, and the codec can read them back."""
    run = trained(case)
    x = run.model.sample(5, run.codec.encode_condition(run.conditions(5)), seed=3)
    assert x.shape == (5, *run.codec.space.shape)
    assert x.dtype == (torch.int64 if run.codec.space.kind == "tokens" else torch.float32)
    assert x.float().isfinite().all()
    raw = run.sample(5, seed=3)
    assert len(raw) == 5
    if case.data.modality == "image":
        assert raw.dtype == torch.uint8
        assert raw.shape == (5, *case.data.shape)
        assert int(raw.max()) < case.data.levels
    if case.data.modality == "sound":
        assert all(clip.dtype == torch.float32 and bool((clip.abs() <= 1).all()) for clip in raw)
    if case.data.modality == "text":
        assert all(isinstance(text, str) for text in raw)
        if case.codec_name == "characters":
            assert set("".join(raw)) <= set(run.codec.alphabet + "\ufffd")


@sampling
def test_sample_i_depends_on_seed_and_i_alone(case):
    """The first 3 of 11 samples, over two chunks, are the 3 samples; another seed gives others."""
    run = trained(case)
    few, many, again = run.sample(3, seed=1), run.sample(11, seed=1), run.sample(11, seed=1)
    assert same(few, many[:3])
    assert same(many, again)
    y = run.codec.encode_condition(run.conditions(8))
    assert not torch.equal(
        *(run.model.sample(8, y, seed=seed) for seed in (1, 2))
    )  # before levels are rounded


def same(a, b) -> bool:
    """Whether raw examples are equal: a tensor, or a tuple of texts or of clips."""
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if not isinstance(a, torch.Tensor):
        return a == b
    return a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)


@over([case for case in ONE_EACH if case.entry.samples and case.recipe().conditional])
def test_given_labels_reach_the_samples_they_are_given_to(case):
    """Sample i changes with its own label's neighbours not at all."""
    run = trained(case)
    a, b = run.sample(4, [0, 1, 2, 0], seed=1), run.sample(4, [0, 2, 1, 1], seed=1)
    assert same(a[0], b[0])
    with pytest.raises(PangenError, match="unknown label"):
        run.sample(1, "nobody")


@one_each
def test_a_model_without_samples_says_so(case):
    if not case.entry.samples:
        with pytest.raises(PangenError, match="cannot be sampled"):
            trained(case).sample(1)


@every_case
def test_training_moves_every_parameter(case):
    """And, for models with one objective to minimise, lowers it."""
    recipe = case.recipe(steps=40, lr=3e-3, schedule="constant", ema=0.0)
    if "closed_form" in case.entry.capabilities:
        assert not list(build_model(recipe, case.codec.space).parameters())
        return
    train = Batches(case.data.train, case.codec, recipe.training.batch, 0, "cpu")
    state = start_state(recipe, case.codec, train, torch.device("cpu"))
    model, start = state.model, copy.deepcopy(state.model)
    while state.step < recipe.training.steps:
        train_step(state, train.pieces(state.step, 1), recipe.training)
    for (name, now), before in zip(model.named_parameters(), start.parameters(), strict=True):
        if now.requires_grad:
            assert not torch.equal(now, before), f"{name} never moved"
    if len(state.players) == 1 and case.entry.family != "energy":
        many = Batches(case.data.train, case.codec, 64, 0, "cpu")
        assert objective(model, many) < objective(start, many)


def objective(model, train: Batches) -> float:
    """The mean training loss over eight draws of its noise, late in training."""
    model = model.eval().requires_grad_(True)
    losses = []
    for i in range(8):
        torch.default_generator.manual_seed(i)
        losses.append(float(model.loss(train[i], Progress(99, 100)).total.detach()))
    return sum(losses) / len(losses)


@one_each
def test_players_are_disjoint_and_complete(case):
    model = build_model(case.recipe(), case.codec.space)
    ids = [id(p) for parameters in model.players().values() for p in parameters]
    assert len(ids) == len(set(ids))
    assert set(ids) == {id(p) for p in model.parameters() if p.requires_grad}


@one_each
def test_a_step_names_only_its_players_and_moves_only_them(case):
    """A player's loss, backpropagated to all, is stepped with its own parameters alone."""
    if "closed_form" in case.entry.capabilities:
        return
    model = build_model(case.recipe(), case.codec.space)
    batch = Batches(case.data.train, case.codec, 32, 0, "cpu")[0]
    model.initialize(batch)
    turns = [player for player, _ in model.steps(batch, Progress(0, 10))]
    assert set(turns) == set(model.players())


@every_case
def test_no_example_influences_another(case):
    """Likelihood, code and denoised value of example 0 stay when all others change."""
    run = trained(case)
    x, y = encoded(case)
    other = torch.cat([x[:1], x[1:].flip(0)])
    labels = None if y is None else torch.cat([y[:1], y[1:].flip(0)])

    def noise() -> torch.Generator:
        return torch.Generator().manual_seed(0)

    if isinstance(run.model, HasLogProb):
        a = run.model.log_prob(x, y, generator=noise()).nats
        b = run.model.log_prob(other, labels, generator=noise()).nats
        assert torch.equal(a[:1], b[:1])
    if isinstance(run.model, HasLatent):
        assert torch.equal(run.model.encode(x, y)[:1], run.model.encode(other, labels)[:1])
    if isinstance(run.model, HasDenoiser):
        sigma = torch.linspace(run.model.sigma_min, run.model.sigma_max, len(x))
        assert torch.equal(run.model.denoise(x, sigma, y)[:1], run.model.denoise(other, sigma, labels)[:1])


@every_case
def test_saved_and_loaded_is_the_same_model(case, tmp_path):
    run = trained(case)
    path = run.path
    copy.copy(run).save(tmp_path / "run")
    run.path = path
    again = load_run(tmp_path / "run", device="cpu")
    assert again.recipe == run.recipe
    assert again.codec == run.codec
    assert again.codec.space == run.codec.space
    if case.entry.samples:
        assert same(run.sample(4, seed=5), again.sample(4, seed=5))
    if isinstance(run.model, HasLogProb):
        assert torch.equal(log_prob(case).nats, again.log_prob(*held_out(case, 5)).nats)


@one_each
def test_settings_out_of_range_are_refused_before_any_work(case):
    """Every whole number and every rate of a model has its range."""
    tree = case.recipe().to_json()
    for name, field in settings_of(case.entry.name).__dataclass_fields__.items():
        if getattr(field.type, "__origin__", field.type) in (int, float):
            with pytest.raises(PangenError, match=rf"'model\.{name}' = -1"):
                Recipe.from_json({**tree, "model": {**tree["model"], name: -1}})


@one_each
def test_recipe_survives_json(case):
    recipe = trained(case).recipe
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


@every_case
def test_capabilities_are_those_declared(case):
    model = trained(case).model
    found = {name for name, protocol in CAPABILITIES.items() if isinstance(model, protocol)}
    assert found == set(case.entry.capabilities)


@every_case
def test_every_declared_capability_works(case):
    run = trained(case)
    model, (x, y) = run.model, encoded(case)
    for capability in case.entry.capabilities:
        match capability:
            case "log_prob":
                found = model.log_prob(x, y, generator=torch.Generator().manual_seed(0))
                assert found.nats.shape == (len(x),)
                assert found.nats.isfinite().all()
                # a density of real numbers only bounds the probability of a level
                density = weaker(case.entry.density, *["lower bound"] * run.codec.space.is_grid)
                assert weaker(found.kind, density) == density
            case "latent":
                z = model.encode(x, y)
                assert z.ndim == 2
                assert model.decode(z, y).shape == x.shape
            case "denoiser":
                sigma = torch.full((len(x),), model.sigma_max)
                assert model.denoise(x, sigma, y).shape == x.shape
                assert 0 < model.sigma_min < model.sigma_max
            case "energy":
                same = None if y is None else y[:1].expand(len(y))
                energy, log_p = model.energy(x, same), model.log_prob(x, same).nats
                assert torch.allclose(energy - energy[0], log_p[0] - log_p, atol=1e-3)  # equal up to log Z
            case "partition":
                found = model.partition(torch.Generator().manual_seed(0))
                assert (found.low <= found.value).all()
                assert (found.value <= found.high).all()
                assert found.value.shape == (run.codec.space.classes or 1,)
            case "classifier":
                if y is not None:
                    log_p = model.classify(x)
                    assert log_p.shape == (len(x), run.codec.space.classes)
                    assert torch.allclose(log_p.logsumexp(1), torch.zeros(len(x)), atol=1e-4)
            case "marginal":
                every = torch.ones_like(x, dtype=torch.bool)
                whole = model.marginal_log_prob(x, every, y).nats
                assert torch.allclose(whole, model.log_prob(x, y).nats, rtol=1e-4, atol=1e-3)
                nothing = model.marginal_log_prob(x, ~every, y).nats
                assert torch.allclose(nothing, torch.zeros(len(x)), atol=1e-4)
            case "next_token":
                tokens = x.flatten(1)
                t = min(3, tokens.shape[1] - 2)
                logits, cache = model.next_logits(tokens[:, :t], None, y)
                assert logits.shape == (len(x), run.codec.space.levels)
                following, _ = model.next_logits(tokens[:, : t + 1], cache, y)
                whole, _ = model.next_logits(tokens[:, : t + 1], None, y)
                assert torch.allclose(following, whole, atol=1e-4)
            case "masked":
                masked = torch.zeros_like(x, dtype=torch.bool)
                masked[:, 0] = True
                logits = model.masked_logits(x, masked)
                assert logits.shape == (*x.shape, run.codec.space.levels)
                hidden = model.masked_logits(torch.where(masked, (x + 1) % 2, x), masked)
                assert torch.equal(logits, hidden)
            case "forecast":
                past = x[:, :, :5]
                paths = [
                    model.follow(past[:n], 4, generator=torch.Generator().manual_seed(0)) for n in (8, 8)
                ]
                assert paths[0].shape == (8, *x.shape[1:-1], 4)
                assert torch.equal(*paths)
            case "critic":
                assert model.critic(x, y).shape == (len(x),)
            case "closed_form":
                assert isinstance(model, HasClosedForm)
                assert not list(model.parameters())


@every_case
def test_density_is_what_the_card_says(case):
    """An implicit model has no log_prob, gives a reason, and refuses in one sentence."""
    run = trained(case)
    if case.entry.density == "none":
        assert not isinstance(run.model, HasLogProb)
        assert case.entry.reason
        with pytest.raises(PangenError, match="has no likelihood"):
            log_prob(case)
    else:
        assert log_prob(case).kind == weaker(log_prob(case).kind, run.codec.kind)


@every_case
def test_likelihood_does_not_depend_on_what_else_is_asked(case):
    """The first rows of many have the likelihood they have alone, chunks or not."""
    run = trained(case)
    if isinstance(run.model, HasLogProb):
        assert torch.equal(log_prob(case).nats, run.log_prob(*held_out(case, 13)).nats[:5])


def test_names_are_unique_and_cards_complete():
    for name, entry in entries().items():
        assert name == entry.name
        assert entry.summary
        assert entry.paper
        assert (entry.density == "none") == ("log_prob" not in entry.capabilities)
    assert sum(entry.showcase for entry in entries().values()) <= 16
