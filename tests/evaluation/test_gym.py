"""Against a known law: regret, the test of samples, modes, broken twins, and the gym that sums them up."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation_fakes import normal_data

import pangen
from pangen.advice.evidence import measured_here
from pangen.cli.main import main
from pangen.codecs import accepts
from pangen.data.dataset import Data, Split
from pangen.data.known_truth import KNOWN_TRUTH
from pangen.data.known_truth.brackets import Brackets
from pangen.errors import PangenError
from pangen.evaluation import Judge, Stage
from pangen.evaluation import gym as gym_of
from pangen.evaluation.gym import LONG, MODELS, OWN_FORM, SETTINGS, SHORT, SOURCES, best_rows, regret_rows
from pangen.evaluation.known_truth import LAW_ROW, against_law
from pangen.evaluation.table import caught
from pangen.registry import entries, get
from pangen.rng import generator


def few(name: str, sizes: tuple[int, int, int] = (120, 40, 60)) -> Data:
    """Some examples of a known law."""
    law = KNOWN_TRUTH[name]()
    if law.modality == "series":
        return pangen.load_data(name)
    x = [law.sample(n, generator("cpu", "few", name, n)) for n in sizes]
    return Data(
        name, law.modality, *map(Split, x), levels=law.levels, truth=law, alphabet=law.alphabet, window=law.window,
        rate=law.rate, table=law.table,
    )  # fmt: skip


def test_the_null_distribution_is_that_of_draws_of_one_law():
    """p is at most .1 in a tenth of draws: of 60, 6 with a deviation of 2.3; and hardly ever of another law."""
    law = KNOWN_TRUTH["gaussians8"]()
    features = Judge(normal_data()).features
    p, shifted = [], []
    for i in range(60):
        x = law.sample(160, generator("cpu", "null", i))
        p.append(against_law(law, x[:80], x[80:], features, seed=i)["apart"]["p"])
        shifted.append(against_law(law, x[:80], x[80:] + 1.5, features, seed=i)["apart"]["p"])
    assert 1 <= sum(v <= 0.1 for v in p) <= 15
    assert sum(v <= 0.1 for v in shifted) > 55


def test_a_blur_within_the_modes_is_seen():
    """Noise twice as wide as a mode, a sixth of the whole: near neighbours tell."""
    law = KNOWN_TRUTH["gaussians8"]()
    features = Judge(normal_data()).features
    real, x = (law.sample(500, generator("cpu", "blur", i)) for i in range(2))
    blurred = x + 2 * law.std * torch.randn(500, 2, generator=generator("cpu", "blur"))
    sharp, blunt = (against_law(law, real, drawn, features)["apart"] for drawn in (x, blurred))
    assert sharp["z"] < 3
    assert blunt["z"] > 5
    assert blunt["p"] == 1 / 201


def twin(name: str, data: Data) -> tuple[Any, Any]:
    """A healthy run, and one that is broken."""

    def fit(model: str, **recipe: Any) -> Any:
        return pangen.fit(model, data, device="cpu", recipe=recipe)

    match name:
        case "gaussians8":
            broken = fit("mixture")
            broken.model.mean.add_(0.5)
            return fit("mixture"), broken
        case "bars-and-stripes":
            return fit("ngram"), fit("independent")
        case "markov-text":
            return fit("ngram"), fit("ngram", **{"model.order": 1})
        case "ar2":
            healthy, broken = (
                fit("arima", **{"model.order": [2, 0, 0]}),
                fit("arima", **{"model.order": [2, 0, 0]}),
            )
            broken.model.mu.add_(1.0)
            return healthy, broken


@pytest.mark.parametrize("name", ["gaussians8", "bars-and-stripes", "markov-text", "ar2"])
def test_a_broken_model_is_graded_worse_than_its_healthy_twin(name):
    if name == "ar2":
        pytest.importorskip("statsmodels")
    data = few(name, (300, 40, 120))
    judge = Judge(data, samples=120)
    healthy, broken = (judge.judge(run) for run in twin(name, data))
    gap = broken["regret"]["nats"] - healthy["regret"]["nats"]
    assert gap > 4 * math.hypot(broken["regret"]["stderr"], healthy["regret"]["stderr"])
    assert broken["against_law"]["apart"]["z"] > healthy["against_law"]["apart"]["z"] + 3
    if name == "bars-and-stripes":  # 16 fair coins against 30 images
        assert broken["regret"]["nats"] == pytest.approx(16 * math.log(2) - data.truth.entropy, abs=0.05)
        assert broken["against_law"]["impossible"] > 0.99
        assert broken["against_law"]["modes"]["found"] < healthy["against_law"]["modes"]["found"]


def test_the_interval_of_z_holds_most_of_other_draws():
    """Of one law as of two, a second draw is 1.96 sqrt 2 of its own deviations away at most, 95 times in 100."""
    law = KNOWN_TRUTH["gaussians8"]()
    features = Judge(normal_data()).features
    for shift in (0.0, 0.7):
        found = []
        for i in range(20):
            x = law.sample(160, generator("cpu", "z", i))
            found.append(against_law(law, x[:80], x[80:] + shift, features, seed=i)["apart"])
        mean = sum(one["z"] for one in found) / 20
        # the mean of 20 is known to a quarter of a deviation; 15 of 20 is three binomial errors below 95 %
        assert sum(one["interval"][0] <= mean <= one["interval"][1] for one in found) >= 15
        assert all(one["interval"][0] < one["z"] < one["interval"][1] for one in found)


class ShortBrackets(Brackets):
    window = 8


def test_copies_are_caught_as_long_as_a_law_has_more_examples_than_are_known_by_heart():
    """224 strings, of which a third of the unseen ones repeat 120; and 30 images, all of which everybody knows."""
    law = ShortBrackets()
    drawn = [law.sample(n, generator("cpu", "short", n)) for n in (120, 100, 101)]
    data = Data("short", "text", *map(Split, drawn), truth=law, alphabet=law.alphabet, window=8)
    rows = Judge(data, samples=120).yardsticks()
    assert 0.1 < rows[0]["near_copies"]["value"] < 0.9
    assert "near_copies" in rows[1]["caught_by"]
    assert caught({"baselines": rows}) == "5 of 5 cheats are told from real data by at least one measure."
    rows = Judge(few("bars-and-stripes", (300, 100, 100)), samples=100).yardsticks()
    assert "no_cheat" in rows[1]
    assert "4 of 4 cheats" in caught({"baselines": rows})
    assert "copies of the training set are no cheat here" in caught({"baselines": rows})


def test_copies_of_a_series_are_caught_though_it_moves_on():
    """What came later is no measure of nearness, but of equality it is."""
    rows = Judge(few("ar2", (300, 100, 100)), samples=100).yardsticks()
    assert [row["near_copies"]["value"] for row in rows[:2]] == [0, 1]
    assert "none" in rows[1]["membership"]
    assert "5 of 5 cheats" in caught({"baselines": rows})


@pytest.mark.parametrize(("name", "cheats"), [("gaussians25", 4), ("gaussians8", 5)])
def test_independent_values_are_no_cheat_where_the_law_is_their_product(name, cheats):
    """A grid of modes is a product, a ring of them is not."""
    rows = Judge(few(name, (2000, 500, 500)), samples=500).yardsticks()
    assert [row["model"] for row in rows if "no_cheat" in row] == ["independent values"] * (5 - cheats)
    assert f"{cheats} of {cheats} cheats" in caught({"baselines": rows})


@pytest.mark.parametrize("name", ["gaussians25", "templates", "brackets", "tones", "survey"])
def test_the_law_itself_scores_nothing_within_its_interval(name):
    row = Judge(few(name), samples=60).yardsticks()[-1]
    assert row["model"] == LAW_ROW
    assert row["regret"]["nats"] == row["regret"]["stderr"] == 0
    assert abs(row["surprise"]["nats"]) < 4 * row["surprise"]["stderr"]
    assert row["against_law"]["apart"]["p"] > 0.001
    assert row["against_law"]["impossible"] == 0


def test_a_model_that_rules_out_what_happens_has_no_regret_that_is_a_number():
    data = few("markov-text")
    run = pangen.fit("ngram", data, device="cpu")
    run.model.log_prob = lambda x, y=None, **how: pangen.space.LogProb(
        torch.full((len(x),), -math.inf), "exact"
    )
    row = pangen.evaluate(run, data)
    assert row["regret"] == {"none": "log-probability is not finite on 60 of 60 held-out examples"}
    json.dumps(row, allow_nan=False)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["pangen.evaluation.gym"], "load_data", few)


def test_the_gym_grades_every_source_with_the_models_that_accept_it(small, monkeypatch, tmp_path) -> None:
    monkeypatch.setitem(OWN_FORM, "gaussians8", ("kde",))  # quicker than the mixture, whose form it is
    stages: list[Stage] = []

    def go(sources: str) -> dict[str, Any]:
        stages.clear()
        return pangen.gym(
            sources, "independent,kde,ngram,gan", steps=3, out=tmp_path, device="cpu", report=stages.append
        )  # fmt: skip

    result = go("gaussians8,brackets")
    assert [source["name"] for source in result["sources"]] == ["gaussians8", "brackets"]
    plane, text = result["sources"]
    assert [row["model"] for row in plane["rows"]] == ["independent", "kde", "gan"]
    assert [row["model"] for row in text["rows"]] == ["ngram"]
    regrets = {row["model"]: row["regret"] for row in plane["rows"]}
    assert regrets["gan"] is None
    assert regrets["kde"] < regrets["independent"]
    assert plane["best"]["model"] == "independent"  # the other has the source's own form
    assert text["best"]["model"] == "ngram"
    assert {stage.model for stage in stages if not isinstance(stage.what, str)} == {"gaussians8 gan"}
    for header, rows in [*regret_rows(result), best_rows(result)]:
        assert all(len(row) == len(header) for row in rows)
    assert "gym:gaussians8,brackets" in result["command"]
    assert json.loads((tmp_path / "gym.json").read_text()) == json.loads(json.dumps(result))
    assert (tmp_path / "brackets" / "report.html").exists()
    again = go("gaussians8")
    assert not [stage for stage in stages if not isinstance(stage.what, str)]
    assert again["sources"][0]["rows"] == plane["rows"]


def test_the_command_prints_regrets_and_goes_on(
    small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "gym:checkerboard", "--models", "kde", "-o", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    for text in ("checkerboard", "kde", LAW_ROW, "of entropy", "report.html"):
        assert text in shown


@pytest.mark.parametrize(
    ("sources", "models", "message"),
    [
        ("moon", None, "did you mean 'moons'"),
        ("sound", "mixture", "accepted by mixture"),
        (None, "mixtrue", "did you mean 'mixture'"),
        (None, "", "no model to compare"),
    ],
)
def test_mistakes_are_told_at_once(small, sources, models, message):
    with pytest.raises(PangenError, match=message):
        gym_of(sources, models, steps=1)


def test_what_the_gym_takes_unasked_exists():
    assert set(MODELS) <= set(entries())
    assert set(OWN_FORM) <= set(SOURCES) == set(KNOWN_TRUTH)
    assert all(set(models) <= set(entries()) for models in OWN_FORM.values())
    assert set(LONG) <= set(SOURCES)
    takers = {}
    for name in SOURCES:
        data = few(name)
        takers[name] = [model for model in MODELS if accepts(get(model), data)]
    assert all(set(each) <= set(takers[name]) for name, each in LONG.items())
    # two cores: half an hour less what judging takes
    trained = sum(
        LONG.get(name, {}).get(model, SHORT)
        for name, models in takers.items()
        for model in models
        if "closed_form" not in get(model).capabilities
    )
    assert trained < 20 * 60


def test_some_models_train_longer_where_nobody_says_how_long(small, monkeypatch, tmp_path):
    monkeypatch.setattr(sys.modules["pangen.evaluation.gym"], "SHORT", 0.2)
    monkeypatch.setattr(sys.modules["pangen.evaluation.gym"], "LONG", {"ising4x4": {"made": 0.6}})
    monkeypatch.setitem(SETTINGS, "ising4x4", {"made": {"model.width": 20}})
    result = gym_of("ising4x4", "independent,made", out=tmp_path)
    lines = (tmp_path / "ising4x4" / "ledger.jsonl").read_text().splitlines()
    ledger = [json.loads(line) for line in lines]
    budgets = {line["model"]: line["budget"] for line in ledger}
    assert (budgets["made"], budgets["independent"]) == (0.6, 0.2)
    assert "for 0.2 seconds, made for 0.6, with" in (tmp_path / "ising4x4" / "report.html").read_text()
    assert {json.dumps(line.get("settings")) for line in ledger if line["model"] == "made"} == {
        '{"model.width": 20}'
    }
    assert not [row for row in measured_here([tmp_path / "ising4x4"]) if row.model == "made"]
    assert "--budget" not in result["command"]
    assert {line["command"] for line in ledger} == {result["command"]}
    z = next(line for line in ledger if (line["model"], line["measure"]) == ("made", "apart"))
    assert z["interval"][0] < z["value"] < z["interval"][1]
    again = gym_of(models="made", redo=True, out=tmp_path)
    assert (again["redo"], len(again["sources"])) == ({"identical": ["ising4x4/made-0"], "different": []}, 1)
    for how, message in (({}, "name that of the gym"), ({"out": tmp_path / "other"}, "holds no runs")):
        with pytest.raises(PangenError, match=message):
            gym_of(redo=True, **how)
