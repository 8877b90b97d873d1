"""`pangen compress` and `pangen decompress`: what they print, and what they refuse."""

from __future__ import annotations

import re

import numpy as np
import pytest

import pangen as library

pytest.importorskip("constriction")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An ngram of the digits, read only."""
    folder = tmp_path_factory.mktemp("runs") / "ngram"
    library.fit("ngram", "digits", out=folder, device="cpu")
    return folder


@pytest.fixture
def digits(here):
    np.save(here / "x.npy", library.load_data("digits").test.x[:60].numpy())
    return here / "x.npy"


def test_there_and_back(pangen, here, run, digits):
    outcome = pangen("compress", run, "x.npy", "-o", "x.pgn")
    assert outcome.code == 0, outcome.err
    first, model, weights = outcome.out.splitlines()
    size = (here / "x.pgn").stat().st_size
    assert first.startswith(f"1 file, {digits.stat().st_size} bytes to {size}, ")
    assert first.endswith(": x.pgn")
    assert "by its likelihood" in model
    assert weights.startswith("with the model's weights: ")
    outcome = pangen("decompress", "x.pgn", "-o", "back")
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith(f"1 file, {digits.stat().st_size} bytes, ")
    assert (here / "back/x.npy").read_bytes() == digits.read_bytes()


def test_report_compares_and_needs_no_file(pangen, here, run, digits):
    outcome = pangen("compress", run, "x.npy", "--report")
    assert outcome.code == 0, outcome.err
    rows = [line.split() for line in outcome.out.splitlines() if line.strip().endswith("%")]
    sizes = [int(row[-2]) for row in rows]
    assert sizes == sorted(sizes)
    assert {"gzip", "xz", "png", "webp", "pangen"} <= {row[0] for row in rows}
    assert re.search(r"[\d.]+ MB/s, [\d.]+ back$", outcome.out.splitlines()[0])
    found = pangen("compress", run, "x.npy", "--report", "--json").json
    assert found["file"] is None
    assert found["others"]["png"] > found["compressed"] == found["with_weights"] - found["weights"]
    assert not list(here.glob("*.pgn"))


def test_folders_keep_names_and_what_is_strange_is_kept(pangen, here, run, digits):
    (here / "all/deep").mkdir(parents=True)
    digits.rename(here / "all/deep/x.npy")
    (here / "all/notes.txt").write_text("not a digit")
    outcome = pangen("compress", run, "all", "-o", "all.pgn")
    assert "1 file that this run does not model, kept as they are, 12 bytes: all/notes.txt" in outcome.out
    found = pangen("decompress", "all.pgn", "-o", "back", "--run", run, "--json").json
    assert found["files"] == 2
    assert (here / "back/all/notes.txt").read_text() == "not a digit"
    assert (here / "back/all/deep/x.npy").read_bytes() == (here / "all/deep/x.npy").read_bytes()


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["compress", "RUN", "x.npy"], "needs -o FILE.pgn"),
        (["compress", "RUN", "x.npy", "-o", "x.zip"], "must end in .pgn"),
        (["compress", "RUN", "x.npy", "-o", "no/x.pgn"], "no folder no"),
        (["compress", "RUN", "absent", "-o", "x.pgn"], "no file or folder 'absent'"),
        (["compress", "no/run", "x.npy", "-o", "x.pgn"], "no run folder"),
        (["decompress", "absent.pgn", "-o", "out"], "cannot be read"),
        (["decompress", "x.npy", "-o", "out"], "none that Pangen compressed"),
        (["decompress", "x.npy"], "needs -o/--out"),
    ],
)
def test_mistakes_are_one_sentence(pangen, here, run, digits, argv, told):
    outcome = pangen(*(run if a == "RUN" else a for a in argv))
    assert outcome.code == 2
    assert told in outcome.err
    assert outcome.err.count("\n") == 1
    assert not (here / "out").exists()
    assert not list(here.glob("*.pgn"))


def test_a_run_that_is_gone_or_another_is_named(pangen, here, run, digits):
    library.fit("ngram", "digits", out=here / "gone", device="cpu")
    assert pangen("compress", "gone", "x.npy", "-o", "x.pgn").code == 0
    (here / "gone").rename(here / "moved")
    outcome = pangen("decompress", "x.pgn", "-o", "out")
    assert outcome.code == 2
    assert "the run 'gone', which is not here: name its folder with --run" in outcome.err
    library.fit("ngram", "digits-binary", out=here / "other", device="cpu")
    outcome = pangen("decompress", "x.pgn", "-o", "out", "--run", "other")
    assert outcome.code == 2
    assert "another run" in outcome.err
    assert pangen("decompress", "x.pgn", "-o", "out", "--run", "moved").code == 0
