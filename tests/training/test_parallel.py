"""Several processes are one: the same run, the same samples; and one that is lost costs little."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import pangen
from pangen import parallel
from pangen.cli.main import main
from pangen.data.batches import Batches, pieces_of
from pangen.data.load import load_data
from pangen.errors import PangenError
from pangen.files import read_json, read_tensors

MODELS = {
    "vae": {"model.network": "mlp", "training.ema": 0.9},
    "vqvae": {"model.codes": 8},
    "gan": {"model.precision": "float16"},
    "glow": {},
    "edm": {"model.width": 16, "model.network": "dit", "model.depth": 1},
}
"""One player and two, an average, codebooks, a data-dependent start, noise levels, a scale for each player."""
FIELDS = {"training.batch": 24, "training.validations": 2, "training.validation_examples": 50}
STEPS = 4
WORKER = """
import json, os, signal, sys
import pangen
from pangen import parallel
from pangen.cli.main import main
from pangen.training import fit as module
STEPS = int(sys.argv[5])

task, folder, models, fields = sys.argv[1], sys.argv[2], *map(json.loads, sys.argv[3:5])
if task == "fit":
    for name, mine in models.items():
        run = pangen.fit(name, "digits", steps=STEPS, out=f"{folder}/{name}", device="cpu", recipe=fields | mine)
    main(["sample", f"{folder}/vae", "-n", "150", "--seed", "1", "-o", f"{folder}/x.npy"])
    with parallel.sharing():
        run = pangen.load_run(f"{folder}/vae")
        nats = run.log_prob(pangen.load_data("digits").test.x[:150]).nats
    if parallel.is_first():
        import torch
        torch.save(nats, f"{folder}/nats")
elif task == "own":
    import torch.distributed as dist
    place = {} if len(sys.argv) == 6 else {"init_method": f"file://{folder}/meeting", "rank": int(sys.argv[6]), "world_size": 2}
    dist.init_process_group("gloo", **place)
    pangen.fit("vae", "digits", steps=STEPS, out=f"{folder}/theirs", device="cpu", recipe=fields | models["vae"])
    dist.barrier()
    dist.destroy_process_group()
    out = f"{folder}/ours" if "RANK" in os.environ else f"{folder}/{place['rank']}"
    pangen.fit("vae", "digits", steps=STEPS, out=out, device="cpu", recipe=fields | models["vae"])
else:
    module.CHECKPOINT_SECONDS, module.CHECKPOINT_SHARE = 0.0, 1e9
    def report(event):
        if event.step == 3 and parallel.rank() == 1 and not parallel.restarted():
            os.kill(os.getpid(), signal.SIGKILL)
    pangen.fit("vae", "digits", steps=2 * STEPS, out=f"{folder}/killed", device="cpu", recipe=fields | models["vae"], report=report)
"""


def launched(task: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Two processes that `torchrun` starts."""
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *options]
    command = [sys.executable, *start, *work(task, folder)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment(), timeout=150
    )


def work(task: str, folder: Path) -> list[str]:
    """The worker's file, and what it is told."""
    (folder / "worker.py").write_text(WORKER)
    told = (task, folder, json.dumps(MODELS), json.dumps(FIELDS), STEPS)
    return [str(folder / "worker.py"), *map(str, told)]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(pangen.__file__).parents[1])}


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> Path:
    """The folder in which two processes have trained every model."""
    folder = tmp_path_factory.mktemp("together")
    done = launched("fit", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_two_processes_train_as_one_with_two_pieces(together, name):
    mine = {**FIELDS, **MODELS[name], "training.accumulate": 2}
    run = pangen.fit(name, "digits", steps=STEPS, device="cpu", recipe=mine)
    weights, _ = read_tensors(together / name / "weights.safetensors")
    for key, value in run.model.state_dict().items():
        if "relative" in key:  # one process takes the pieces in one after the other
            continue
        # the sum of two gradients is the same in either order
        torch.testing.assert_close(
            weights[key], value, rtol=0, atol=1e-6, msg=lambda m, key=key: f"{key}: {m}"
        )
    card = read_json(together / name / "card.json")
    assert card["processes"] == 2
    assert card["best"]["score"] == pytest.approx(run.card["best"]["score"], abs=1e-5)


def test_samples_and_likelihoods_do_not_depend_on_the_number_of_processes(together):
    run = pangen.load_run(together / "vae")
    x = torch.from_numpy(np.load(together / "x.npy"))
    assert torch.equal(x, run.sample(150, seed=1).reshape(x.shape))
    assert torch.equal(
        torch.load(together / "nats"), run.log_prob(pangen.load_data("digits").test.x[:150]).nats
    )


def test_a_killed_process_is_started_again_and_loses_at_most_what_no_checkpoint_holds(together, tmp_path):
    done = launched("kill", tmp_path, "--max-restarts", "1")
    assert done.returncode == 0, done.stderr
    assert read_json(tmp_path / "killed" / "card.json")["state"] == "complete"
    mine = {**FIELDS, **MODELS["vae"], "training.accumulate": 2}
    run = pangen.fit("vae", "digits", steps=2 * STEPS, device="cpu", recipe=mine)
    weights, _ = read_tensors(tmp_path / "killed" / "weights.safetensors")
    assert all(torch.equal(weights[k], v) for k, v in run.model.state_dict().items())


def trained_in_two_pieces() -> dict[str, torch.Tensor]:
    mine = {**FIELDS, **MODELS["vae"], "training.accumulate": 2}
    return pangen.fit("vae", "digits", steps=STEPS, device="cpu", recipe=mine).model.state_dict()


def test_the_process_group_of_a_script_is_used_and_left_to_it(tmp_path):
    done = launched("own", tmp_path)
    assert done.returncode == 0, done.stderr
    expected = trained_in_two_pieces()
    for run in ("theirs", "ours"):  # while it lasts, and after it by what `torchrun` has told
        assert read_json(tmp_path / run / "card.json")["processes"] == 2
        weights, _ = read_tensors(tmp_path / run / "weights.safetensors")
        torch.testing.assert_close(weights, dict(expected), rtol=0, atol=1e-6)


def test_a_process_group_needs_no_torchrun_and_after_it_each_is_alone(tmp_path):
    command = [sys.executable, *work("own", tmp_path)]
    both = [subprocess.Popen([*command, str(rank)], env=environment()) for rank in range(2)]
    try:
        assert [process.wait(timeout=150) for process in both] == [0, 0]
    finally:
        for process in both:
            process.kill()
    processes = {run: read_json(tmp_path / run / "card.json")["processes"] for run in ("theirs", "0", "1")}
    assert processes == {"theirs": 2, "0": 1, "1": 1}


def test_a_process_group_that_carries_nothing_of_the_cpu_is_refused(monkeypatch):
    import torch.distributed as dist

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        monkeypatch.setattr(dist, "get_backend_config", lambda: "cuda:nccl")
        assert pangen.fit("independent", "digits", conditional=False).card["processes"] == 1
        monkeypatch.setattr(dist, "get_world_size", lambda: 2)
        with pytest.raises(PangenError, match=r"no tensors of the CPU \(cuda:nccl\)"):
            pangen.fit("independent", "digits", conditional=False)
        assert dist.is_initialized()
    finally:
        dist.destroy_process_group()


@pytest.fixture
def as_one_of(monkeypatch):
    """Pretends to be one of several processes that have not met."""

    def told(rank: int, size: int) -> None:
        places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "a", "MASTER_PORT": 1}
        for name, value in places.items():
            monkeypatch.setenv(name, str(value))

    return told


def batches() -> Batches:
    run = pangen.fit("independent", "digits", conditional=False)
    return Batches(load_data("digits").train, run.codec, 10, 0, "cpu")


def test_processes_share_a_batch_without_gap_or_overlap(as_one_of):
    train, found = batches(), []
    whole = train.split.x[train.index(5)]
    for rank in range(3):
        as_one_of(rank, 3)
        found += train.pieces(5, 6)
    assert [len(piece.batch.x) for piece in found] == [2, 2, 2, 2, 1, 1]
    assert sum(piece.share for piece in found) == pytest.approx(1)
    assert torch.equal(torch.cat([piece.batch.x for piece in found]), train.codec.encode(whole).x)


@pytest.mark.parametrize(
    ("size", "accumulate", "processes", "pieces"),
    [(10, 1, 1, 1), (10, 4, 1, 4), (10, 1, 2, 2), (10, 3, 2, 4), (10, 4, 2, 4), (3, 9, 1, 3), (5, 4, 4, 4)],
)
def test_a_batch_has_equally_many_pieces_for_each_process(as_one_of, size, accumulate, processes, pieces):
    as_one_of(0, processes)
    assert pieces_of(size, accumulate) == pieces


def test_a_batch_too_small_to_share_is_refused(as_one_of):
    as_one_of(0, 8)
    with pytest.raises(PangenError, match="8 processes cannot share a batch of 5 examples"):
        pieces_of(5, 1)


def test_accelerators_are_dealt_out(as_one_of):
    assert parallel.local_device("cuda") == "cuda"
    as_one_of(1, 2)
    assert parallel.local_device("cuda") == "cuda:1"
    assert parallel.local_device("cpu") == "cpu"


def test_a_verb_for_one_process_says_so_once(as_one_of, capsys):
    for rank in (0, 1):
        as_one_of(rank, 2)
        assert main(["models"]) == 2
    assert capsys.readouterr().err.count("leave out torchrun") == 1
