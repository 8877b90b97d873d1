"""Weights spread over two processes: the same run, each holding half; checkpoints that any number of processes reads."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import pangen
from pangen.errors import PangenError
from pangen.files import read_json, read_tensors
from pangen.folder import PARTS, PARTS_BEFORE

MODELS = {
    "gpt": {"model.width": 32, "model.precision": "float16", "training.snapshots": 1},
    "vae": {"training.ema": 0.9, "training.accumulate": 4},
    "edm": {"model.width": 16, "model.network": "dit", "model.depth": 2, "training.recompute": True},
}
"""Averages, snapshots and a scale; several pieces for each process; blocks that are computed again."""
FIELDS = {
    "training.batch": 24,
    "training.validations": 2,
    "training.validation_examples": 50,
    "training.shard": True,
}
STEPS, STOP = 4, 2
WORKER = """
import json, shutil, sys
import pangen
from pangen import parallel
from pangen.training import fit as module
from pangen.training.sharded import is_spread, local

folder, models, fields, steps, stop = sys.argv[1], *map(json.loads, sys.argv[2:])
share = {}

class Watched(module._Training):
    def save(self, outcome):
        super().save(outcome)
        state = self.state
        moments = [x for w in state.players["model"] for k, x in state.optimizers["model"].state[w].items() if k != "step"]
        weights = [*state.model.parameters(), *(state.average.parameters() if state.average else ())]
        kinds = {"weights": weights, "moments": moments}
        bytes = {k: [sum(f(x).nbytes for x in mine) for f in (local, lambda x: x)] for k, mine in kinds.items()}
        share.update({k: held / whole for k, (held, whole) in bytes.items()})

module._Training = Watched

class Stopped(Exception):
    pass

for name, mine in models.items():
    pangen.fit(name, "digits", steps=steps, out=f"{folder}/{name}", device="cpu", recipe=fields | mine)
    with open(f"{folder}/{name}-{parallel.rank()}.json", "w") as file:
        json.dump(share, file)
module.CHECKPOINT_SECONDS, module.CHECKPOINT_SHARE = 0.0, 1e9
def report(event):
    if event.step == stop:
        raise Stopped
try:
    pangen.fit("gpt", "digits", steps=steps, out=f"{folder}/stopped", device="cpu", recipe=fields | models["gpt"], report=report)
except Stopped:
    pass
if parallel.is_first():
    shutil.copytree(f"{folder}/stopped", f"{folder}/resumed")
parallel.wait()
pangen.fit("gpt", "digits", out=f"{folder}/resumed", resume=True, device="cpu")
"""


@pytest.fixture(scope="module")
def spread(tmp_path_factory) -> Path:
    """The folder in which two processes have trained every model, left one half-trained, and resumed a copy of it."""
    folder = tmp_path_factory.mktemp("spread")
    (folder / "worker.py").write_text(WORKER)
    told = [json.dumps(x) for x in (MODELS, FIELDS, STEPS, STOP)]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    source = str(Path(pangen.__file__).parents[1])
    where = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": source}
    done = subprocess.run(
        [*command, str(folder / "worker.py"), str(folder), *told],
        capture_output=True, text=True, check=False, env=where, timeout=150,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def same(expected: dict[str, torch.Tensor], found: dict[str, torch.Tensor]) -> None:
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        if "relative" in key:  # one process takes the pieces in one after the other
            continue
        torch.testing.assert_close(found[key], value, rtol=0, atol=1e-6, msg=lambda m, key=key: f"{key}: {m}")


@pytest.mark.parametrize("name", MODELS)
def test_spread_weights_learn_what_whole_ones_do(spread, name, tmp_path):
    mine = {"training.accumulate": 2, **FIELDS, **MODELS[name], "training.shard": False}
    run = pangen.fit(name, "digits", steps=STEPS, device="cpu", recipe=mine, out=tmp_path / name)
    same(run.model.state_dict(), read_tensors(spread / name / "weights.safetensors")[0])
    card = read_json(spread / name / "card.json")
    assert card["best"]["score"] == pytest.approx(run.card["best"]["score"], abs=1e-5)
    assert card["parameters"] == run.card["parameters"]
    for expected in (tmp_path / name).glob("snapshots/*"):
        same(read_tensors(expected)[0], read_tensors(spread / name / "snapshots" / expected.name)[0])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("rank", [0, 1])
def test_each_process_holds_half(spread, name, rank):
    for part, share in read_json(spread / f"{name}-{rank}.json").items():
        assert 0.45 < share < 0.55, part


def test_resumed_is_undisturbed(spread):
    assert read_json(spread / "stopped" / "card.json")["steps"] == STOP
    assert read_json(spread / "resumed" / "card.json")["state"] == "complete"
    weights, found = (read_tensors(spread / name / "weights.safetensors")[0] for name in ("gpt", "resumed"))
    assert all(torch.equal(found[k], v) for k, v in weights.items())


def test_one_process_goes_on_from_the_latest_whole_checkpoint_of_two(spread, tmp_path):
    for name in ("alone", "damaged"):
        shutil.copytree(spread / "stopped", tmp_path / name)
    alone = pangen.fit("gpt", "digits", out=tmp_path / "alone", resume=True, device="cpu")
    assert alone.card["steps"] == STEPS  # its batches come in one piece now, with other noise

    latest, before = tmp_path / "damaged" / PARTS, tmp_path / "damaged" / PARTS_BEFORE
    shutil.rmtree(before)
    part = next(latest.glob("*.safetensors"))
    part.write_bytes(part.read_bytes()[:-1] + b"\xff")
    with pytest.raises(PangenError, match=r"its files are not those of its checksums\): the run is damaged"):
        pangen.fit("gpt", "digits", out=tmp_path / "damaged", resume=True, device="cpu")
    shutil.copytree(spread / "stopped" / PARTS, before)
    part.unlink()
    run = pangen.fit("gpt", "digits", out=tmp_path / "damaged", resume=True, device="cpu")
    assert any("Training went on from the state before." in sentence for sentence in run.card["warnings"])
    same(alone.model.state_dict(), run.model.state_dict())


@pytest.mark.parametrize(
    ("model", "data", "sentence"),
    [("gpt", "digits", "this is the only one"), ("gan", "moons", "models that learn from one loss alone"),
     ("rnn", "digits", "models that learn from one loss alone")],
)  # fmt: skip
def test_what_cannot_be_spread_is_refused_before_anything_is_written(tmp_path, model, data, sentence):
    with pytest.raises(PangenError, match=sentence):
        pangen.fit(model, data, steps=2, out=tmp_path / "run", recipe={"training.shard": True})
    assert not (tmp_path / "run").exists()
