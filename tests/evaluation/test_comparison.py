"""`compare`: failures are rows, interruptions are continued, and a redo is identical."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from evaluation_fakes import image_data, normal_data, quick_fakes

from pangen.errors import PangenError
from pangen.evaluation import Stage, compare, table_rows
from pangen.evaluation.judge import without_cost
from pangen.evaluation.yardsticks import CHEATS, REAL_ROW

pytestmark = pytest.mark.usefixtures("quick_features")
MODELS = ("independent", "mean", "broken", "buggy", "codes")


def trained(stages: list[Stage]) -> list[str]:
    """Models that took a training step."""
    return list(dict.fromkeys(s.model for s in stages if not isinstance(s.what, str)))


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("comparison") / "rows"
    with quick_fakes():
        return out, compare(image_data(), MODELS, steps=12, out=out, device="cpu")


def test_a_failure_is_a_row_and_the_rest_goes_on(comparison: tuple[Path, dict[str, Any]]) -> None:
    _, result = comparison
    assert [row["model"] for row in result["rows"]] == list(MODELS)
    failed = {row["model"]: row["failed"] for row in result["rows"] if "failed" in row}
    assert set(failed) == {"broken", "buggy"}
    assert "became nan at step 3" in failed["broken"]
    assert failed["buggy"] == "IndexError: row 7"
    assert [row["model"] for row in result["baselines"]] == [REAL_ROW, *CHEATS]
    json.dumps(result, allow_nan=False)


def test_the_folder_holds_everything(comparison: tuple[Path, dict[str, Any]]) -> None:
    out, result = comparison
    assert json.loads((out / "compare.json").read_text()) == json.loads(json.dumps(result))
    for name in ("independent", "mean", "codes"):
        assert (out / "runs" / f"{name}-0" / "weights.safetensors").exists()
        kept = json.loads((out / "runs" / f"{name}-0.json").read_text())
        assert kept["model"] == name
    assert not (out / "runs" / "broken-0.json").exists()


def test_the_table_has_a_cell_for_every_column(comparison: tuple[Path, dict[str, Any]]) -> None:
    header, rows = table_rows(comparison[1])
    assert all(len(row) == len(header) for row in rows)
    assert [row[0] for row in rows] == [*MODELS, REAL_ROW, *CHEATS]
    assert rows[2][2].startswith("failed: ")


class _Balanced(HTMLParser):
    """Checks that elements close in order, and collects what they refer to."""

    VOID = ("meta", "img", "br", "path", "use", "rect", "stop", "circle", "line")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.refers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.refers += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.refers += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_report_needs_nothing_beside_it(comparison: tuple[Path, dict[str, Any]]) -> None:
    out, result = comparison
    page = (out / "report.html").read_text()
    found = _Balanced()
    found.feed(page)
    assert found.open == []
    assert all(link.startswith(("data:", "#")) for link in found.refers)
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)
    for text in (*MODELS, result["command"], "IndexError: row 7", "implicit density", "rows classifier"):
        assert text in page
    # real data twice; of the two that have samples, the first ones and those nearest to training examples
    assert page.count("<img") == 2 + 2 + 2


def test_ids_in_the_report_are_unique(comparison: tuple[Path, dict[str, Any]]) -> None:
    ids = re.findall(r'<clipPath id="([^"]+)"', (comparison[0] / "report.html").read_text())
    assert len(ids) == len(set(ids))


def test_an_interrupted_comparison_goes_on(tmp_path: Path) -> None:
    data, out = image_data(), tmp_path / "out"
    models = ["independent", "mean", "memory"]

    def interrupt(stage: Stage) -> None:
        if stage.model == "mean" and not isinstance(stage.what, str) and stage.what.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(data, models, steps=10, out=out, device="cpu", report=interrupt)
    stages: list[Stage] = []
    result = compare(data, models, steps=10, out=out, device="cpu", report=stages.append)
    assert trained(stages) == ["mean"]
    assert {s.model for s in stages if s.what == "evaluating"} == {"yardsticks", "mean", "memory"}
    whole = compare(data, models, steps=10, device="cpu")
    assert [without_cost(r) for r in result["rows"]] == [without_cost(r) for r in whole["rows"]]
    stages.clear()
    compare(data, models, steps=10, out=out, device="cpu", report=stages.append)
    assert trained(stages) == []


def test_redo_trains_again_and_is_identical(tmp_path: Path) -> None:
    data, out = image_data(), tmp_path / "out"
    before = compare(data, "mean,independent", budget=0.3, seeds=2, samples=40, out=out, device="cpu")
    stages: list[Stage] = []
    after = compare(data, out=out, redo=True, device="cpu", report=stages.append)
    assert trained(stages) == ["mean"]
    assert sorted(after["redo"]["identical"]) == ["independent-0", "independent-1", "mean-0", "mean-1"]
    assert after["redo"]["different"] == []
    assert "--samples 40" in after["command"]
    old = {(r["model"], r["seed"]): without_cost(r) for r in before["rows"]}
    new = {(r["model"], r["seed"]): without_cost(r) for r in after["rows"]}
    assert old == new
    assert not list((out / "runs").glob(".*"))


def test_seeds_are_rows_and_a_summary(tmp_path: Path) -> None:
    result = compare(image_data(), ["mean", "broken"], steps=6, seeds=3, device="cpu")
    assert [(r["model"], r["seed"]) for r in result["rows"]] == [
        (m, s) for m in ("mean", "broken") for s in range(3)
    ]
    mean, broken = result["summary"]
    assert (mean["seeds"], mean["succeeded"], broken["succeeded"]) == (3, 3, 0)
    values = [r["fidelity"]["frechet"]["value"] for r in result["rows"][:3]]
    assert len(set(values)) == 3
    assert mean["frechet"]["mean"] == pytest.approx(sum(values) / 3)
    low, high = mean["frechet"]["interval"]
    assert low < mean["frechet"]["mean"] < high
    header, rows = table_rows(result)
    assert all(len(row) == len(header) for row in rows)
    assert [row[:3] for row in rows[:2]] == [["mean", "latent", "3 of 3"], ["broken", "latent", "0 of 3"]]
    assert rows[1][3].startswith("failed: ")


def test_known_truth_gives_regret_and_scatter_plots(tmp_path: Path) -> None:
    result = compare(normal_data(), ["wide", "oracle"], steps=3, out=tmp_path / "o", device="cpu")
    assert result["facts"]["entropy"] == pytest.approx(2.8379, abs=1e-4)
    assert "regret, nats ↓" in table_rows(result)[0]
    assert "The truth itself scores 0" in (tmp_path / "o" / "report.html").read_text()


def test_all_takes_what_fits_and_the_default_the_showcase(monkeypatch: pytest.MonkeyPatch) -> None:
    from pangen.evaluation.comparison import _named
    from pangen.registry import entries

    data = image_data()
    every, shown = _named("all", data), _named(None, data)
    assert "mean" in every
    assert "oracle" not in every  # of vectors only
    assert shown == [name for name in every if entries()[name].showcase][:16]
    assert _named(["all"], data) == every


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"models": "maen"}, "did you mean 'mean'"),
        ({"models": "oracle"}, "oracle cannot model 'rows'"),
        ({"models": ""}, "no model to compare"),
        ({"seeds": 0}, "at least 1"),
        ({"steps": 0}, "at least 1"),
        ({"steps": 5, "budget": 2.0}, "not both"),
        ({"redo": True}, "without a folder"),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(how: dict[str, Any], message: str) -> None:
    def refuse(stage: Stage) -> None:
        raise AssertionError(stage)

    with pytest.raises(PangenError, match=message):
        compare(image_data(), report=refuse, device="cpu", **how)


def test_a_folder_of_another_comparison_is_refused(tmp_path: Path) -> None:
    compare(image_data(), "mean", steps=3, out=tmp_path, device="cpu")
    with pytest.raises(PangenError, match=r"3 steps and this comparison asks for 4 steps"):
        compare(image_data(), "mean", steps=4, out=tmp_path, device="cpu")
    with pytest.raises(PangenError, match="holds no complete runs"):
        compare(image_data(), redo=True, out=tmp_path / "empty", device="cpu")
