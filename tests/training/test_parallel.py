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

folder, models, fields, steps = sys.argv[1], *map(json.loads, sys.argv[2:])
if not parallel.restarted():
    for name, mine in models.items():
        run = pangen.fit(name, "digits", steps=steps, out=f"{folder}/{name}", device="cpu", recipe=fields | mine)
    main(["sample", f"{folder}/vae", "-n", "150", "--seed", "1", "-o", f"{folder}/x.npy"])
    with parallel.sharing():
        run = pangen.load_run(f"{folder}/vae")
        nats = run.log_prob(pangen.load_data("digits").test.x[:150]).nats
    if parallel.is_first():
        import torch
        torch.save(nats, f"{folder}/nats")
module.CHECKPOINT_SECONDS, module.CHECKPOINT_SHARE = 0.0, 1e9
def report(event):
    if event.step == 3 and parallel.rank() == 1 and not parallel.restarted():
        os.kill(os.getpid(), signal.SIGKILL)
pangen.fit("vae", "digits", steps=2 * steps, out=f"{folder}/killed", device="cpu", recipe=fields | models["vae"], report=report)
"""


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> Path:
    """The folder in which two processes have trained every model, and one more after one of them was killed."""
    folder = tmp_path_factory.mktemp("together")
    (folder / "worker.py").write_text(WORKER)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["--max-restarts", "1", str(folder / "worker.py"), str(folder)]
    command += map(json.dumps, (MODELS, FIELDS, STEPS))
    where = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(pangen.__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=where, timeout=300)
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


def test_a_killed_process_is_started_again_and_loses_at_most_what_no_checkpoint_holds(together):
    assert read_json(together / "killed" / "card.json")["state"] == "complete"
    mine = {**FIELDS, **MODELS["vae"], "training.accumulate": 2}
    run = pangen.fit("vae", "digits", steps=2 * STEPS, device="cpu", recipe=mine)
    weights, _ = read_tensors(together / "killed" / "weights.safetensors")
    assert all(torch.equal(weights[k], v) for k, v in run.model.state_dict().items())


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
