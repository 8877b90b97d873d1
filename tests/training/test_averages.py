"""Averages of the weights: power functions, their snapshots, and any other made of them afterwards."""

from __future__ import annotations

import json
import signal

import numpy as np
import pytest
import torch
from torch import nn

import pangen
from pangen.cli.main import main
from pangen.data import Data, Split
from pangen.errors import PangenError
from pangen.run import load_run
from pangen.training.averages import (
    KEPT,
    LONGEST,
    Average,
    Profile,
    beta,
    follow,
    gamma_of,
    mixture,
    save_snapshot,
    sigma_rel_of,
    snapshots,
    start_powers,
)

STEPS, SNAPSHOTS = 320, 16


def vectors() -> Data:
    noise = torch.randn(3, 80, 2, generator=torch.Generator().manual_seed(0))
    return Data("vectors", "vector", *[Split(x) for x in noise])


def weights_over_time(T: int) -> np.ndarray:
    """A path `(T, 3)` as of training: it falls and swings, it walks at random, and it stands still."""
    t, noise = np.arange(1, T + 1) / T, np.random.default_rng(0)
    return np.stack(
        [np.exp(-3 * t) + 0.1 * np.sin(40 * t), noise.normal(size=T).cumsum() / T**0.5, 0 * t + 5], 1
    )


def direct(path: np.ndarray, gamma: float) -> np.ndarray:
    """The average in which the i-th of T weights has the integral of its profile from (i - 1) / T to i / T."""
    ends = np.arange(len(path) + 1) / len(path)
    return np.diff(ends ** (gamma + 1)) @ path


class Path(nn.Module):
    """Weights that go along a path, and a buffer that says where they are."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(3, dtype=torch.float64))
        self.register_buffer("place", torch.zeros(()))


def walked(folder, path: np.ndarray) -> dict:
    model = Path()
    powers = start_powers(model)
    for t, w in enumerate(path, 1):
        model.w.data.copy_(torch.from_numpy(w))
        model.place.fill_(t)
        follow(powers, model, t)
        if t % (len(path) // SNAPSHOTS) == 0:
            save_snapshot(folder, powers, model, t)
    return powers


def test_sigma_rel_is_the_standard_deviation_of_the_profile():
    """Against quadrature of (gamma + 1) u^gamma on [0, 1]; and the paper's gamma for 0.05 and 0.10."""
    u = (np.arange(200_000) + 0.5) / 200_000
    for gamma in (0.0, 1.0, 6.94, 16.97):
        p = (gamma + 1) * u**gamma / len(u)
        std = float(np.sqrt(p @ u**2 - (p @ u) ** 2))
        assert sigma_rel_of(gamma) == pytest.approx(std, abs=1e-6)  # the midpoint rule's error
    for sigma_rel in (0.01, 0.05, 0.1, 0.28):
        assert sigma_rel_of(gamma_of(sigma_rel)) == pytest.approx(sigma_rel, rel=1e-9)
    assert gamma_of(0.05) == pytest.approx(16.97, abs=5e-3)
    assert gamma_of(0.10) == pytest.approx(6.94, abs=5e-3)
    assert sigma_rel_of(0.0) == pytest.approx(LONGEST)


def test_recursion_is_the_weighted_sum_over_steps():
    path = weights_over_time(50)
    for gamma in (0.5, 7.0, 17.0):
        average = np.zeros(3)
        for t, w in enumerate(path, 1):
            average = beta(gamma, t) * average + (1 - beta(gamma, t)) * w
        np.testing.assert_allclose(average, direct(path, gamma), rtol=1e-12)


def test_products_of_profiles_are_their_integrals():
    t = (np.arange(100_000) + 0.5) / 100_000
    for a, b in ((Profile(0.05, 0.4), Profile(0.1, 1.0)), (Profile(0.2, 1.0), Profile(0.08, 0.7))):
        p, q = (
            np.where(t < x.end, (g + 1) * t**g / x.end ** (g + 1), 0)
            for x, g in ((a, gamma_of(a.sigma_rel)), (b, gamma_of(b.sigma_rel)))
        )
        assert a.dot(b) == b.dot(a) == pytest.approx(float((p * q).mean()), rel=1e-3)  # a jump at one end


def test_followed_averages_are_the_direct_ones(tmp_path):
    path = weights_over_time(STEPS)
    powers = walked(tmp_path, path)
    for sigma_rel in KEPT:
        np.testing.assert_allclose(powers[sigma_rel]["w"], direct(path, gamma_of(sigma_rel)), rtol=1e-10)


@pytest.mark.parametrize("sigma_rel", [0.04, 0.08, 0.15, 0.2])
def test_an_average_made_afterwards_is_the_one_tracked_directly(tmp_path, sigma_rel):
    path = weights_over_time(STEPS)
    walked(tmp_path, path)
    made = Average.of(tmp_path, sigma_rel)
    found, wanted = made.weights()["w"].numpy(), direct(path, gamma_of(sigma_rel))
    assert np.linalg.norm(found[:2] - wanted[:2]) / np.linalg.norm(wanted[:2]) < 1e-2
    assert found[2] == pytest.approx(5.0, rel=1e-12)  # what stands still stays
    assert made.error < 0.05
    assert made.weights()["place"] == STEPS  # not averaged


@pytest.mark.parametrize("sigma_rel", KEPT)
def test_a_kept_average_is_found_again_as_it_is(tmp_path, sigma_rel):
    powers = walked(tmp_path, weights_over_time(STEPS))
    made = Average.of(tmp_path, sigma_rel)
    torch.testing.assert_close(made.weights()["w"], powers[sigma_rel]["w"], rtol=1e-9, atol=0)
    assert made.error < 1e-6


def test_more_snapshots_come_nearer():
    errors = [
        mixture(Profile(0.15, 1.0), [Profile(s, (i + 1) / n) for i in range(n) for s in KEPT])[1]
        for n in (4, 8, 16)
    ]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_resumed_snapshots_are_those_of_an_undisturbed_training(tmp_path):
    recipe = {"training.snapshots": 4, "training.validations": 4}

    def interrupt(event):
        if event.step == 7:
            signal.raise_signal(signal.SIGINT)

    settings = {"steps": 12, "recipe": recipe}
    pangen.fit("nice", vectors(), out=tmp_path / "whole", **settings)
    pangen.fit("nice", vectors(), out=tmp_path / "part", report=interrupt, **settings)
    assert snapshots(tmp_path / "part") == [3, 6]
    pangen.fit("nice", vectors(), out=tmp_path / "part", resume=True)
    for step in (3, 6, 9, 12):
        name = f"snapshots/{step}.safetensors"
        assert (tmp_path / "part" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_average_searches_and_makes_a_run(tmp_path, capsys):
    data = vectors()
    run = pangen.fit("nice", data, out=tmp_path / "run", steps=24, recipe={"training.snapshots": 8})
    made = pangen.average(run, data=data, out=tmp_path / "made")
    facts = made.card["average"]
    scores = {row["sigma_rel"]: row["score"] for row in facts["scores"]}
    assert set(KEPT) <= set(scores)
    assert facts["sigma_rel"] == min(scores, key=scores.get)
    again = load_run(tmp_path / "made")
    x = again.codec.encode(data.validation.x).x
    assert -float(again.model.log_prob(x).nats.detach().mean()) == pytest.approx(
        scores[facts["sigma_rel"]], rel=1e-5
    )
    assert again.sample(3).shape == (3, 2)
    # weights of the average kept at the end, bit for bit
    kept = pangen.average(run, 0.05, data=data)
    wanted = Average.of(tmp_path / "run", 0.05).weights()
    assert all(torch.equal(kept.model.state_dict()[k], v) for k, v in wanted.items())
    with pytest.raises(PangenError, match="already exists"):
        pangen.average(run, 0.05, data=data, out=tmp_path / "made")


def test_mistakes_are_one_sentence(tmp_path, capsys):
    data = vectors()
    run = pangen.fit("nice", data, out=tmp_path / "few", steps=8, recipe={"training.snapshots": 2})
    plain = pangen.fit("nice", data, out=tmp_path / "none", steps=2)
    for found, sigma_rel, words in (
        (plain, 0.1, "no snapshots"),
        (run, 0.5, "out of range"),
        (run, 0.01, "2 snapshots cannot tell"),
    ):
        with pytest.raises(PangenError, match=words):
            pangen.average(found, sigma_rel, data=data)
    with pytest.raises(PangenError, match="folder"):
        pangen.fit("nice", data, steps=2, recipe={"training.snapshots": 2})
    assert main(["average", str(tmp_path / "none")]) == 2
    assert "--training.snapshots" in capsys.readouterr().err


def test_the_command_prints_a_table_or_json(tmp_path, capsys):
    fit = ["fit", "nice", "moons", "--steps", "8", "--training.snapshots", "4", "-o", str(tmp_path / "run")]
    assert main(fit) == 0
    capsys.readouterr()
    assert main(["average", str(tmp_path / "run"), "--sigma-rel", "0.08"]) == 0
    out = capsys.readouterr().out
    assert "sigma_rel" in out
    assert "run-average" in out
    assert main(["average", str(tmp_path / "run"), "--json", "-o", str(tmp_path / "b")]) == 0
    assert json.loads(capsys.readouterr().out)["average"]["scores"]
