"""What is seen of samples and critic while a model trains, which alarms it raises, and when training may stop."""

from __future__ import annotations

import json

import pytest
import torch

import pangen
from pangen.data import Data, Split
from pangen.data.batches import Piece
from pangen.families.adversarial.gan import GAN
from pangen.folder import METRICS
from pangen.recipes import Training
from pangen.space import Batch, Progress, Space
from pangen.training import fit
from pangen.training.checkpoint import resume_state, save_checkpoint
from pangen.training.loop import State, train_step
from pangen.training.monitor import (
    BY_HEART,
    COVERED,
    ENERGY,
    RESOLUTION,
    SURE,
    alarms,
    critic_facts,
    gradient_norms,
    sample_facts,
    satisfied,
)


def normal(n: int = 500, seed: int = 0, dims: int = 4) -> torch.Tensor:
    return torch.randn(n, dims, generator=torch.Generator().manual_seed(seed))


# -- facts ------------------------------------------------------------------------------------------


def test_samples_of_the_same_law_cannot_be_told():
    found = sample_facts(normal(), normal(seed=1))
    assert found["coverage"] == pytest.approx(1 - 2**-5, abs=0.05)  # Naeem et al. 2020, Lemma 2
    assert found["recall"] > 0.9
    assert found["spread"] == pytest.approx(1.0, abs=0.1)
    assert found["two-sample accuracy"] == pytest.approx(0.5, abs=0.05)
    assert found["duplicates"] < 0.01


def test_a_copy_of_the_data_is_nearer_than_chance():
    """Each nearest neighbour is of the other set: accuracy 0."""
    found = sample_facts(normal(), normal() + 1e-6)
    assert found["two-sample accuracy"] == 0.0
    assert found["coverage"] == 1.0


@pytest.mark.parametrize(
    ("fake", "fact", "low", "high"),
    [
        (lambda: 1e-4 * normal(seed=1), "coverage", 0.0, 0.1),
        (lambda: 1e-4 * normal(seed=1), "duplicates", 0.97, 1.0),
        (lambda: 1e-4 * normal(seed=1), "spread", 0.0, 1e-6),
        (lambda: normal(seed=1)[:10].repeat(50, 1), "duplicates", 0.97, 1.0),
        (lambda: normal(seed=1) + 10, "two-sample accuracy", 1.0, 1.0),
        (lambda: normal(seed=1) + 10, "recall", 0.0, 0.0),
        (lambda: 3 * normal(seed=1), "spread", 8.0, 10.0),
    ],
)
def test_what_is_wrong_with_samples_shows(fake, fact, low, high):
    assert low <= sample_facts(normal(), fake())[fact] <= high


def test_half_of_two_modes_covers_half():
    modes = torch.cat([normal(250), normal(250, seed=1) + 20])
    assert sample_facts(modes, normal(seed=2))["coverage"] == pytest.approx(0.5, abs=0.05)


def test_a_single_held_out_example_is_no_mistake():
    found = sample_facts(normal(1), normal(1, seed=1))
    assert found["energy distance"] == pytest.approx(
        2 * float((normal(1) - normal(1, seed=1)).norm()), rel=1e-5
    )
    assert all(value == value for value in found.values())


def test_a_critic_that_knows_the_training_data_alone_is_seen():
    class Memory(GAN):
        def critic(self, x, y=None):
            return -torch.cdist(x, normal()).min(1).values

    model = Memory(Space("real", (4,)), width=16)
    found = critic_facts(model, Batch(normal()), Batch(normal(seed=1)), normal(seed=2))
    assert found["critic on training"] == 1.0
    assert found["critic on held-out"] == pytest.approx(0.5, abs=0.06)  # two standard errors of the ranks


def test_gradients_are_looked_at_without_a_step():
    model = GAN(Space("real", (4,)), width=16, noise=2).requires_grad_(False).eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    torch.manual_seed(3)
    found, after = gradient_norms(model, Batch(normal(16)), Progress(0, 1)), torch.rand(1)
    assert set(found) == {"gradient of the critic", "gradient of the generator"}
    assert all(norm > 0 for norm in found.values())
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(1))
    assert not model.training


@pytest.mark.parametrize("dims", [1, 2, 30])
def test_the_resolution_is_the_spread_of_the_distance_between_equal_laws(dims):
    generator = torch.Generator().manual_seed(dims)
    draws = [torch.randn(2, 60, dims, generator=generator) for _ in range(300)]
    found = [sample_facts(*pair) for pair in draws]
    seen = torch.tensor([facts[ENERGY] for facts in found]).std()
    told = torch.tensor([facts[RESOLUTION] for facts in found]).mean()
    assert 0.8 < float(told / seen) < 1.25  # the spread of a spread of 300 is 4 % of it, and its tail is long


# -- alarms -----------------------------------------------------------------------------------------

HEALTHY = {
    "coverage": 0.9, "recall": 0.9, "duplicates": 0.0, "spread": 1.0, "two-sample accuracy": 0.6,
    "critic on training": 0.7, "critic on held-out": 0.68, "gradient of the critic": 0.1,
    "gradient of the generator": 0.1,
}  # fmt: skip


def course(n: int = 12, last: int = 12, scores=None, **facts) -> list[dict[str, float]]:
    """Checks of a training that goes well but for the facts of its last ones."""
    return [
        {
            **HEALTHY,
            **(facts if i >= n - last else {}),
            "progress": i / n,
            "score": scores[i] if scores else 1 / (i + 1),
        }
        for i in range(n)
    ]


def test_a_healthy_training_raises_no_alarm():
    for n in range(13):
        assert alarms(course(12)[:n]) == {}


@pytest.mark.parametrize(
    ("kind", "facts"),
    [
        ("collapse", {"coverage": COVERED / 2}),
        ("collapse", {"spread": 0.1}),
        ("collapse", {"duplicates": 0.9}),
        ("overpowered", {"critic on training": SURE + 0.01, "critic on held-out": SURE}),
        ("by heart", {"critic on training": 0.9, "critic on held-out": 0.9 - 2 * BY_HEART}),
        ("misled", {"critic on training": 0.3, "critic on held-out": 0.3, "two-sample accuracy": 0.9}),
        ("still", {"gradient of the generator": 0.0}),
    ],
)
def test_what_lasts_raises_its_alarm_and_what_passes_does_not(kind, facts):
    assert list(alarms(course(last=3, **facts))) == [kind]
    assert alarms(course(last=2, **facts)) == {}
    assert alarms(course(**facts)[:3]) == {}  # early
    (sentence,) = alarms(course(last=3, **facts)).values()
    assert sentence.endswith(".")
    assert "\n" not in sentence


def test_players_in_circles_raise_an_alarm_and_steady_ones_do_not():
    assert list(alarms(course(8, scores=[1.0, 0.1, 0.9, 0.1, 0.8, 0.1, 0.9, 0.1]))) == ["circles"]
    assert alarms(course(8, scores=[1.0, 0.5, 0.6, 0.3, 0.35, 0.1, 0.12, 0.05])) == {}
    assert alarms(course(8, scores=[1.0, 0.1, 0.001, -0.001, 0.002, -0.002, 0.001, -0.001])) == {}  # noise


def test_enough_is_a_number_of_checks_in_a_row():
    good = course(4, **{"two-sample accuracy": 0.51})
    assert satisfied(good, 4)
    assert satisfied(course(4, last=2, **{"two-sample accuracy": 0.49}), 2)
    assert not satisfied(course(4, last=1, **{"two-sample accuracy": 0.49}), 2)
    assert not satisfied(good, 5)
    assert not satisfied(good, 0)


# -- in a training ----------------------------------------------------------------------------------


def vectors() -> Data:
    return Data("vectors", "vector", *[Split(normal(300, seed, 2)) for seed in range(3)])


def rows(path) -> list[dict]:
    return [json.loads(line) for line in (path / METRICS).read_text().splitlines()]


def test_alarms_reach_the_log_the_metrics_and_the_card(tmp_path, monkeypatch):
    """A generator whose samples are all the same; noted when it begins, and once."""
    monkeypatch.setattr(GAN, "generate", lambda self, w, y=None, generator=None: 0 * self.generator(w, y))
    said = []
    run = pangen.fit(
        "gan", vectors(), steps=16, out=tmp_path / "run", device="cpu",
        recipe={"training.validations": 8}, report=said.append,
    )  # fmt: skip
    warned = [event for event in said if event.warnings]
    assert len(warned) == 1
    assert any("collapsed" in sentence for sentence in warned[0].warnings)
    noted = [row for row in rows(tmp_path / "run") if "warnings" in row]
    assert noted[0]["step"] == warned[0].step
    assert any("collapsed" in sentence for sentence in run.card["warnings"])
    checks = [row for row in rows(tmp_path / "run") if "watched coverage" in row]
    assert len(checks) == 8
    assert checks[-1]["watched duplicates"] > 0.9
    assert "watched gradient of the critic" in checks[-1]


def test_training_stops_when_samples_cannot_be_told(tmp_path, monkeypatch):
    monkeypatch.setattr(fit, "satisfied", lambda checks, patience: patience == 2 and len(checks) >= 2)
    fields = {"training.validations": 8, "training.patience": 2}
    run = pangen.fit("gan", vectors(), steps=16, out=tmp_path / "run", device="cpu", recipe=fields)
    assert run.card["steps"] == 4
    assert run.card["state"] == "complete"


def test_what_was_seen_is_part_of_a_checkpoint(tmp_path):
    settings = Training(steps=4)
    model = GAN(Space("real", (4,)), width=16, noise=2)
    state = State.start(model, settings)
    train_step(state, [Piece(Batch(normal(16)))], settings)
    state.watched, state.step = course(2), 2_000_000  # trainings may be long
    save_checkpoint(tmp_path, state)
    again = State.start(GAN(Space("real", (4,)), width=16, noise=2), settings)
    assert resume_state(tmp_path, again) == []
    assert (again.watched, again.step) == (course(2), 2_000_000)


def test_of_scores_that_are_alike_the_later_weights_are_kept(monkeypatch):
    """The energy distance cannot tell them apart; the average of weights has seen more by then."""
    values = iter([3.0, 1.0, 1.05, 1.2, 1.08])
    monkeypatch.setattr(fit, "validation_score", lambda *_: fit.Score("energy distance", next(values), 0.1))
    run = pangen.fit("nice", "moons", steps=5, recipe={"training.validations": 5}, device="cpu")
    assert run.card["best"] == {"step": 5, "score": 1.08}
