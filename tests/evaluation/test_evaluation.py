"""What `evaluate` says of models whose quality is known."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from evaluation_fakes import NormalTruth, image_data, normal_data

import pangen
from pangen.data.dataset import Split
from pangen.errors import PangenError
from pangen.evaluation import Judge, evaluate, kind
from pangen.evaluation.judge import without_cost
from pangen.evaluation.likelihood import bits_per_dim
from pangen.evaluation.summary import mark_beaten, mark_caught
from pangen.evaluation.yardsticks import CHEATS


def test_bits_per_dim_of_a_uniform_model_is_log2_of_the_levels() -> None:
    assert bits_per_dim(-64 * math.log(17), 64) == pytest.approx(math.log2(17))


def test_an_evaluation_is_json_and_complete(digits_run: Path, quick_features: None) -> None:
    row = evaluate(digits_run, samples=400)
    json.dumps(row, allow_nan=False)
    assert (row["model"], row["family"], row["data"], row["split"], row["seed"]) == (
        "independent", "classical", "digits", "test", 0,
    )  # fmt: skip
    found = row["likelihood"]
    assert found["kind"] == "exact"
    assert found["dims"] == 64
    assert found["bits_per_dim"] == pytest.approx(-found["nats"] / (64 * math.log(2)))
    assert set(row["fidelity"]) == {
        "frechet", "precision", "recall", "density", "coverage", "frechet_extrapolated", "kernel_distance", "mmd",
        "sliced_wasserstein", "two_sample",
    }  # fmt: skip
    members = (row["membership"], row["membership_by_likelihood"])
    for entry in (*row["fidelity"].values(), row["classification"], row["near_copies"], *members):
        low, high = entry["interval"]
        assert low <= entry["value"] <= high
        assert entry["samples"] > 0
    for entry in row["fidelity"].values():
        assert entry["features"] == "digits classifier, 32-d"
        assert entry["reference"] == 300
        assert entry["reference_hash"] == row["protocol"]["reference_hash"]
    assert set(row["cost"]) >= {
        "parameters",
        "train_seconds",
        "sample_seconds_per_1000",
        "network_evaluations",
    }


def test_the_likelihood_is_marginal_and_the_conditional_one_stands_apart(quick_features: None) -> None:
    data = image_data()
    run = pangen.fit("independent", data, device="cpu")
    row = evaluate(run, data)
    n = len(data.test)
    joint = torch.stack([run.log_prob(data.test.x, torch.full((n,), c)).nats for c in range(3)], 1)
    marginal = (joint + run.codec.label_log_prior).logsumexp(1)
    given = joint[torch.arange(n), data.test.y]
    assert row["likelihood"]["nats"] == pytest.approx(float(marginal.mean()))
    assert row["likelihood"]["stderr"] == pytest.approx(float(marginal.std()) / math.sqrt(n))
    assert row["likelihood_given_label"]["nats"] == pytest.approx(float(given.mean()))


def test_the_oracle_has_no_regret_and_a_wrong_model_its_divergence() -> None:
    """KL(N(0, I) || N(0, 4 I)) in two dimensions is 2 (log 2 - 3/8) nats."""
    data = normal_data()
    measure = Judge(data)
    oracle = measure.judge(pangen.fit("oracle", data, device="cpu"))
    wide = measure.judge(pangen.fit("wide", data, device="cpu", recipe={"model.scale": 2.0}))
    assert oracle["regret"]["nats"] == pytest.approx(0, abs=1e-5)  # float32
    assert oracle["regret"]["stderr"] < 1e-5
    expected = 2 * (math.log(2) - 3 / 8)
    assert abs(wide["regret"]["nats"] - expected) < 4 * wide["regret"]["stderr"]
    assert oracle["likelihood"]["bits_per_dim"] is None  # densities have no bits
    assert oracle["fidelity"]["frechet"]["value"] < wide["fidelity"]["frechet"]["value"]


def test_a_model_that_memorises_is_flagged() -> None:
    data = normal_data()
    row = Judge(data).judge(pangen.fit("memory", data, device="cpu"))
    found, members = row["near_copies"], row["membership"]
    assert found["value"] == 1
    assert found["interval"][0] > 0.95
    assert found["held_out"] < 0.1
    assert found["closest"][0]["ratio"] == 0
    sample, *training = found["closest"][0]["shown"]
    assert sample == training[0]  # the evidence is the training example itself
    assert members["interval"][0] > 0.5


def test_every_cheat_on_images_is_given_away() -> None:
    held_out, copies, *others = Judge(pangen.load_data("digits")).yardsticks()
    assert (held_out["model"], copies["model"]) == ("held-out real data", "copies of the training set")
    assert [row["model"] for row in (copies, *others)] == list(CHEATS)
    assert "near_copies" in copies["caught_by"]
    assert all(row["caught_by"] for row in others)
    half, repeated, independent, noise = others
    assert half["fidelity"]["precision"]["value"] > 0.7
    assert repeated["fidelity"]["precision"]["value"] == 1
    assert independent["classification"]["value"] > 0.85  # what it is good at
    assert {"recall", "coverage"} <= set(repeated["caught_by"])
    assert "coverage" in half["caught_by"]
    assert {"frechet", "precision", "two_sample"} <= set(noise["caught_by"])
    assert copies["near_copies"]["value"] == 1
    assert held_out["near_copies"]["value"] < 0.05
    assert held_out["classification"]["value"] > 0.85
    for row in (held_out, copies):
        assert row["fidelity"]["frechet"]["value"] < 1  # of 32 standardised dimensions


def test_every_cheat_on_vectors_is_given_away() -> None:
    moons = pangen.load_data("moons")
    small = replace(
        moons,
        train=moons.train.first(800),
        validation=moons.validation.first(300),
        test=moons.test.first(300),
    )
    rows = Judge(small, samples=300).yardsticks()
    assert [row["model"] for row in rows[:6]] == ["held-out real data", *CHEATS]
    assert all(row["caught_by"] for row in rows[1:6])


def test_real_data_is_no_cheat() -> None:
    """Another draw of the law in the place of a cheat is given away by nothing."""
    data = normal_data()
    measure = Judge(data)
    fresh = NormalTruth().sample(150, torch.Generator().manual_seed(7))
    real, same = measure.measure(measure.held_out.x, None), measure.measure(fresh, None)
    assert mark_caught([real, same])[1]["caught_by"] == []


def test_what_cannot_be_measured_says_why(quick_features: None) -> None:
    data = image_data()
    measure = Judge(data)
    row = measure.judge(pangen.fit("codes", data, steps=2, device="cpu"))
    assert row["likelihood"] == {"none": "no density"}
    assert row["fidelity"] == {"none": "cannot be sampled: no prior"}
    memory = measure.judge(pangen.fit("memory", data, device="cpu"))
    assert memory["classification"] == {"none": "not conditional"}


def test_where_unseen_examples_equal_training_ones_copies_are_no_sign(quick_features: None) -> None:
    """All that is unseen is a copy: so many are to be expected, and that rate is stated."""
    data = image_data()
    same = replace(data, test=Split(data.train.x[:90], data.train.y[:90]))
    found = Judge(same).yardsticks()[1]["near_copies"]
    assert (found["value"], found["alpha"]) == (1.0, 1.0)


def test_network_evaluations_are_counted(digits_run: Path) -> None:
    from pangen.evaluation.cost import network_evaluations

    assert network_evaluations(pangen.load_run(digits_run).model) == 0
    assert network_evaluations(pangen.fit("mean", image_data(), steps=1, device="cpu").model) == 1


def test_the_same_seed_gives_the_same_evaluation(quick_features: None) -> None:
    data = image_data()
    run, measure = pangen.fit("independent", data, device="cpu"), Judge(data)
    one, two = measure.judge(run), measure.judge(run)
    assert without_cost(one) == without_cost(two)
    other = Judge(data, seed=1).judge(run)
    assert one["fidelity"]["frechet"]["value"] != other["fidelity"]["frechet"]["value"]


def test_changed_data_is_refused(digits_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pangen.load_data("digits")
    changed = replace(data, test=data.test.first(200))
    monkeypatch.setattr(kind, "load_data", lambda name, **options: changed)
    with pytest.raises(PangenError, match="'digits' has changed"):
        evaluate(digits_run)


def test_data_of_another_kind_is_refused(digits_run: Path) -> None:
    with pytest.raises(PangenError, match=r"shape \(1, 8, 8\)"):
        evaluate(digits_run, image_data())
    with pytest.raises(PangenError, match="vector"):
        evaluate(digits_run, normal_data())


@pytest.mark.parametrize(("how", "message"), [({"split": "tset"}, "'test'"), ({"samples": 1}, "at least 2")])
def test_bad_arguments_are_refused(digits_run: Path, how: dict, message: str) -> None:
    with pytest.raises(PangenError, match=message):
        evaluate(digits_run, **how)


def test_samples_that_are_not_numbers_are_refused() -> None:
    data = normal_data()
    run = pangen.fit("oracle", data, device="cpu", recipe={"model.scale": math.inf})
    with pytest.raises(PangenError, match="not finite"):
        Judge(data).measure(run.sample(100), None)


def test_losers_are_marked() -> None:
    def row(model: str, family: str, nats: float, distance: float, seed: int = 0) -> dict:
        fidelity = {"frechet": {"value": distance}}
        return {
            "model": model,
            "family": family,
            "seed": seed,
            "likelihood": {"nats": nats},
            "fidelity": fidelity,
        }

    rows = [
        row("simple", "classical", -10, 2.0),
        row("simple", "classical", -1, 0.1, seed=1),
        row("deep", "flow", -12, 1.0),
        {"model": "gone", "family": "flow", "seed": 0, "failed": "x"},
    ]
    assert mark_beaten(rows)[2]["beaten_by"] == {"likelihood": ["simple"], "frechet": []}
    assert "beaten_by" not in rows[0]
