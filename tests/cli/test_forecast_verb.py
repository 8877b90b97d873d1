"""`pangen forecast`, and series on the command line."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest
from PIL import Image

import pangen as library


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A table of months, and a seasonal naive and an rnn of its windows."""
    folder = tmp_path_factory.mktemp("series")
    rng = np.random.default_rng(0)
    months = [str(np.datetime64("2000-01", "M") + i) for i in range(240)]
    sales = [100 + 0.2 * i + 20 * math.sin(math.pi * i / 6) + rng.normal() for i in range(240)]
    rows = [f"{m},{s:.2f},{i * i}" for i, (m, s) in enumerate(zip(months, sales, strict=True))]
    (folder / "sales.csv").write_text("month,sales,other\n" + "\n".join(rows) + "\n")
    data = library.load_data(folder / "sales.csv", series=True, window=36, column="sales")
    library.fit("seasonal-naive", data, out=folder / "naive", device="cpu")
    recipe = {"model.width": 16, "training.validations": 1}
    library.fit("rnn", data, out=folder / "rnn", steps=3, device="cpu", recipe=recipe)
    library.fit("independent", "digits", out=folder / "digits", device="cpu")
    return folder


def test_fit_and_forecast_from_a_table(pangen, here, runs):
    options = ["--series", "--window", 36, "--column", "sales"]
    assert pangen("fit", "seasonal-naive", runs / "sales.csv", *options, "-o", "run").code == 0
    outcome = pangen("forecast", "run", "--horizon", 12, "-n", 99, "-o", "next.csv", "--plot", "next.png")
    assert outcome.code == 0, outcome.err
    assert outcome.out == "12 steps after 2019-12-01: next.csv, next.png\n"
    rows = list(csv.DictReader((here / "next.csv").open()))
    assert [row["time"] for row in rows[:2]] == ["2020-01-01", "2020-02-01"]
    assert list(rows[0]) == ["time", "column", "mean", "q2.5", "q5", "q10", "q50", "q90", "q95", "q97.5"]
    numbers = np.array([[float(row[q]) for q in list(row)[3:]] for row in rows])
    assert (np.diff(numbers, axis=1) > 0).all()
    past = library.load_data(runs / "sales.csv", series=True, window=36, column="sales").series.values[0]
    assert np.allclose([float(row["mean"]) for row in rows], past[-12:], atol=2)  # the last season over again
    assert Image.open("next.png").size[0] > 500


def test_without_a_file_it_is_a_table_or_json(pangen, runs):
    for name in ("naive", "rnn"):
        found = pangen("forecast", runs / name, "--horizon", 3, "-n", 10, "--json").json
        assert [row["time"] for row in found["forecast"]] == ["2020-01-01", "2020-02-01", "2020-03-01"]
        out = pangen("forecast", runs / name, "--horizon", 3, "-n", 10).out
        assert "q97.5" in out
        assert "2020-03-01" in out


def test_another_series_goes_on_where_it_ends(pangen, here, runs):
    np.save("other.npy", np.sin(np.arange(300)))
    options = ["--series", "--window", 36]
    found = pangen("forecast", runs / "naive", "other.npy", *options, "--horizon", 2, "--json").json
    assert [row["time"] for row in found["forecast"]] == ["300", "301"]


def test_scores_over_the_test_split(pangen, runs):
    found = pangen(
        "forecast", runs / "naive", "--horizon", 12, "--every", 6, "--score", "--json", "-n", 50
    ).json
    assert (found["origins"], found["paths"], found["split"]) == (7, 50, "test")
    assert 0 < found["crps"]["value"] < found["mae"]["value"]
    outcome = pangen("forecast", runs / "naive", "--horizon", 12, "--score", "-n", 50)
    assert "4 forecasts of 12 steps" in outcome.out
    assert "95 % interval covers" in outcome.out


def test_samples_and_evaluation_of_a_series(pangen, here, runs):
    assert len(pangen("sample", runs / "naive", "-n", 3).out.split()) == 3 * 36
    for file in ("x.npy", "x.png"):
        assert pangen("sample", runs / "rnn", "-n", 3, "-o", file).code == 0
    assert np.load("x.npy").shape == (3, 1, 36)
    out = pangen("evaluate", runs / "naive").out
    assert "nats (exact)" in out
    assert "bits/dim" not in out


BAD = {
    "no horizon": (["{runs}/naive"], "needs --horizon"),
    "horizon of the window": (["{runs}/naive", "--horizon", "36"], "windows of 36 steps 1 to 35"),
    "no series": (["{runs}/digits", "--horizon", "3"], "no model of a series --series --window"),
    "text": (["{runs}/naive", "markov-text", "--horizon", "3"], "'markov-text' of its own kind"),
    "several columns": (
        ["{runs}/naive", "{runs}/sales.csv", "--series", "--window", "36", "--horizon", "3"], "(2, 36)",
    ),
    "options alone": (["{runs}/naive", "--window", "36", "--horizon", "3"], "DATA remembers"),
    "a table as text": (["{runs}/naive", "--horizon", "3", "-o", "x.txt"], "x.txt .csv"),
    "a plot as text": (["{runs}/naive", "--horizon", "3", "--plot", "x.csv"], "x.csv .png"),
    "no folder": (["{runs}/naive", "--horizon", "3", "-o", "no/x.csv"], "no/x.csv no folder no"),
    "scores in a file": (["{runs}/naive", "--horizon", "3", "--score", "-o", "x.csv"], "--score -o --plot"),
    "every without score": (["{runs}/naive", "--horizon", "3", "--every", "3"], "--every --score"),
    "one path": (["{runs}/naive", "--horizon", "3", "-n", "1"], "-n at least 2"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_mistakes_are_one_sentence(case, pangen, runs):
    argv, words = BAD[case]
    outcome = pangen("forecast", *[word.format(runs=runs) for word in argv])
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.count("\n") == 1
    for word in words.split():
        assert word in outcome.err, outcome.err


def test_a_table_of_columns_needs_a_choice_and_an_order(pangen, runs):
    outcome = pangen("fit", "arima", runs / "sales.csv", "--series", "--window", 36)
    assert "series of 2 columns" in outcome.err
    assert "--column" in outcome.err
    assert "--series --window N" in pangen("fit", "arima", "moons").err
