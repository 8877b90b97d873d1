"""Losses scaled for float16: small gradients arrive, large ones cost a step and no more, and all of it is remembered."""

from __future__ import annotations

import json
import sys
import types
from contextlib import suppress
from pathlib import Path

import pytest
import torch

import pangen
from pangen import registry
from pangen.data import Data, Split
from pangen.data.batches import Piece
from pangen.errors import DivergedError, PangenError
from pangen.files import read_json, read_tensors
from pangen.folder import CHECKPOINT, METRICS, WEIGHTS
from pangen.model import GenerativeModel
from pangen.networks.rounding import Precision, rounded
from pangen.recipes import Training
from pangen.space import Batch, Loss, Progress, Space
from pangen.training import fit
from pangen.training.loop import State, train_step
from pangen.training.scale import LONG, Scale

SPACE = Space("real", (2,))
FAINT = 1e-7
"""Loss, of which float16 has no gradient."""
LOUD = 1e6
"""Loss, whose gradient overflows until the scale has come down."""


class Copy(GenerativeModel):
    """Two layers that learn to put out what they read; the loss is as loud as is asked for, and louder in one step."""

    selection = "loss"

    def __init__(
        self, space: Space, *, precision: Precision = "float16", loud: float = 1.0, shout: int = -1
    ) -> None:
        super().__init__(space)
        self.net = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2))
        self.precision, self.loud, self.shout = precision, loud, shout

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        x = batch.x + 0.1 * torch.randn_like(batch.x)
        with rounded(self, x):
            out = self.net(x).to(x.dtype)
        volume = self.loud * (LOUD if progress.step == self.shout else 1.0)
        return Loss(volume * (out - batch.x).square().mean())

    def trajectory(self, n, y=None, *, generator):
        yield self.net(torch.randn(n, 2, generator=generator))


class Both(Copy):
    """The same for two players, of whom only the second is loud."""

    def __init__(self, space: Space, *, loud: float = 1.0) -> None:
        super().__init__(space, loud=loud)
        self.other = Copy(space)

    def players(self):
        return {"quiet": list(self.other.parameters()), "loud": list(self.net.parameters())}

    def steps(self, batch, progress):
        yield "quiet", self.other.loss(batch, progress)
        yield "loud", self.loss(batch, progress)


@pytest.fixture(autouse=True)
def _registered():
    module = types.ModuleType("a_plugin")
    module.Copy = Copy
    sys.modules["a_plugin"] = module
    known = registry.entries()
    known["copy"] = registry.Entry("copy", "test", "a_plugin:Copy", "s", "p", ("standardise",), "none")
    yield
    del known["copy"]


def examples(n: int = 32) -> torch.Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(0))


def started(settings: Training, kind: type[Copy] = Copy, **model: object) -> State:
    torch.manual_seed(0)
    return State.start(kind(SPACE, **model).train(), settings)


def step(state: State, settings: Training, pieces: int = 1) -> dict[str, float]:
    torch.manual_seed(state.step)
    parts = examples().tensor_split(pieces)
    return train_step(state, [Piece(Batch(part), 1 / pieces) for part in parts], settings)


def slopes(state: State) -> torch.Tensor:
    return torch.cat([w.grad.flatten() for w in state.model.parameters()])


@pytest.mark.parametrize("pieces", [1, 2])
def test_gradients_that_vanish_in_float16_arrive_by_a_scale(pieces):
    settings = Training(clip=None)
    full, half = (started(settings, precision=p, loud=FAINT) for p in ("full", "float16"))
    assert not full.scales
    torch.manual_seed(0)
    half.model.loss(Batch(examples()), Progress(0, 1)).total.backward()
    assert not slopes(half).any()
    for state in (full, half):
        step(state, settings, pieces)
    exact, found = slopes(full), slopes(half)
    assert exact.norm() > 0
    # float16 keeps 11 bits of a factor, and some are rounded one after the other
    assert (exact - found).norm() < 2**-9 * exact.norm()


def test_gradients_are_clipped_at_their_own_size():
    settings = Training(clip=1e-3)
    full, half = (started(settings, precision=p) for p in ("full", "float16"))
    for state in (full, half):
        step(state, settings)
        assert float(slopes(state).norm()) == pytest.approx(1e-3, rel=1e-3)
    assert (slopes(full) - slopes(half)).norm() < 2**-9 * 1e-3


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("clip", [None, 1.0])
def test_an_overflow_costs_a_step_and_moves_nothing(optimizer, clip):
    """Neither weights nor moments: what comes after is what would have come without it, at half the scale."""
    settings = Training(optimizer=optimizer, clip=clip, weight_decay=0.1, schedule="constant")
    state, other = started(settings, shout=0), started(settings)
    before = [w.detach().clone() for w in state.model.parameters()]
    log = step(state, settings)
    assert all(torch.equal(a, b) for a, b in zip(before, state.model.parameters(), strict=True))
    assert (log["model/scale"], log["model/skipped"]) == (2.0**15, 1)
    other.step, other.scales["model"] = 1, Scale(2.0**15)
    for each in (state, other):
        log = step(each, settings)
    for a, b in zip(state.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(a, b)
        moments, expected = state.optimizers["model"].state[a], other.optimizers["model"].state[b]
        assert moments.keys() == expected.keys()
        assert all(torch.equal(moments[k], expected[k]) for k in moments)
    assert not all(torch.equal(a, b) for a, b in zip(before, state.model.parameters(), strict=True))


def test_each_player_has_its_own():
    settings = Training()
    state = started(settings, Both, loud=LOUD)
    step(state, settings)
    assert {k: (v.value, v.taken) for k, v in state.scales.items()} == {
        "quiet": (2.0**16, 1),
        "loud": (2.0**15, 0),
    }


def test_a_scale_that_has_held_for_long_doubles():
    scale = Scale(8.0)
    for _ in range(LONG - 1):
        scale.grow()
    assert scale.value == 8
    scale.shrink("model", 0, 9)
    for _ in range(LONG):
        assert scale.value == 4
        scale.grow()
    assert (scale.value, scale.taken, scale.skipped) == (8, 2 * LONG - 1, 1)


def vectors(n: int = 100) -> Data:
    noise = torch.randn(3, n, 2, generator=torch.Generator().manual_seed(0)) + 5
    return Data("vectors", "vector", *[Split(x) for x in noise])


def fitted(folder: Path, steps: int, report=lambda event: None, **model: object) -> pangen.Run:
    recipe = {"training.batch": 16, "training.validations": 2, "training.ema": 0.9}
    recipe |= {f"model.{name}": value for name, value in model.items()}
    return pangen.fit("copy", vectors(), steps=steps, recipe=recipe, out=folder, device="cpu", report=report)


def test_overflows_are_survived_and_told(tmp_path):
    run = fitted(tmp_path / "run", 40, loud=LOUD / 100)
    assert run.card["state"] == "complete"
    rows = [json.loads(line) for line in (tmp_path / "run" / METRICS).read_text().splitlines()]
    last = [row for row in rows if "model/scale" in row][-1]
    assert 1 < last["model/skipped"] < 20
    assert last["model/scale"] == 2.0 ** (16 - last["model/skipped"])
    first, *_, end = [row["model"] for row in rows if "model" in row]
    assert end < first


def test_full_and_bfloat16_have_none(tmp_path):
    for precision in ("full", "bfloat16"):
        run = fitted(tmp_path / precision, 3, precision=precision)
        assert "scale" not in (run.path / METRICS).read_text()
        assert read_tensors(run.path / CHECKPOINT)[1]["scales"] == {}


@pytest.mark.parametrize(
    ("loud", "steps", "sentence"),
    [
        (1e20, 40, r"overflowed float16 at any scale at step 16, first in the gradient of net\S+; .*: set model.precision to"),
        (1e20, 5, "overflowed float16 in every step, .*: train longer, so that a scale is found"),
        (float("inf"), 5, "the loss of the model became inf at step 0.*: set model.precision to bfloat16 or full"),
    ],
)  # fmt: skip
def test_where_no_scale_helps_one_sentence_says_so(tmp_path, loud, steps, sentence):
    with pytest.raises(PangenError, match=sentence) as error:
        fitted(tmp_path / "run", steps, loud=loud)
    assert "\n" not in str(error.value)
    assert not isinstance(error.value, DivergedError)
    assert read_json(tmp_path / "run" / "card.json")["state"] == "failed"
    assert len(pangen.load_run(tmp_path / "run").sample(2)) == 2


class Kill(BaseException):
    """As sudden as a signal."""


def test_killed_and_resumed_is_undisturbed(tmp_path, monkeypatch):
    """An overflow before, another after: the scale, its age and its counts come back, and with them every bit."""
    monkeypatch.setattr(fit, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(fit, "CHECKPOINT_SHARE", float("inf"))

    def stop(event) -> None:
        if event.step == 4:
            raise Kill

    settings = {"loud": 300 * FAINT, "shout": 2}
    fitted(tmp_path / "whole", 8, **settings)
    with suppress(Kill):
        fitted(tmp_path / "killed", 8, stop, **settings)
    assert read_tensors(tmp_path / "killed" / CHECKPOINT)[1]["scales"]["model"]["taken"] < 5
    pangen.fit("copy", vectors(), out=tmp_path / "killed", resume=True, device="cpu")
    for name in (WEIGHTS, CHECKPOINT):
        (whole, facts), (resumed, again) = (
            read_tensors(tmp_path / run / name) for run in ("whole", "killed")
        )
        assert whole.keys() == resumed.keys()
        assert all(whole[k].numpy().tobytes() == v.numpy().tobytes() for k, v in resumed.items())
        if name == CHECKPOINT:
            assert facts["scales"] == again["scales"] != {}
