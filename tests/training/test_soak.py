"""Trainings that are killed: the short version of `benchmarks/soak.py`, and what it rests on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import pangen
from pangen.errors import PangenError
from pangen.files import alone, read_tensors, write_tensors
from pangen.folder import CHECKPOINT, METRICS

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak.py"


def test_killed_trainings_go_on_to_the_weights_of_undisturbed_ones():
    command = [sys.executable, str(SOAK), "--kills", "5", "--models", "realnvp", "--trial"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "0 unusable, 0 with other weights" in found.stdout
    assert "was refused" in found.stdout


def stop(at: int):
    """A report that ends the training at a step, as if its process were killed: the last checkpoint is older."""

    def report(event):
        if event.step == at:
            raise KeyboardInterrupt

    return report


def save_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after every step."""
    monkeypatch.setattr("pangen.training.fit.CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr("pangen.training.fit.CHECKPOINT_SHARE", float("inf"))


def killed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_always(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        pangen.fit("realnvp", "moons", steps=20, out=folder, device="cpu", report=stop(7))


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, monkeypatch):
    whole = pangen.fit("realnvp", "moons", steps=20, device="cpu")
    killed(tmp_path, monkeypatch)
    path = tmp_path / CHECKPOINT
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    run = pangen.fit("realnvp", "moons", out=tmp_path, resume=True, device="cpu")
    assert any(CHECKPOINT in warning and "checksum" in warning for warning in run.card["warnings"])
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, run.model.state_dict()[name]), name


def test_metrics_have_each_step_once_however_the_process_ended(tmp_path, monkeypatch):
    killed(tmp_path, monkeypatch)
    with open(tmp_path / METRICS, "a") as file:
        file.write('{"step": 19, "seconds": 9.0}\n{"step": 2')
    pangen.fit("realnvp", "moons", out=tmp_path, resume=True, device="cpu")
    rows = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert [row["step"] for row in rows if "warnings" not in row] == list(range(1, 21))


def test_one_bit_of_a_file_of_tensors_is_missed(tmp_path):
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"a": torch.arange(100.0)}, {"step": 3})
    tensors, facts = read_tensors(path)
    assert torch.equal(tensors["a"], torch.arange(100.0))
    assert facts == {"step": 3}
    whole = path.read_bytes()
    for at in range(8, len(whole), 37):
        content = bytearray(whole)
        content[at] ^= 16
        path.write_bytes(content)
        with pytest.raises(PangenError, match=r"x\.safetensors cannot be read"):
            read_tensors(path)


def test_a_folder_is_trained_in_by_one_at_a_time(tmp_path):
    scratch = tmp_path / ".weights.safetensors.123"
    scratch.write_text("what a killed process left")
    with alone(tmp_path):
        assert not scratch.exists()
        with pytest.raises(PangenError, match="another training is at work"), alone(tmp_path):
            pass
    with alone(tmp_path):
        pass
