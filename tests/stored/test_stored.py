"""A run folder is a promise: runs of earlier versions load, sample, evaluate, and go on."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from make import ANSWERS, answers

import pangen
from pangen.data import load_data
from pangen.errors import PangenError
from pangen.files import write_json
from pangen.folder import RECIPE
from pangen.recipes import read_recipe, stored
from pangen.run import load_run

HERE = Path(__file__).parent
RUNS = sorted(path.parent for path in HERE.glob(f"*/{ANSWERS}"))


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.name)
def test_a_stored_run_answers_as_it_did(path):
    """The same samples and likelihoods, up to the rounding of another build: a value on an edge may then fall otherwise."""
    then, now = json.loads((path / ANSWERS).read_text()), answers(load_run(path, device="cpu"))
    if isinstance(then["samples"][0], str):
        assert now["samples"] == then["samples"]
    else:
        close = torch.isclose(
            torch.tensor(now["samples"]), torch.tensor(then["samples"]), rtol=1e-3, atol=1e-3
        )
        assert close.double().mean() > 0.95
    torch.testing.assert_close(torch.tensor(now["nats"]), torch.tensor(then["nats"]), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.name)
def test_a_stored_run_is_evaluated(path, quick_features):
    run = load_run(path, device="cpu")
    data = load_data(run.recipe.data.name)
    few = {name: data.split(name).first(64) for name in ("train", "validation", "test")}
    found = pangen.evaluate(run, replace(data, **few), samples=16, examples=16)
    assert found["model"] == run.entry.name


def test_a_stored_training_goes_on(tmp_path):
    shutil.copytree(HERE / "interrupted", tmp_path / "run")
    run = pangen.fit("realnvp", "moons", out=tmp_path / "run", resume=True, device="cpu")
    assert run.card["state"] == "complete"
    assert run.card["steps"] == 20


def test_stored_runs_are_small():
    sizes = {path.name: sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) for path in RUNS}
    assert max(sizes.values()) < 60_000
    assert sum(sizes.values()) < 500_000


def test_a_recipe_of_an_older_version_is_brought_up_to_date(tmp_path, monkeypatch):
    """The fields pass through every step from their version on; the first version named none."""
    today = read_recipe(HERE / "realnvp")
    old = today.to_json()
    old["rate"] = old["training"].pop("lr")

    def second(fields):
        rate = fields.pop("rate")
        return {**fields, "training": {**fields["training"], "lr": rate}}

    monkeypatch.setattr(stored, "STEPS", (second,))
    for fields in (old, {"version": 1, **old}, {"version": 2, **today.to_json()}):
        write_json(tmp_path / RECIPE, fields)
        assert read_recipe(tmp_path) == today


@pytest.mark.parametrize(
    ("version", "words"), [(2, "version 2.*reads up to 1.*upgrade"), (0, "damaged"), ("1", "damaged")]
)
def test_a_recipe_of_a_newer_version_is_refused(version, words, tmp_path):
    write_json(tmp_path / RECIPE, {"version": version, "what": "nobody knows yet"})
    with pytest.raises(PangenError, match=words):
        read_recipe(tmp_path)
