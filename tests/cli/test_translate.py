"""`pangen translate` and `pangen fill` as a user meets them."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

import pangen as library


@pytest.fixture(scope="session")
def translator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has hardly learnt anything. Read only."""
    folder = tmp_path_factory.mktemp("runs")
    pairs = [(f"Haus {i} ist rot", f"house {i} is red") for i in range(40)]
    (folder / "pairs.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in pairs) + "ohne\t\n")
    settings = {"model.width": 16, "model.depth": 1}
    for codec, name in (("bpe-pairs", "run"), ("character-pairs", "letters")):
        library.fit(
            "seq2seq", folder / "pairs.tsv", codec=codec, out=folder / name, steps=3, device="cpu", recipe=settings
        )  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def filler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "bert"
    library.fit("bert", ["a cat sat", "a dog ran"] * 20, out=folder, steps=3, device="cpu")
    return folder


def test_lines_are_translated_one_by_one(pangen, translator, here, monkeypatch):
    run = translator / "run"
    assert pangen("translate", run, "Haus 1 ist rot").code == 0
    (here / "in.txt").write_text("Haus 1 ist rot\n\nHaus 2 ist rot\r\n")
    found = pangen("translate", run, "--file", "in.txt", "-o", "out.txt", "--beam", "2")
    assert found.code == 0
    lines = (here / "out.txt").read_text().split("\n")
    assert len(lines) == 4
    assert lines[1] == ""
    again = pangen("translate", run, "--file", "in.txt", "--beam", "2", "--json").json
    assert [pair["target"] for pair in again["translations"]] == lines[:3]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Haus 1 ist rot\n")))
    assert pangen("translate", run, "-", "--beam", "2").out == lines[0] + "\n"


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["Haus " * 60], "give it in parts"),
        ([], "one of TEXT and --file"),
        (["a", "--file", "b"], "one of TEXT and --file"),
        (["--file", "nowhere.txt"], "nowhere.txt cannot be read"),
        (["a", "--beam", "0"], "at least 1"),
        (["a", "-o", "out.png"], "must end in"),
    ],
)
def test_mistakes_in_translate(pangen, translator, argv, why):
    found = pangen("translate", translator / "run", *argv)
    assert found.code == 2
    assert why in found.err
    assert "Traceback" not in found.err


def test_unknown_characters_are_told(pangen, translator, here):
    found = pangen("translate", translator / "letters", "Haus ÿ")
    assert found.code == 0
    assert "'ÿ': it is read as unknown" in found.err
    (here / "latin.txt").write_bytes("Häuser".encode("latin-1"))
    assert "not UTF-8" in pangen("translate", translator / "letters", "--file", "latin.txt").err


def test_samples_answer_to_texts(pangen, translator):
    run = translator / "run"
    assert len(pangen("sample", run, "-n", 3).out.split("\n")) == 4
    assert pangen("sample", run, "-n", 2, "--given", "Haus 1 ist rot").code == 0
    found = pangen("evaluate", run, "--json").json
    assert "alone" in found["likelihood"]["none"]
    assert found["likelihood_given_label"]["kind"] == "lower bound"


def test_gaps(pangen, filler, translator, digits_run):
    found = pangen("fill", filler, "a cat ___", "-n", 2)
    assert found.code == 0
    assert found.out.startswith("a cat")
    assert "gap 1: " in found.out
    facts = pangen("fill", filler, "a ___ ___", "-n", 2, "--json").json
    assert [len(gap) for gap in facts["gaps"]] == [2, 2]
    for argv, why in (
        ((filler, "a cat"), "no gap"),
        ((translator / "run", "a ___"), "fills in no text"),
        ((digits_run, "a ___"), "fills in no text"),
    ):
        wrong = pangen("fill", *argv)
        assert wrong.code == 2
        assert why in wrong.err
    assert "does not answer to texts" in pangen("translate", filler, "a").err


def test_files_of_pairs(pangen, here, translator):
    facts = pangen("data", translator / "pairs.tsv", "--json").json
    assert facts["splits"] == {"train": 32, "validation": 4, "test": 4}
    assert "1 lines without a source or a target" in facts["notes"][0]
    assert {"seq2seq", "gpt"} <= set(facts["models"])
    (here / "bad.tsv").write_text("a\tb\nc\n")
    assert "bad.tsv, line 2: 1 columns" in pangen("data", "bad.tsv").err
    assert "cannot do without" in pangen("fit", "seq2seq", translator / "pairs.tsv", "--unconditional").err
    assert "accepts pairs of texts" in pangen("fit", "seq2seq", "digits").err
