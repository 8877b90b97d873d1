"""The training loop: its gradients, averages, budgets, checkpoints and ends."""

from __future__ import annotations

import json
import signal
import sys
import types

import pytest
import torch

import pangen
from pangen import registry
from pangen.data import Data, Split
from pangen.data.batches import Piece
from pangen.errors import PangenError
from pangen.files import read_tensors
from pangen.folder import CHECKPOINT, METRICS
from pangen.model import GenerativeModel
from pangen.recipes import Training
from pangen.rng import chunks, generator, seed_of
from pangen.run import load_run
from pangen.space import Batch, LogProb, Loss, Progress, Space
from pangen.training.averages import Follower
from pangen.training.loop import State, train_step
from pangen.training.optimizers import rate


class Mean(GenerativeModel):
    """A Gaussian of unit variance about a learnt mean; `explode` makes its loss infinite from a step on."""

    def __init__(self, space: Space, *, explode: int = -1) -> None:
        super().__init__(space)
        self.mean, self.explode = torch.nn.Parameter(torch.zeros(space.dims)), explode

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        noise = 0.1 * torch.randn_like(batch.x)
        total = (batch.x + noise - self.mean).square().sum(1).mean()
        return Loss(
            total * (float("inf") if progress.step == self.explode else 1.0), {"mean": self.mean.mean()}
        )

    def log_prob(self, x, y=None, *, generator=None):
        return LogProb(-0.5 * (x - self.mean).square().sum(1), "exact")

    def trajectory(self, n, y=None, *, generator):
        yield self.mean + torch.randn(n, self.space.dims, generator=generator)


class Duel(Mean):
    """Two players; the second sees the first already moved."""

    def __init__(self, space: Space) -> None:
        super().__init__(space)
        self.other = torch.nn.Parameter(torch.zeros(space.dims))

    def players(self):
        return {"critic": [self.mean], "generator": [self.other]}

    def steps(self, batch, progress):
        yield "critic", Loss((self.mean - 1).square().sum() + self.other.sum())
        self.seen = self.mean.detach().clone()
        yield "generator", Loss((self.other - self.mean).square().sum())


@pytest.fixture(autouse=True)
def _registered():
    module = types.ModuleType("a_plugin")
    module.Mean, module.Duel = Mean, Duel
    sys.modules["a_plugin"] = module
    known = registry.entries()
    for name in ("mean", "duel"):
        known[name] = registry.Entry(
            name,
            "test",
            f"a_plugin:{name.title()}",
            "s",
            "p",
            ("standardise",),
            "exact",
            capabilities=("log_prob",),
        )
    yield
    for name in ("mean", "duel"):
        del known[name]


def vectors(n: int = 100) -> Data:
    noise = torch.randn(3, n, 2, generator=torch.Generator().manual_seed(0)) + 5
    return Data("vectors", "vector", *[Split(x) for x in noise])


def test_accumulated_micro_batches_give_the_gradient_of_the_whole():
    x, moved = torch.randn(12, 2, generator=torch.Generator().manual_seed(0)), []
    for parts in ([x], x.split([5, 4, 3])):
        model, settings = Mean(Space("real", (2,))), Training(clip=None)
        state = State.start(model, settings)
        model.loss = lambda b, p, model=model: Loss((b.x - model.mean).square().sum(1).mean())
        train_step(state, [Piece(Batch(part), len(part) / len(x)) for part in parts], settings)
        moved.append(model.mean.grad.clone())
    torch.testing.assert_close(*moved)  # float32 rounding of two orders of summation


def test_a_player_receives_no_gradient_but_its_own_and_later_players_see_it_moved():
    model, settings = Duel(Space("real", (2,))), Training(lr=0.1, clip=None, schedule="constant")
    state = State.start(model, settings)
    log = train_step(state, [Piece(Batch(torch.zeros(4, 2)))], settings)
    assert set(log) == {"critic", "generator"}
    assert not torch.equal(model.seen, torch.zeros(2))
    # the critic's loss held other.sum(), of gradient 1, but only the generator's own gradient is there
    torch.testing.assert_close(model.other.grad, 2 * (torch.zeros(2) - model.seen))


def test_average_is_the_exponential_one_with_warm_up():
    a, b = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
    a.weight.data.fill_(0.0)
    b.weight.data.fill_(1.0)
    Follower(a, b).follow(0.999, step=0)  # decay min(.999, 1/10)
    assert a.weight.item() == pytest.approx(0.9)
    Follower(a, b).follow(0.999, step=100_000)
    assert a.weight.item() == pytest.approx(0.9 + 0.001 * 0.1)


def test_rates():
    cosine = Training(lr=2.0, warmup=10, schedule="cosine")
    assert rate(Progress(0, 110), cosine) == pytest.approx(0.2)
    assert rate(Progress(10, 110), cosine) == pytest.approx(2.0)
    assert rate(Progress(60, 110), cosine) == pytest.approx(1.0)
    assert rate(Progress(55, 110), Training(lr=2.0, schedule="linear")) == pytest.approx(1.0)
    assert rate(Progress(60, 110), Training(lr=2.0, warmup=10, final=0.1)) == pytest.approx(1.1)
    assert rate(Progress(110, 110), Training(lr=2.0, warmup=10, final=0.1)) == pytest.approx(0.2)
    assert rate(Progress(99, 110), Training(lr=2.0, schedule="constant")) == 2.0


def test_streams_are_functions_of_their_keys():
    assert seed_of("a", 1) != seed_of("a", 2) != seed_of("b", 2)
    assert seed_of("a", 11) != seed_of("a1", 1)
    x = torch.rand(3, generator=generator("cpu", "k", 1))
    assert torch.equal(x, torch.rand(3, generator=generator("cpu", "k", 1)))
    assert [(c.start, c.stop) for c in chunks(10, 4, "cpu", 0)] == [(0, 4), (4, 8), (8, 10)]


@pytest.mark.parametrize(("dims", "chunk"), [(2, 512), (16, 512), (17, 256), (64, 128), (65, 64), (784, 64)])
def test_small_examples_are_sampled_many_at_a_time(dims, chunk):
    x = torch.randn(40, dims, generator=generator("cpu", "chunk"))
    assert pangen.fit("independent", x).recipe.chunk == chunk


def test_a_run_leaves_the_global_random_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    pangen.fit("mean", vectors(), steps=5)
    assert torch.equal(torch.rand(1), expected)


def test_a_budget_is_the_run_with_the_steps_it_measured():
    run = pangen.fit("mean", vectors(), budget=0.5)
    settings = run.recipe.training
    assert settings.steps > 10
    again = pangen.fit(
        "mean", vectors(), steps=settings.steps, recipe={"training.validations": settings.validations}
    )
    assert torch.equal(run.model.mean, again.model.mean)


def test_best_weights_are_kept_not_the_last(tmp_path):
    """A rate so large that the mean overshoots: the kept score is the least of all validations."""
    settings = {"training.lr": 3.0, "training.schedule": "constant"}
    run = pangen.fit("mean", vectors(), steps=40, recipe=settings, out=tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / METRICS).read_text().splitlines()]
    scores = {row["step"]: row["validation nats"] for row in rows if "validation nats" in row}
    best = min(scores, key=scores.__getitem__)
    assert run.card["best"] == {"step": best, "score": scores[best]}
    assert scores[best] < scores[40]
    x = run.codec.encode(vectors().validation.x).x
    assert -run.model.log_prob(x).nats.mean().item() == pytest.approx(scores[best], rel=1e-5)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_interrupted_and_resumed_is_undisturbed(tmp_path, ema):
    """Ctrl-C after 25 of 60 steps leaves a usable run; resuming ends at the very same weights."""
    recipe = {"training.ema": ema, "training.validations": 6}
    whole = pangen.fit("mean", vectors(), steps=60, recipe=recipe)

    def interrupt(event):
        if event.step == 25:
            signal.raise_signal(signal.SIGINT)

    part = pangen.fit("mean", vectors(), steps=60, recipe=recipe, out=tmp_path / "run", report=interrupt)
    assert part.card["state"] == "interrupted"
    assert part.card["steps"] == 25
    assert load_run(tmp_path / "run").sample(3).shape == (3, 2)
    done = pangen.fit("mean", vectors(), out=tmp_path / "run", resume=True)
    assert done.card["state"] == "complete"
    assert torch.equal(done.model.mean, whole.model.mean)
    assert done.card["best"] == whole.card["best"]
    rows = [json.loads(line) for line in (tmp_path / "run" / METRICS).read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 61))
    with pytest.raises(PangenError, match="complete"):
        pangen.fit("mean", vectors(), out=tmp_path / "run", resume=True)


def test_checkpoint_holds_tensors_and_numbers_only(tmp_path):
    pangen.fit("duel", vectors(), steps=4, out=tmp_path / "run")
    tensors, facts = read_tensors(tmp_path / "run" / CHECKPOINT)
    assert {
        "model/mean",
        "best/mean",
        "optimizer/critic/0/exp_avg",
        "optimizer/generator/0/exp_avg_sq",
    } <= set(tensors)
    assert facts["step"] == 4


def test_a_loss_that_is_never_finite_leaves_the_start(tmp_path):
    with pytest.raises(PangenError, match="step 0"):
        pangen.fit("mean", vectors(), steps=40, out=tmp_path / "run", recipe={"model.explode": 0})
    run = load_run(tmp_path / "run")
    assert run.card["best"] is None
    assert torch.equal(run.model.mean, torch.zeros(2))


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_weights(tmp_path):
    with pytest.raises(PangenError, match="became inf at step 20"):
        pangen.fit("mean", vectors(), steps=40, out=tmp_path / "run", recipe={"model.explode": 20})
    run = load_run(tmp_path / "run")
    assert run.card["state"] == "failed"
    assert run.model.mean.isfinite().all()
    assert run.card["best"]["step"] <= 20


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"training.lrr": 1}, "training.lr"),
        ({"model.explod": 1}, "model.explode"),
        ({"modl": {}}, "unknown recipe field 'modl'"),
        ({"model.explode": "soon"}, "model.explode"),
        ({"training.lr": -1.0}, "out of range"),
        ({"training.schedule": "sometimes"}, "training.schedule"),
    ],
)
def test_a_wrong_recipe_field_is_one_sentence(change, words):
    with pytest.raises(PangenError) as error:
        pangen.fit("mean", vectors(), recipe=change)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_an_existing_folder_is_not_overwritten(tmp_path):
    pangen.fit("mean", vectors(), steps=2, out=tmp_path / "run")
    with pytest.raises(PangenError, match="already exists"):
        pangen.fit("mean", vectors(), steps=2, out=tmp_path / "run")


@pytest.mark.parametrize("name", ["card.json", "codec.json", "recipe.json", "weights.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_damaged_run_is_one_sentence_naming_the_file(tmp_path, name, damage):
    pangen.fit("mean", vectors(), steps=2, out=tmp_path / "run")
    file = tmp_path / "run" / name
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(PangenError, match=name.replace(".", r"\.")) as error:
        load_run(tmp_path / "run")
    assert "\n" not in str(error.value)
