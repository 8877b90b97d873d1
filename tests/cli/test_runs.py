"""`runs`, `show` and `doctor`: how runs stand, one at a glance, the machine and its traps."""

from __future__ import annotations

import json
import shutil
import types
from pathlib import Path

import pytest

import pangen as library
from pangen.files import alone
from pangen.folder import CARD, CHECKPOINT, METRICS, RECIPE, WEIGHTS
from pangen.overview import doctor as module
from pangen.overview.doctor import doctor
from pangen.overview.runs import runs

SMALL = {"model.width": 8, "model.pairs": 2}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of ten steps; read only."""
    folder = tmp_path_factory.mktemp("trained") / "realnvp-moons"
    library.fit("realnvp", "moons", steps=10, out=folder, device="cpu", recipe=SMALL)
    return folder


@pytest.fixture
def several(here, trained, digits_run):
    """A folder of runs, one in each state."""
    for name in ("finished", "interrupted", "killed", "early", "failed", "half", "odd"):
        shutil.copytree(trained, here / "runs" / "deeper" / name)
    for name, state in (("interrupted", "interrupted"), ("killed", "running"), ("failed", "failed")):
        card = here / "runs" / "deeper" / name / CARD
        card.write_text(json.dumps({**json.loads(card.read_text()), "state": state, "steps": 5}))
    for name in (CARD, WEIGHTS, CHECKPOINT):
        (here / "runs" / "deeper" / "early" / name).unlink()
    half = here / "runs" / "deeper" / "half" / WEIGHTS
    half.write_bytes(half.read_bytes()[:-100])
    (here / "runs" / "deeper" / "odd" / RECIPE).write_text('{"model": ')
    shutil.copytree(digits_run, here / "runs" / "exact")
    (here / "runs" / "notes").mkdir()
    return here / "runs"


def test_each_run_is_listed_with_its_state(several, pangen):
    found = pangen("runs", "--json").json["runs"]
    assert found == runs() == json.loads(json.dumps(runs(several.name)))
    states = {Path(row["run"]).name: row["state"] for row in found}
    assert states == {
        "finished": "finished", "interrupted": "interrupted", "killed": "killed", "early": "killed",
        "failed": "failed", "half": "damaged", "odd": "damaged", "exact": "finished",
    }  # fmt: skip
    rows = {Path(row["run"]).name: row for row in found}
    row = rows["interrupted"]
    assert (row["model"], row["data"], row["step"], row["total"]) == ("realnvp", "moons", 5, 10)
    assert row["measure"] == "nats"
    card = json.loads((several / "deeper" / "finished" / CARD).read_text())
    assert rows["finished"]["score"] == card["best"]["score"]
    assert row["bytes"] == sum(path.stat().st_size for path in Path(row["run"]).iterdir())
    assert "bytes" in rows["half"]["problem"]
    assert RECIPE in rows["odd"]["problem"]
    assert (rows["exact"]["score"], rows["exact"]["total"]) == (None, 0)
    assert [row["changed"] for row in found] == sorted((row["changed"] for row in found), reverse=True)


def test_the_table_of_runs(several, pangen, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")  # narrower, cells break into lines
    out = pangen("runs").out
    assert "interrupted at step 5 of 10" in out
    assert "killed at step 5 of 10" in out
    assert "ended before its first checkpoint" in out


def test_a_training_is_seen_while_it_lasts(several, pangen):
    folder = several / "deeper" / "killed"
    with alone(folder):
        assert "training at step 10 of 10" in pangen("show", folder).out
        assert {row["state"] for row in runs(folder)} == {"training"}
    assert {row["state"] for row in runs(folder)} == {"killed"}


def test_a_run_at_a_glance(several, pangen, here):
    outcome = pangen("show", several / "deeper" / "finished", "-o", here / "samples.png")
    assert outcome.code == 0, outcome.err
    for words in ("realnvp on moons, finished", "checkpoints", "lr ", "validation nats: ", "loss: ", "▁"):
        assert words in outcome.out
    assert (here / "samples.png").stat().st_size > 100
    found = pangen("show", several / "deeper" / "finished", "--json").json
    assert found["recipe"]["training"]["steps"] == 10
    rows = [json.loads(line) for line in (several / "deeper" / "finished" / METRICS).read_text().splitlines()]
    assert found["curves"]["model"] == [[row["step"], row["model"]] for row in rows if "model" in row]
    assert len(found["samples"].splitlines()) == 4
    assert found["curves"].keys() == library.show(several / "deeper" / "finished")["curves"].keys()
    assert "exact, finished" not in pangen("show", several / "exact").out


def test_a_run_without_samples_is_shown(several, pangen):
    out = pangen("show", several / "deeper" / "half").out
    assert "problem: " in out
    assert "samples  none: it is damaged" in out
    assert "samples  none: it has no checkpoint yet" in pangen("show", several / "deeper" / "early").out


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("runs nowhere", "no folder 'nowhere' `pangen fit"),
        ("show nowhere", "no run folder 'nowhere' `pangen runs`"),
        ("show runs/deeper/odd", "recipe.json cannot be read damaged"),
        ("show runs/deeper/half -o x.png", "damaged samples leave out -o"),
        ("show runs/exact -o x.txt", "draws images .png"),
        ("show runs/exact -o x.gif", "x.gif .png"),
        ("fit realnvp moons --tensorbord", "'--tensorbord' '--tensorboard'"),
    ],
)
def test_mistakes_are_one_sentence(command, words, several, pangen):
    outcome = pangen(*command.split())
    assert outcome.code == 2
    assert outcome.out == ""
    assert len(outcome.err.strip().splitlines()) == 1
    for word in words.split():
        assert word in outcome.err


def test_no_runs_are_no_mistake(here, pangen):
    assert "no runs in ." in pangen("runs", ".").out


def test_doctor_tells_what_there_is(pangen):
    outcome = pangen("doctor", "--json")
    assert outcome.code == 0
    assert outcome.json["versions"]["pangen"] == library.__version__
    assert outcome.json["threads"]["of torch"] == 1
    assert outcome.json["extras"]["text"]["tokenizers"]
    assert "OMP_WAIT_POLICY" in pangen("doctor").out


def traps() -> str:
    return " ".join(doctor()["warnings"])


def test_doctor_warns_of_traps(monkeypatch, tmp_path):
    import torch

    monkeypatch.setattr(module, "usable_cores", lambda: 64.0)
    monkeypatch.setattr(module.os, "getloadavg", lambda: (0.1, 0.1, 0.1))
    monkeypatch.setattr(module, "_folders", lambda: {"temporary": tmp_path})
    monkeypatch.delenv("PANGEN_DATA", raising=False)
    before = traps()
    assert not any(
        word in before for word in ("PANGEN_DATA", "threads, and", "compete", "left on", "written")
    )
    monkeypatch.setenv("PANGEN_DATA", "/no/such/place")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    monkeypatch.setattr(module.os, "getloadavg", lambda: (900.0, 0.1, 0.1))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda place: types.SimpleNamespace(free=2**20))
    found = traps()
    for words in (
        "/no/such/place, which does not exist", "torch takes 99 threads, and 64 cores", "900 programs compete",
        "OMP_WAIT_POLICY is active", "torch is built for CUDA 13.0 and finds no such device", "1 MiB are left",
    ):  # fmt: skip
        assert words in found
    monkeypatch.setattr(module.os, "access", lambda place, mode: False)
    assert "the temporary folder" in traps()
    assert "TMPDIR" in traps()


def test_events_for_tensorboard(here, pangen):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    command = ("fit", "realnvp", "moons", "--steps", 4, "--device", "cpu", "--model.width", 8, "-o", "run")
    assert pangen(*command, "--tensorboard").code == 0
    kept = EventAccumulator(str(here / "run" / "tensorboard")).Reload()
    rows = [json.loads(line) for line in (here / "run" / METRICS).read_text().splitlines()]
    losses = [(row["step"], pytest.approx(row["model"])) for row in rows if "model" in row]
    assert [(event.step, event.value) for event in kept.Scalars("model")] == losses
    assert "validation/nats" in kept.Tags()["scalars"]


def test_a_missing_tensorboard_is_one_sentence(here, pangen, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    outcome = pangen("fit", "realnvp", "moons", "--steps", 1, "--tensorboard")
    assert outcome.code == 2
    assert "pip install 'pangen[tensorboard]'" in outcome.err
    assert not (here / "runs").exists()
