"""What a training that breaks leaves behind, and what it says; and likelihoods that hold on training data alone."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

import pangen
from pangen.codecs import Standardise
from pangen.data import Data, Split
from pangen.data.batches import Batches
from pangen.errors import PangenError
from pangen.folder import METRICS
from pangen.model import GenerativeModel
from pangen.run import load_run
from pangen.space import Batch, LogProb, Loss, Progress, Space
from pangen.training import fit
from pangen.training.alarm import held_out_warnings
from pangen.training.diagnose import first_not_finite


def normal(n: int = 200, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))


def vectors(held_out: torch.Tensor | None = None) -> Data:
    held = normal(seed=1) if held_out is None else held_out
    return Data("vectors", "vector", Split(normal()), Split(held), Split(normal(seed=2)))


def bits() -> Data:
    noise = torch.rand(3, 60, 1, 4, 4, generator=torch.Generator().manual_seed(0)) < 0.3
    return Data("bits", "image", *[Split(x.to(torch.uint8)) for x in noise], levels=2)


class Two(GenerativeModel):
    """Two layers, of which a test breaks one; a standard normal as its density."""

    def __init__(self, space: Space) -> None:
        super().__init__(space)
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)

    def loss(self, batch, progress):
        return Loss(self.second(self.first(batch.x).tanh()).square().mean())

    def log_prob(self, x, y=None, *, generator=None):
        return LogProb(-0.5 * x.square().sum(1), "exact")


def blame(model: GenerativeModel, x: torch.Tensor) -> str:
    return first_not_finite(model, Batch(x), Progress(0, 1))


def test_the_layer_that_broke_is_named():
    model, x = Two(Space("real", (2,))), normal(8)
    infinite = nn.Linear(2, 2)
    infinite.forward = lambda h: h / 0
    model.second = infinite
    assert blame(model, x) == "in what the layer second (Linear) puts out"


def test_weights_that_broke_are_named():
    model = Two(Space("real", (2,)))
    model.second.bias.data[1] = torch.nan
    assert blame(model, normal(8)) == "in the weights second.bias"


def test_a_gradient_that_broke_is_named():
    """sqrt at 0 is finite, and its slope is not."""
    model = Two(Space("real", (2,)))
    model.loss = lambda b, p: Loss(model.second(b.x * 0).mul(0).add(0).sum().sqrt() + model.first.bias.sum())
    assert blame(model, normal(8)) == "in the gradient of second.bias"


def test_a_loss_that_broke_by_itself_is_named():
    model = Two(Space("real", (2,)))
    model.loss = lambda b, p: Loss(model.first(b.x).sum() / 0)
    assert blame(model, normal(8)) == "in the loss of the model itself"


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("realnvp", {"training.lr": 1e6, "training.warmup": 1_000_000, "training.schedule": "constant"}),
        ("rbm", {"training.lr": 1e38}),
    ],
)
def test_a_huge_rate_ends_in_one_sentence_and_leaves_the_best_weights(name, recipe, tmp_path):
    """A validation was passed after the first step: those weights sample and can be scored."""
    data = bits() if name == "rbm" else vectors()
    recipe = {"training.validations": 40, "training.ema": 0.0, **recipe}
    with pytest.raises(PangenError, match="good weights are kept") as error:
        pangen.fit(name, data, steps=40, out=tmp_path / "run", device="cpu", recipe=recipe)
    assert "\n" not in str(error.value)
    assert "step" in str(error.value)
    run = load_run(tmp_path / "run", device="cpu")
    assert run.card["state"] == "failed"
    assert run.card["best"]["step"] >= 1
    assert all(v.isfinite().all() for v in run.model.state_dict().values())
    assert len(run.sample(3)) == 3
    assert run.log_prob(data.test.x[:4]).nats.shape == (4,)


@pytest.mark.parametrize("name", ["realnvp", "vae", "gan"])
def test_a_training_that_breaks_before_any_validation_leaves_its_start(name, tmp_path):
    recipe = {"training.lr": 1e30, "training.validations": 1}
    with pytest.raises(PangenError, match="weights of the start are kept"):
        pangen.fit(name, vectors(), steps=40, out=tmp_path / "run", device="cpu", recipe=recipe)
    run = load_run(tmp_path / "run", device="cpu")
    assert run.card["best"] is None
    assert run.sample(3).isfinite().all()


def test_a_budget_is_measured_even_where_the_training_breaks(tmp_path):
    recipe = {"training.lr": 1e30}
    with pytest.raises(PangenError, match="weights of the start"):
        pangen.fit("realnvp", vectors(), budget=0.5, out=tmp_path / "run", device="cpu", recipe=recipe)
    assert load_run(tmp_path / "run", device="cpu").sample(3).isfinite().all()


def test_a_score_that_is_not_finite_is_never_the_best(tmp_path, monkeypatch):
    scores = iter([float("nan"), 3.0, float("-inf"), 2.0, float("nan")])
    monkeypatch.setattr(fit, "validation_score", lambda *_: fit.Score("nats", next(scores)))
    run = pangen.fit(
        "realnvp", vectors(), steps=5, device="cpu", recipe={"training.validations": 5}, out=tmp_path / "run"
    )
    assert run.card["best"] == {"step": 4, "score": 2.0}


def warnings(held_out: torch.Tensor, rise: float = 0.0) -> list[str]:
    """Of a standard normal; half its squares have an interquartile range of about 1.1 nats."""
    codec = Standardise(mean=(0.0, 0.0), std=(1.0, 1.0))
    seen, held = (Batches(Split(x), codec, 16, 0, "cpu") for x in (normal(), held_out))
    return held_out_warnings(Two(Space("real", (2,))), seen, held, examples=1000, rise=rise)


def test_no_alarm_where_validation_is_like_training():
    assert warnings(normal(seed=1)) == []
    assert warnings(1.2 * normal(seed=1), rise=1.0) == []


def test_alarms_say_what_is_wrong():
    (gap,) = warnings(0.3 * normal(seed=1) + 2.2)
    assert "more than training examples" in gap
    far = normal(seed=1)
    far[:20] = 15.0
    gap, tail = warnings(far)
    assert "more than training" in gap
    assert "of 128 validation examples are improbable beyond all measure" in tail
    far[:] = torch.inf
    assert warnings(far) == ["log-probability is not finite on 128 of 128 validation examples."]
    (fell,) = warnings(normal(seed=1), rise=50.0)
    assert "fell by 50 nats after the step" in fell


def test_tails_that_training_has_as_well_are_no_alarm():
    codec = Standardise(mean=(0.0, 0.0), std=(1.0, 1.0))
    x = normal()
    x[:20] = 15.0
    both = Batches(Split(x), codec, 16, 0, "cpu")
    assert held_out_warnings(Two(Space("real", (2,))), both, both, examples=1000, rise=0.0) == []


def test_an_alarm_is_in_the_card_and_in_the_log(tmp_path):
    run = pangen.fit("realnvp", vectors(normal(seed=1) + 60), steps=5, device="cpu", out=tmp_path / "run")
    assert any("more than training examples" in text for text in run.card["warnings"])
    assert load_run(tmp_path / "run", device="cpu").card["warnings"] == run.card["warnings"]
    rows = [json.loads(line) for line in (tmp_path / "run" / METRICS).read_text().splitlines()]
    assert rows[-1]["warnings"] == run.card["warnings"]
