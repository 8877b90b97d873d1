"""A script's own process group: used as long as it lasts, and left to the script."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import pangen
from pangen.errors import PangenError
from pangen.files import read_json, read_tensors

SECONDS = 300
SCRIPT = """
import os, sys
import pangen
import torch.distributed as dist

folder, *rank = sys.argv[1:]
place = {"init_method": f"file://{folder}/meeting", "rank": int(rank[0]), "world_size": 2} if rank else {}
dist.init_process_group("gloo", **place)
fields = {"training.batch": 24, "training.validations": 2, "training.validation_examples": 50, "model.network": "mlp"}
pangen.fit("vae", "digits", steps=4, out=f"{folder}/theirs", device="cpu", recipe=fields)
dist.barrier()
dist.destroy_process_group()
out = f"{folder}/{rank[0]}" if rank else f"{folder}/ours"
pangen.fit("vae", "digits", steps=4, out=out, device="cpu", recipe=fields)
"""


@pytest.fixture
def script(tmp_path) -> str:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return str(path)


@pytest.fixture
def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(pangen.__file__).parents[1])}


def processes(folder: Path, *runs: str) -> list[int]:
    """How many trained each."""
    return [read_json(folder / run / "card.json")["processes"] for run in runs]


def test_it_is_used_and_left_to_the_script(tmp_path, script, environment):
    """And after it the group that `torchrun` has told of."""
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *start, script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=SECONDS)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert processes(tmp_path, "theirs", "ours") == [2, 2]
    first, second = (read_tensors(tmp_path / run / "weights.safetensors")[0] for run in ("theirs", "ours"))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_it_needs_no_torchrun_and_after_it_each_is_alone(tmp_path, script, environment):
    both = [
        subprocess.Popen([sys.executable, script, str(tmp_path), str(rank)], env=environment)
        for rank in range(2)
    ]
    try:
        assert [process.wait(timeout=SECONDS) for process in both] == [0, 0]
    finally:
        for process in both:
            process.kill()
    assert processes(tmp_path, "theirs", "0", "1") == [2, 1, 1]


def test_one_that_carries_nothing_of_the_cpu_is_refused(monkeypatch):
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
