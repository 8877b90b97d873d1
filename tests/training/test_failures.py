"""Machines that fail under a training: one sentence, nothing half-written, and `--resume` to the same weights."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

import pangen
from pangen.cli.main import main
from pangen.errors import PangenError
from pangen.files import read_object, read_tensors, write_bytes, write_tensors
from pangen.folder import CHECKPOINT, METRICS, RECIPE, WEIGHTS
from pangen.training import fit

STEPS = 6
SMALL = {"model.width": 8, "model.pairs": 1, "training.validations": 3, "training.snapshots": 2}


@pytest.fixture(autouse=True)
def _save_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after every step."""
    monkeypatch.setattr(fit, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(fit, "CHECKPOINT_SHARE", float("inf"))


def train(folder: Path, *, resume: bool = False, **how: object) -> pangen.Run:
    given = {} if resume else {"steps": STEPS, "recipe": SMALL}
    return pangen.fit("realnvp", "moons", out=folder, device="cpu", resume=resume, **given, **how)


def go_on(folder: Path) -> pangen.Run:
    """As a user would: anew where nothing was kept, else from there."""
    return train(folder, resume=(folder / RECIPE).exists())


def bits(run: pangen.Run) -> list[bytes]:
    return [tensor.numpy().tobytes() for tensor in run.model.state_dict().values()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The weights of a training that nothing befell."""
    return bits(train(tmp_path_factory.mktemp("runs") / "whole"))


def check_files(folder: Path) -> None:
    """Whatever is there is whole."""
    assert not [path for path in folder.rglob(".*") if path.is_file()]
    for path in folder.rglob("*.safetensors"):
        read_tensors(path)
    for path in folder.glob("*.json"):
        read_object(path)


def failing(monkeypatch: pytest.MonkeyPatch, number: int, at: int) -> None:
    """The `at`-th write from now on is refused, half of it done."""
    flush, left = os.fsync, [at]

    def refuse(handle: int) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.truncate(handle, os.fstat(handle).st_size // 2)
            raise OSError(number, os.strerror(number))
        flush(handle)

    monkeypatch.setattr(os, "fsync", refuse)


@pytest.mark.parametrize("at", [1, 2, 3, 4, 5, 6, 8, 12, 19])
def test_a_disk_that_is_full_at_any_write_ends_in_a_sentence_and_loses_nothing(
    at, tmp_path, whole, monkeypatch
):
    with monkeypatch.context() as full:
        failing(full, errno.ENOSPC, at)
        with pytest.raises(
            PangenError, match=r"cannot write .*No space left on device.*free some space there, (and|or)"
        ) as told:
            train(tmp_path / "run")
    assert "\n" not in str(told.value)
    check_files(tmp_path / "run")
    done = go_on(tmp_path / "run")
    assert done.card["state"] == "complete"
    assert bits(done) == whole


def test_metrics_that_cannot_be_written_end_the_training_as_well(tmp_path, whole):
    def fill(event: object) -> None:
        metrics = tmp_path / "run" / METRICS
        if event.step == 2:  # from now on a device that is always full
            kept.append(metrics.read_bytes())
            metrics.unlink()
            metrics.symlink_to("/dev/full")

    kept: list[bytes] = []
    with pytest.raises(
        PangenError, match=r"metrics\.jsonl: No space left on device, at step 3.*go on with --resume"
    ):
        train(tmp_path / "run", report=fill)
    (tmp_path / "run" / METRICS).unlink()
    (tmp_path / "run" / METRICS).write_bytes(kept[0])
    assert bits(go_on(tmp_path / "run")) == whole


def test_a_small_disk_is_filled_and_the_run_goes_on_when_there_is_room(tmp_path, whole):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, check=False
    )
    if mount.returncode:
        pytest.skip("this user may not mount a small disk")
    try:
        code = main(["fit", "realnvp", "moons", "--steps", "6", "-o", str(disk / "run")])
        check_files(disk / "run")
        assert code == 2
        subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
        assert main(["fit", "realnvp", "moons", "--steps", "6", "-o", str(disk / "again")]) == 0
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_limit_of_file_sizes_is_named(tmp_path, capsys):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        code = main(
            ["fit", "realnvp", "moons", "--steps", "2", "--model.pairs", "1", "-o", str(tmp_path / "run")]
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    said = capsys.readouterr().err
    assert code == 2
    assert "File too large" in said
    assert "ulimit -f" in said
    check_files(tmp_path / "run")


def test_a_place_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    """Read-only file systems refuse everybody, file modes everybody but root."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(
        PangenError, match=r"cannot write .*x\.txt: Read-only file system; choose another place with -o"
    ):
        write_bytes(tmp_path / "x.txt", b"x")
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(PangenError, match=r"cannot create the folder .*run: Read-only"):
        train(tmp_path / "run")


@contextmanager
def few_files(count: int) -> Iterator[None]:
    """At most so many more files may be open at once."""
    handle = os.open(os.devnull, os.O_RDONLY)
    os.close(handle)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (handle + count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("verb", ["fit", "data", "sample"])
def test_too_few_open_files_are_one_sentence(verb, tmp_path, capsys, digits_run):
    table = tmp_path / "x.csv"
    table.write_text("a,b\n" + "1.5,2.5\n" * 20)
    argv: dict[str, Callable[[str], list[str]]] = {
        "fit": lambda name: ["fit", "realnvp", "moons", "--steps", "1", "-o", str(tmp_path / name)],
        "data": lambda name: ["data", str(table), "--json"],
        "sample": lambda name: ["sample", str(digits_run), "-n", "2", "-o", str(tmp_path / f"{name}.npy")],
    }
    assert main(argv[verb]("warm")) == 0
    capsys.readouterr()
    with few_files(0):
        code = main(argv[verb]("run"))
    said = capsys.readouterr().err
    told = [line for line in said.splitlines() if line.startswith("pangen: ")]
    assert code == 2
    assert len(told) == 1
    assert "Too many open files" in said or "cannot be read" in said
    with few_files(2):
        assert main(argv[verb]("run")) == 0


def test_a_clock_that_jumps_is_not_looked_at(tmp_path, monkeypatch):
    """Budgets, checkpoints and seconds are told by a clock that only goes forward."""
    import time

    now = [1e9]

    def back() -> float:
        now[0] -= 86400.0
        return now[0]

    monkeypatch.setattr(time, "time", back)
    run = pangen.fit("realnvp", "moons", budget=0.5, out=tmp_path / "run", device="cpu", recipe=SMALL)
    assert run.card["state"] == "complete"
    assert 0 < run.card["seconds"] < 60


def test_a_lost_device_keeps_the_last_checkpoint(tmp_path, whole, monkeypatch):
    step, count = fit.train_step, [0]

    def lose(*told: object) -> dict[str, float]:
        count[0] += 1
        if count[0] == 4:
            raise RuntimeError("CUDA error: unspecified launch failure\nCompile with `TORCH_USE_CUDA_DSA`.")
        return step(*told)

    with monkeypatch.context() as lost:
        lost.setattr(fit, "train_step", lose)
        with pytest.raises(
            PangenError,
            match=r"the device cpu was lost at step 3 \(CUDA error: unspecified launch failure\); the last",
        ) as told:
            train(tmp_path / "run")
    assert "\n" not in str(told.value)
    assert read_tensors(tmp_path / "run" / CHECKPOINT)[1]["step"] == 3
    assert bits(go_on(tmp_path / "run")) == whole


def test_any_other_error_is_none_of_the_machine(tmp_path, monkeypatch):
    def wrong(*_: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(fit, "train_step", wrong)
    with pytest.raises(RuntimeError, match="mat1"):
        train(tmp_path / "run")


def test_warnings_do_not_depend_on_a_kill_in_the_last_moment(tmp_path, monkeypatch):
    """All steps are done and saved, and the process dies while it looks for trouble."""
    whole = train(tmp_path / "whole")

    def die(event: object) -> None:
        if event.step == STEPS:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", report=die)
    again = go_on(tmp_path / "run")
    assert again.card["warnings"] == whole.card["warnings"]
    assert bits(again) == bits(whole)


def test_weights_that_are_not_finite_are_damage(tmp_path):
    train(tmp_path / "run")
    tensors, facts = read_tensors(tmp_path / "run" / WEIGHTS)
    name = next(k for k, v in tensors.items() if v.dtype == torch.float32 and v.numel() > 1)
    for value in (float("nan"), float("inf")):
        spoilt = tensors | {name: torch.full_like(tensors[name], value)}
        write_tensors(tmp_path / "run" / WEIGHTS, spoilt, facts)
        with pytest.raises(PangenError, match="not finite: the run is damaged"):
            pangen.load_run(tmp_path / "run", device="cpu")


@pytest.mark.parametrize(("model", "data"), [("made", "bars-and-stripes"), ("vae", "digits")])
def test_weights_without_bounds_end_in_one_sentence(tmp_path, model, data):
    """They are finite, and what is computed with them is not."""
    run = pangen.fit(model, data, steps=2, device="cpu", out=tmp_path / "run")
    tensors, facts = read_tensors(tmp_path / "run" / WEIGHTS)
    huge = {k: torch.full_like(v, 3e38) if v.dtype == torch.float32 else v for k, v in tensors.items()}
    write_tensors(run.path / WEIGHTS, huge, facts)
    with pytest.raises(PangenError, match="came out as no numbers"):
        pangen.load_run(run.path, device="cpu").sample(3)
