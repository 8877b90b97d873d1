"""Compiled networks: the same steps but for rounding, in training alone, and only where a trial says that they pay."""

from __future__ import annotations

import copy
import signal
from dataclasses import replace

import pytest
import torch

import pangen
from pangen.data import load_data
from pangen.data.batches import Piece
from pangen.errors import PangenError
from pangen.evaluation.comparison import retrain
from pangen.families.adversarial.gan import GAN
from pangen.families.autoregressive.gpt import GPT
from pangen.families.diffusion.ddpm import DDPM
from pangen.families.flow.nsf import NSF
from pangen.families.latent.vae import VAE
from pangen.model import GenerativeModel
from pangen.recipes import Training
from pangen.space import Batch, Loss, Progress, Space
from pangen.training import budget as planning
from pangen.training import compiled as module
from pangen.training.compiled import Calls, Compiled, called, refusal
from pangen.training.loop import State, train_step
from pangen.training.recompute import recompute
from pangen.training.trial import Times

PLANE = Space("real", (2,))
SMALL = {"model.width": 16, "training.batch": 16, "training.validations": 2}


@pytest.fixture
def ahead(monkeypatch):
    """All that compiling does but for writing code: operations are traced, and gradients of them made beforehand."""
    monkeypatch.setattr(module, "HOW", {"backend": "aot_eager"})


@pytest.fixture
def traced(monkeypatch):
    """Operations are traced, and no more."""
    monkeypatch.setattr(module, "HOW", {"backend": "eager"})


class Counting:
    """A compiler that leaves all as it is, and counts what it is given and what is run of it."""

    def __init__(self, monkeypatch) -> None:
        self.made = self.runs = 0
        monkeypatch.setattr(module, "HOW", {"backend": self})

    def __call__(self, graph, inputs):
        self.made += 1

        def run(*args):
            self.runs += 1
            return graph(*args)

        return run


def refused(graph, inputs):
    raise ValueError("there is nobody here\nwho knows the language")


def stepped(
    model: GenerativeModel, batch: Batch, settings: Training, calls: Calls
) -> dict[str, torch.Tensor]:
    """The gradients that a step leaves, by networks compiled or not."""
    state = State.start(model, settings)
    if calls:
        state.compiled = Compiled(model, calls)
    torch.manual_seed(3)
    told = train_step(state, [Piece(batch)], settings)
    return {k: torch.tensor(v) for k, v in told.items()} | {
        k: w.grad for k, w in model.named_parameters() if w.grad is not None
    }


def check_alike(model: GenerativeModel, x: torch.Tensor, networks: set[str], rtol: float) -> None:
    settings, batch = Training(clip=None), Batch(x)
    torch.manual_seed(0)
    model.train().initialize(batch)
    with torch.no_grad():  # heads that start at zero let no gradient through
        for w in model.parameters():
            w += 0.05 * torch.randn_like(w)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    calls = called(model, [batch], Progress(0, 100))
    assert set(calls) == networks
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    plain, quick = (stepped(copy.deepcopy(model), batch, settings, how) for how in ({}, calls))
    assert plain.keys() == quick.keys()
    for name, expected in plain.items():
        torch.testing.assert_close(
            quick[name],
            expected,
            rtol=rtol,
            atol=rtol * float(expected.abs().max()),
            msg=lambda m, name=name: f"{name}: {m}",
        )


CASES = {
    "gpt": (
        lambda: GPT(Space("tokens", (12,), levels=5), width=16, depth=1, heads=2, dropout=0.3),
        torch.arange(48).view(4, 12) % 5, {"before", "transformer"},
    ),
    "vae": (lambda: VAE(PLANE, width=16, latent=2), torch.randn(8, 2), {"encoder", "decoder"}),
    "nsf": (lambda: NSF(PLANE, width=16, blocks=1, depth=1), torch.randn(8, 2), {"flow.transform"}),
    "ddpm": (lambda: DDPM(PLANE, width=16), torch.randn(8, 2), {"net.net"}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_step_is_the_same_but_for_rounding(name, ahead):
    make, x, networks = CASES[name]
    torch.manual_seed(0)
    check_alike(make(), x, networks, 1e-5)


class Tiny(GenerativeModel):
    """One network, with noise in it."""

    def __init__(self, space: Space) -> None:
        super().__init__(space)
        self.net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Dropout(0.5))
        self.unit = torch.nn.Linear(8, 1)

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        return Loss(self.unit(self.net(batch.x)).square().mean())


class Steep(Tiny):
    """The slope of its network, in what it makes of its batch, is its loss."""

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        x = 2 * batch.x.requires_grad_()
        (slope,) = torch.autograd.grad(self.net(x).sum(), x, create_graph=True)
        return Loss(slope.square().mean())


def test_code_that_was_written_draws_the_same_noise():
    """The compiler that is used, on one network: it takes seconds. A single operation is no network."""
    check_alike(Tiny(PLANE), torch.randn(8, 2), {"net"}, 1e-5)


def test_blocks_may_be_computed_again(ahead):
    settings, x = Training(clip=None), torch.randn(8, 2)
    torch.manual_seed(0)
    model = DDPM(PLANE, width=16).train()
    model.initialize(Batch(x))
    again = copy.deepcopy(model)
    recompute(again)
    calls = called(again, [Batch(x)], Progress(0, 100))
    expected, found = (stepped(m, Batch(x), settings, how) for m, how in ((model, {}), (again, calls)))
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-6)


def test_a_gradient_of_what_a_network_reads_has_a_gradient(ahead):
    """The penalty of a critic's slope: that call runs as it is written, and the others compiled."""
    torch.manual_seed(0)
    model = GAN(PLANE, width=16, noise=2, game="wasserstein").train()
    batch, settings = Batch(torch.randn(8, 2)), Training(clip=None)
    calls = called(model, [batch], Progress(0, 100))
    assert len(calls) == 2
    plain, quick = (stepped(copy.deepcopy(model), batch, settings, how) for how in ({}, calls))
    for name, expected in plain.items():
        torch.testing.assert_close(quick[name], expected, rtol=1e-4, atol=1e-5)


def test_elsewhere_the_compiler_refuses_it(ahead):
    model, batch = Steep(PLANE).train(), Batch(torch.randn(8, 2))
    with pytest.raises(RuntimeError) as error:
        stepped(model, batch, Training(), called(model, [batch], Progress(0, 100)))
    assert refusal(error.value) == "its loss holds a gradient, and compiled code has no gradient of one"
    assert refusal(RuntimeError("anything else")) == ""


def test_steps_alone_are_compiled(monkeypatch):
    """Validations, samples and likelihoods run networks as they are written; so does a copy."""
    counting = Counting(monkeypatch)
    run = pangen.fit(
        "ddpm", "moons", steps=4, device="cpu", recipe=SMALL | {"training.compile": "on", "training.ema": 0.9}
    )
    assert counting.runs == 4 + 1  # and the trial before anything is written
    assert run.sample(3).shape == (3, 2)
    run.log_prob(load_data("moons").test.x[:5])
    assert counting.runs == 5


def test_other_shapes_are_not_compiled(monkeypatch):
    """Which code is run depends on a call alone, not on those before it: a training that goes on has missed some."""
    counting, model = Counting(monkeypatch), Tiny(PLANE).train()
    state = State.start(model, Training())
    state.compiled = Compiled(model, called(model, [Batch(torch.randn(8, 2))], Progress(0, 100)))
    for size, runs in ((6, 0), (8, 1), (7, 1), (8, 2)):
        train_step(state, [Piece(Batch(torch.randn(size, 2)))], Training())
        assert counting.runs == runs


def test_code_is_made_once(monkeypatch):
    """A U-Net asks on its way what the processor rounds; code that asks would be made anew at each call."""
    counting, batch, made = Counting(monkeypatch), Batch(torch.rand(4, 1, 16, 16).round()), []
    model = DDPM(Space("binary", (1, 16, 16), levels=2), width=16, precision="auto").train()
    model.initialize(batch)
    state = State.start(model, Training())
    state.compiled = Compiled(model, called(model, [batch], Progress(0, 100)))
    for _ in range(3):
        train_step(state, [Piece(batch)], Training())
        made.append(counting.made)
    assert made == [1, 1, 1]


def test_outside_of_a_step_nothing_is_left_of_it(ahead):
    model, batch = DDPM(PLANE, width=16).train(), Batch(torch.randn(8, 2))
    names, keys = list(model.state_dict()), {n: set(vars(m)) for n, m in model.named_modules()}
    state = State.start(model, Training())
    state.compiled = Compiled(model, called(model, [batch], Progress(0, 100)))
    train_step(state, [Piece(batch)], Training())
    assert list(model.state_dict()) == names
    assert {n: set(vars(m)) for n, m in model.named_modules()} == keys
    copied = copy.deepcopy(model)
    assert torch.equal(
        copied.net.estimate(batch.x, batch.x[:, 0].abs()), model.net.estimate(batch.x, batch.x[:, 0].abs())
    )


@pytest.mark.parametrize(
    ("model", "data", "recipe", "sentence"),
    [
        ("rbm", "digits", {}, "no network is called by a step of rbm"),
        ("ddpm", "moons", {"training.shard": True}, "it is auto or off where training.shard is true"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_is_written(tmp_path, model, data, recipe, sentence):
    with pytest.raises(PangenError, match=sentence) as error:
        pangen.fit(
            model, data, steps=2, out=tmp_path / "run", device="cpu",
            recipe={"training.compile": "on", "training.batch": 8, **recipe},
        )  # fmt: skip
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_compiler_that_is_not_there_is_told_of(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "HOW", {"backend": refused})
    with pytest.raises(
        PangenError, match=r"cannot be compiled \(there is nobody here\): set training.compile to off"
    ):
        pangen.fit(
            "ddpm",
            "moons",
            steps=2,
            out=tmp_path / "run",
            device="cpu",
            recipe=SMALL | {"training.compile": "on"},
        )
    assert not (tmp_path / "run").exists()


def fitted(tmp_path, **settings) -> tuple[pangen.Run, list[str]]:
    notes: list[str] = []
    run = pangen.fit(
        "ddpm", "moons", out=tmp_path / "run", device="cpu", report=lambda event: notes.extend(event.notes),
        recipe=SMALL | settings, budget=1.0,
    )  # fmt: skip
    return run, notes


def test_short_budgets_and_steps_try_nothing(tmp_path, monkeypatch):
    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(planning, "choose", never)
    monkeypatch.setattr(module.torch, "compile", never)
    run, notes = fitted(tmp_path)
    assert (run.recipe.training.compile, run.card["compiling"], notes) == ("off", None, [])
    by_steps = pangen.fit("ddpm", "moons", steps=2, device="cpu", recipe=SMALL)
    assert by_steps.recipe.training.compile == "auto"


def test_where_it_cannot_be_a_long_budget_does_without(tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "WORTHWHILE", 0.0)
    monkeypatch.setattr(module, "HOW", {"backend": refused})
    run, notes = fitted(tmp_path)
    assert run.recipe.training.compile == "off"
    assert notes == ["networks are not compiled: there is nobody here"]
    assert run.card["compiling"] == {"compiled": False, "why": "there is nobody here", "times": None}


@pytest.mark.parametrize("pays", [True, False])
def test_what_a_trial_says_is_done_recorded_and_done_again(tmp_path, traced, monkeypatch, pays):
    monkeypatch.setattr(planning, "WORTHWHILE", 0.0)
    monkeypatch.setattr(Times, "pays", property(lambda self: pays))
    run, notes = fitted(tmp_path)
    settings, word = run.recipe.training, "on" if pays else "off"
    assert settings.compile == word
    assert len(notes) == 1
    assert notes[0].startswith(f"networks are {'' if pays else 'not '}compiled: compiling takes ")
    times = run.card["compiling"]["times"]
    assert min(times["compiling"], times["step"], times["compiled_step"]) > 0
    assert (run.card["compiling"]["compiled"], run.card["compiling"]["why"]) == (
        pays,
        notes[0].partition(": ")[2],
    )
    monkeypatch.setattr(planning, "choose", lambda *_: pytest.fail("it is decided already"))
    again = retrain(tmp_path / "run", load_data("moons"), tmp_path / "again", "cpu")
    assert again.recipe.training == settings
    for name, w in run.model.state_dict().items():
        assert torch.equal(w, again.model.state_dict()[name]), name


def test_a_trial_pays_if_more_is_saved_than_it_takes():
    times = Times(compiling=20.0, step=0.010, compiled_step=0.009, left=600.0)
    assert times.saved == pytest.approx(60)
    assert times.pays
    assert str(times) == (
        "compiling takes 20 s, and steps of 9 ms instead of 10 save 60 s in the 600 s that are left"
    )
    assert not replace(times, left=190.0).pays
    slower = replace(times, compiled_step=0.011)
    assert not slower.pays
    assert "save nothing" in str(slower)


def test_interrupted_and_resumed_is_undisturbed(tmp_path, traced):
    recipe = SMALL | {"training.compile": "on", "training.ema": 0.9}
    whole = pangen.fit("ddpm", "moons", steps=10, device="cpu", recipe=recipe)

    def interrupt(event) -> None:
        if event.step == 4:
            signal.raise_signal(signal.SIGINT)

    pangen.fit("ddpm", "moons", steps=10, device="cpu", recipe=recipe, out=tmp_path / "run", report=interrupt)
    done = pangen.fit("ddpm", "moons", out=tmp_path / "run", device="cpu", resume=True)
    assert done.card["state"] == "complete"
    for name, w in whole.model.state_dict().items():
        assert torch.equal(w, done.model.state_dict()[name]), name
