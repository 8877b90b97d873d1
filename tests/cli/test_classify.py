"""`pangen classify`: classes, how good they are, and what is done about missing pixels."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch

import pangen as library

QUICK = {"model.width": 16, "model.temperatures": 5, "model.sweeps": 5}


def test_classes_and_scores(pangen, digits_run, here):
    found = pangen("classify", digits_run, "-n", 100, "-o", "classes.csv", "--json").json
    assert found["by"] == "Bayes' rule"
    assert found["accuracy"]["value"] > 0.8
    assert found["accuracy"]["samples"] == 100
    with open(here / "classes.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 100
    assert sum(float(rows[0][f"p({c})"]) for c in range(10)) == pytest.approx(1, abs=1e-4)
    again = library.classify(digits_run, examples=100)
    assert again.facts["accuracy"] == found["accuracy"]
    told = pangen("classify", digits_run).out
    assert "calibration error" in told
    assert "93 to 100 %" in told


def test_missing_pixels_are_marginalised_or_imputed(pangen, digits_run, here):
    found = pangen("classify", digits_run, "--missing", "50%", "--json").json
    assert found["missing_values"] == "marginalised exactly"
    assert found["accuracy"]["value"] > 0.7
    library.fit("rbm", "digits", steps=20, out=here / "rbm", device="cpu", recipe=QUICK)
    found = pangen("classify", "rbm", "--missing", "0.5", "--imputations", 2, "-n", 50, "--json").json
    assert found["by"] == "the model's own p(y given x)"
    assert found["missing_values"] == "imputed from the 2 nearest examples"
    assert found["accuracy"]["samples"] == 50


def test_data_without_labels_are_classified_and_not_scored(pangen, digits_run, here):
    np.save(here / "new.npy", library.load_data("digits").test.x[:, 0].numpy() * 15)
    other = pangen("classify", digits_run, "new.npy")
    assert other.code == 2  # 256 levels are not 17
    x = torch.randn(90, 2)
    library.fit("mixture", x, torch.arange(90) % 2, steps=1, out=here / "two", device="cpu")
    np.save(here / "plain.npy", x.numpy())
    found = pangen("classify", "two", "plain.npy")
    assert found.code == 0, found.err
    assert "no labels in the data" in found.out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--missing", "1"], "a share from 0 to less than 1"),
        (["--split", "rest"], "unknown split 'rest'"),
        (["-o", "classes.txt"], "must end in .csv"),
        (["--window", "3"], "options for reading data need DATA"),
        (["moons"], "trained on examples of shape"),
    ],
)
def test_mistakes_are_one_sentence(pangen, digits_run, argv, words):
    found = pangen("classify", digits_run, *argv)
    assert found.code == 2
    assert words in found.err
    assert found.err.count("\n") == 1


def test_a_model_without_labels_knows_no_classes(pangen, here):
    library.fit("mixture", torch.randn(60, 2), out=here / "plain", device="cpu")
    assert "trained without labels" in pangen("classify", "plain").err
