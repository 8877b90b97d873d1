"""What Pangen's engine costs beside the same work done bare: a step of training, and the way to the first one.

    OMP_NUM_THREADS=1 python benchmarks/overhead.py steps --pairs 9
    OMP_NUM_THREADS=1 python benchmarks/overhead.py start --pairs 9

`steps`: `pangen.fit` of a tiny `vae` (perceptrons, points in the plane) beside a loop of five lines with the same model,
batches and loss, and torch's own AdamW: microseconds a step of the one over the other, the median of each turn, turns interleaved.
`plain` has neither clipping nor a moving average of the weights; `usual` has both, and so has the loop beside it.
At most 60 are wanted.

`start`: seconds from the start of the process to the end of the first step of `pangen fit` over those of a process that
imports torch and takes one step of an optimizer; neither is taken down after it. At most 1.3 times are wanted.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch
from ledger import record
from torch import Tensor, nn

import pangen
from pangen.families.latent.vae import VAE
from pangen.space import Batch, Progress, Space

BATCH, MOST, SLOWEST = 64, 60, 1.3
SIZE = {"latent": 2, "width": 32, "network": "mlp"}
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
BARE = """
import os
import torch
w = torch.nn.Parameter(torch.zeros(3))
adam = torch.optim.AdamW([w], fused=True)
w.square().sum().backward()
adam.step()
os._exit(0)
"""
FIRST = """
import os, sys
import pangen.training.fit as module
step = module.train_step
def first(*args):
    step(*args)
    os._exit(0)
module.train_step = first
from pangen.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--steps", type=int, default=500, help="of a turn")
    parser.add_argument("--data", nargs="+", default=["an array", "moons", "digits"], help="for `start`")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="as in benchmarks/peers.py")
    args = parser.parse_args()
    torch.set_num_threads(1)
    TASKS[args.task](args)


def steps(args: argparse.Namespace) -> None:
    x = torch.randn(2048, 2, generator=torch.Generator().manual_seed(0))
    clock = CLOCKS[args.clock]
    for name, clip, keep in (("plain", None, 0.0), ("usual", 1.0, 0.999)):
        began, over, bare_us = time.perf_counter(), [], []
        for _ in range(args.pairs + 1):
            ours, bare = engine(x, args.steps, clip, keep, clock), loop(x, args.steps, clip, keep, clock)
            over.append(1e6 * (ours - bare))
            bare_us.append(1e6 * bare)
        over, bare = over[1:], statistics.median(bare_us[1:])
        middle = statistics.median(over)
        record(
            "overhead", over, task="steps", engine=name, median=round(middle, 1), bare_us=round(bare, 1),
            clock=args.clock, metric="microseconds a step over a bare loop, one value a pair",
            seconds=time.perf_counter() - began,
        )  # fmt: skip
        word = "within" if middle <= MOST else "MORE than"
        print(f"{name}: {middle:.0f} microseconds a step over a bare loop's {bare:.0f}, {word} {MOST}.")


def engine(x: Tensor, count: int, clip: float | None, keep: float, clock: Callable[[], float]) -> float:
    """The median seconds from one step's report to the next."""
    ends: list[float] = []
    fields = {**{f"model.{k}": v for k, v in SIZE.items()}, "training.batch": BATCH, "training.clip": clip}
    fields |= {"training.ema": keep, "training.validations": 1, "training.warmup": 0}
    pangen.fit("vae", x, steps=count, device="cpu", recipe=fields, report=lambda event: ends.append(clock()))
    return statistics.median(b - a for a, b in pairwise(ends[:-1]))  # the last validates


def loop(x: Tensor, count: int, clip: float | None, keep: float, clock: Callable[[], float]) -> float:
    """As one would write it."""
    torch.manual_seed(0)
    model = VAE(Space("real", (2,)), **SIZE).train()
    average = [p.detach().clone() for p in model.parameters()]
    weights = list(model.parameters())
    adam, ends = torch.optim.AdamW(weights, lr=1e-3, fused=True), []
    for step in range(count):
        batch = x[torch.randint(len(x), (BATCH,))]
        adam.zero_grad()
        model.loss(Batch(batch), Progress(step, count)).total.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(weights, clip)
        adam.step()
        if keep:
            torch._foreach_lerp_(average, [p.data for p in weights], 1 - keep)
        ends.append(clock())
    return statistics.median(b - a for a, b in pairwise(ends))


def start(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        array = Path(folder) / "points.npy"
        np.save(array, np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32))
        for data in args.data:
            began, ratios = time.perf_counter(), []
            what = str(array) if data == "an array" else data
            ours = [sys.executable, "-c", FIRST, "fit", "vae", what, "--steps", "1", "-o"]
            seconds = []
            for i in range(args.pairs + 1):
                seconds.append(
                    (
                        lasts([*ours, f"{folder}/{data}-{i}"], args.clock),
                        lasts([sys.executable, "-c", BARE], args.clock),
                    )
                )
            ratios = [a / b for a, b in seconds[1:]]
            mine, bare = (statistics.median(pair[i] for pair in seconds[1:]) for i in (0, 1))
            middle = statistics.median(ratios)
            record(
                "overhead", ratios, task="start", data=data, median=round(middle, 3), ours_seconds=round(mine, 3),
                bare_seconds=round(bare, 3), clock=args.clock,
                metric="seconds to the first step over those of bare torch, one value a pair",
                seconds=time.perf_counter() - began,
            )  # fmt: skip
            word = "within" if middle <= SLOWEST else "MORE than"
            print(f"{data}: the first step after {mine:.2f} s, {middle:.2f} times bare torch's {bare:.2f}, {word} {SLOWEST}.")  # fmt: skip


def lasts(command: list[str], clock: str) -> float:
    """Seconds of a process, of the wall or of the processor."""
    began, before = time.perf_counter(), os.times()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    after = os.times()
    if clock == "wall":
        return time.perf_counter() - began
    return after.children_user + after.children_system - before.children_user - before.children_system


TASKS: dict[str, Callable[[argparse.Namespace], None]] = {"steps": steps, "start": start}


if __name__ == "__main__":
    main()
