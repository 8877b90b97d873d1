"""`pangen check`, and what `pangen fit` says of precision, of alarms, and of a training that broke."""

from __future__ import annotations

import pytest

import pangen as library
from pangen.run import load_run


@pytest.fixture
def nice_run(here):
    """A flow on bars and stripes, in the folder `r`."""
    recipe = {"model.width": 16, "training.validations": 1}
    library.fit("nice", "moons", steps=3, out="r", device="cpu", recipe=recipe)
    return "r"


def test_check_prints_a_line_for_each_check(pangen, nice_run):
    outcome = pangen("check", nice_run)
    assert outcome.code == 0, outcome.err
    title, *lines = outcome.out.splitlines()
    assert title == "nice on moons, float32"
    assert [line.split()[0] for line in lines] == ["normalisation", "invertibility", "log-determinant"]
    assert "p adds up to" in lines[0]
    assert "in float64" in lines[1]
    found = pangen("check", nice_run, "--json").json
    assert found == library.check(nice_run)


def test_what_does_not_apply_is_said_and_nothing_at_all_is_an_error(pangen, digits_run):
    outcome = pangen("check", digits_run)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.count("\n") == 1
    assert "nothing to check of this independent: 17^64 values are more than" in outcome.err
    assert "need --data" in pangen("check", digits_run, "--window", 3).err
    assert pangen("check", "nowhere").code == 2


def test_a_run_in_float64_is_trained_sampled_and_checked_in_it(pangen, here):
    fields = ["--steps", 3, "--model.width", 16, "--threads", 1]
    outcome = pangen("fit", "realnvp", "moons", *fields, "--dtype", "float64", "-o", "r")
    assert outcome.code == 0, outcome.err
    assert load_run("r").recipe.dtype == "float64"
    assert pangen("sample", "r", "-n", 3).code == 0
    assert pangen("check", "r").out.startswith("realnvp on moons, float64")
    wrong = pangen("fit", "realnvp", "moons", *fields, "--dtype", "float16", "-o", "s")
    assert (wrong.code, wrong.err.count("\n")) == (2, 1)
    assert "'float64'" in wrong.err


def test_fit_prints_its_warnings(pangen, here, monkeypatch):
    monkeypatch.setattr("pangen.training.fit.held_out_warnings", lambda *_, **__: ["the tails are far."])
    outcome = pangen("fit", "realnvp", "moons", "--steps", 2, "--model.width", 16, "-o", "r")
    assert "warning: the tails are far.\n" in outcome.out
    assert "warning" not in outcome.err


def test_a_training_that_breaks_ends_in_one_sentence_and_a_run_to_use(pangen, here):
    fields = ["--steps", 30, "--model.width", 16, "--training.lr", "1e6", "--training.warmup", 1_000_000]
    outcome = pangen("fit", "realnvp", "moons", *fields, "--training.validations", 30, "-o", "r")
    assert outcome.code == 2
    *_, last = outcome.err.splitlines()
    assert last.startswith("pangen: the ")
    assert "first in" in last
    assert "the last good weights are kept" in last
    assert "Traceback" not in outcome.err
    assert pangen("sample", "r", "-n", 3).code == 0
