"""`pangen advise`: what was measured on the data itself, then on similar data, then nothing."""

from __future__ import annotations

import json

import pytest

import pangen as library
from pangen.advice import advise, evidence
from pangen.registry import entries


def line(model: str, values: list[float], data: str = "digits", **fields: object) -> dict:
    facts = {
        "data": data,
        "fingerprint": data,
        "modality": "image",
        "shape": [1, 8, 8],
        "levels": 17,
        "train": 1300,
    }
    made = {"measure": "frechet", "budget": 12.0, "command": f"measure {data}", "date": "2026-01-01"}
    return {**facts, **made, "model": model, "values": values, **fields}


@pytest.fixture
def known(tmp_path, monkeypatch):
    """Writes the evidence that there is."""

    def write(*lines: dict) -> None:
        path = tmp_path / "evidence.jsonl"
        path.write_text("".join(json.dumps(one) + "\n" for one in lines))
        monkeypatch.setattr(evidence, "SHIPPED", path)

    return write


@pytest.fixture(scope="module")
def digits():
    return library.load_data("digits")


def test_what_ships_is_of_known_models_and_data():
    rows = evidence.shipped()
    assert rows
    for row in rows:
        assert row.model in entries()
        assert row.values
        assert row.shape
        assert row.train


def test_measured_on_the_data_itself(known, digits):
    own = {"fingerprint": digits.fingerprint}
    known(
        line("vae", [0.50, 0.51, 0.52], **own),
        line("mixture", [0.80, 0.81, 0.82], **own),
        line("gan", [0.70, 0.71, 0.72], **own),
        line("ddpm", [0.01, 0.02, 0.03], budget=600.0, **own),  # not within the budget
        line("nice", [0.01, 0.02], data="other"),
    )
    found = advise(digits, "sample", budget=12)
    assert [one["model"] for one in found["models"]] == ["vae", "gan", "mixture"]
    assert found["enough"]
    assert found["simple"] is None
    assert found["models"][0]["expected"] == pytest.approx(0.51)
    low, high = found["models"][0]["interval"]
    assert low < 0.5 < 0.52 < high  # t with two degrees of freedom
    assert found["models"][0]["rests_on"] == ["evidence line 1: measure digits (2026-01-01)"]
    assert advise(digits, "sample", budget=600)["models"][0]["model"] == "ddpm"


def test_a_mixture_will_do(known, digits):
    own = {"fingerprint": digits.fingerprint}
    known(line("vae", [0.4, 0.5, 0.6], **own), line("mixture", [0.55, 0.56, 0.57], **own))
    assert advise(digits)["simple"] == "mixture"


def test_one_seed_is_not_enough(known, digits):
    known(line("vae", [0.5], fingerprint=digits.fingerprint))
    found = advise(digits)
    assert not found["enough"]
    assert found["models"][0]["interval"] is None


def test_one_model_alone_is_not_enough(known, digits):
    known(line("vae", [0.5, 0.51, 0.52], fingerprint=digits.fingerprint))
    found = advise(digits)
    assert not found["enough"]
    assert "one model alone" in found["reason"]


def test_similar_data_speak_of_what_is_gained_over_simple_models(known, digits):
    """0.3 and 0.1 less than the best classical model of each: 0.2 on average."""
    known(
        line("vae", [0.5, 0.5], "a"), line("mixture", [0.8, 0.8], "a"), line("kde", [0.9, 0.9], "a"),
        line("vae", [2.1, 2.1], "b"), line("mixture", [2.5, 2.5], "b"), line("kde", [2.2, 2.2], "b"),
        line("vae", [9.0, 9.0], "c", shape=[3, 64, 64]), line("mixture", [0.0, 0.0], "c", shape=[3, 64, 64]),
        line("vae", [9.0, 9.0], "d", levels=2), line("mixture", [0.0, 0.0], "d", levels=2),
    )  # fmt: skip
    found = advise(digits)
    assert found["enough"]
    assert found["models"][0]["model"] == "vae"
    assert found["models"][0]["expected"] == pytest.approx(-0.2)
    assert found["models"][0]["relative_to"] == "the best classical model"
    assert "a, b" in found["reason"]


def test_nothing_measured_is_said_so(known, digits):
    known(line("vae", [0.5, 0.5], "c", shape=[3, 64, 64]))
    for use in ("sample", "density", "impute", "detect", "compress"):
        found = advise(digits, use)
        assert not found["enough"]
        assert found["models"] == []
        assert found["able"]
    assert "mixture" in advise(digits, "impute")["able"]
    assert "gan" not in advise(digits, "density")["able"]


def test_ledgers_of_ones_own_count(known, digits, pangen, here):
    known()
    facts = {"data": "digits", "fingerprint": digits.fingerprint, "budget": 5.0, "steps": None}
    made = {"command": "pangen compare digits", "date": "2026-01-01T00:00:00"}
    folder = here / "runs" / "compare-digits"
    folder.mkdir(parents=True)
    lines = [
        {**facts, **made, "model": model, "family": family, "seed": seed, "measure": "frechet", "value": value + seed / 100}
        for model, family, value in (("vae", "latent", 0.5), ("mixture", "classical", 0.9))
        for seed in (0, 1)
    ]  # fmt: skip
    (folder / "ledger.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    found = pangen("advise", "digits", "--json").json
    assert [one["model"] for one in found["models"]] == ["vae", "mixture"]
    told = pangen("advise", "digits").out
    assert "measured on this data itself" in told
    assert "runs/compare-digits/ledger.jsonl: pangen compare digits (2026-01-01)" in told
    assert "next: pangen fit vae digits" in told


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["digits", "--for", "fun"], "unknown use 'fun'"),
        (["digits", "--budget", "soon"], "no budget"),
        (["nowhere.csv"], "nowhere.csv"),
        (["digits", "--ledger", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_are_one_sentence(pangen, argv, words):
    found = pangen("advise", *argv)
    assert found.code == 2
    assert words in found.err
    assert found.err.count("\n") == 1


def test_the_next_command_reads_the_data_as_this_one_did(pangen, known, here):
    known()
    rows = [f"{i % 7},{i % 5},{i % 2}" for i in range(60)]
    (here / "table.csv").write_text("a,b,kind\n" + "\n".join(rows) + "\n")
    told = pangen("advise", "table.csv", "--target", "kind", "--split-seed", 3).out
    assert "pangen compare table.csv --target kind --split-seed 3 --seeds 3" in told


def test_not_enough_is_no_error(pangen, known):
    known()
    found = pangen("advise", "digits", "--for", "detect")
    assert found.code == 0
    assert "not enough evidence: no comparison measures detection" in found.out
    assert "these can do it" in found.out
