"""What `training.compile` takes and brings: seconds to compile, and steps with and without compiled networks.

    OMP_NUM_THREADS=1 python benchmarks/compiled.py
    OMP_NUM_THREADS=1 python benchmarks/compiled.py --only gpt pixelcnn --clock processor
    python benchmarks/compiled.py --page

Two copies of a model take the steps of `pangen fit`, moving average and all, by turns in one process; one has compiled
networks. A result is the median, over turns, of the time without over the time with, and the interval that covers it
with at least 95 % probability. Seconds to compile, on one core, are those of the first steps less those of as many later ones:
with an empty folder for compiled code, and once more when it is filled, as for a training that goes on; what it takes to
load the compiler comes before, once. `--page` writes the
table of docs/cost.md from the last result of each.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp(prefix="compiled-")
os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"

import torch
from ledger import RESULTS, record
from readme import between
from timing import around_the_median

from pangen.data.batches import Piece
from pangen.families.autoregressive.gpt import GPT
from pangen.families.autoregressive.pixelcnn import PixelCNN
from pangen.families.diffusion.ddpm import DDPM
from pangen.families.energy.rbm import RBM
from pangen.families.flow.nsf import NSF
from pangen.families.latent.vae import VAE
from pangen.model import GenerativeModel
from pangen.recipes import Training
from pangen.space import Batch, Progress, Space
from pangen.training.compiled import Calls, Compiled, called
from pangen.training.loop import State, train_step
from pangen.training.trial import FIRST

FEWEST = 7
PAGE = Path(__file__).parents[1] / "docs" / "cost.md"
PICTURES = Space("binary", (1, 28, 28), levels=2)


@dataclass(frozen=True)
class Work:
    """A model, and the batch of its steps."""

    model: str
    what: str
    make: Callable[[], GenerativeModel]
    batch: Callable[[], torch.Tensor]

    @property
    def name(self) -> str:
        return f"{self.model}, {self.what}"


def pictures(n: int) -> Callable[[], torch.Tensor]:
    return lambda: (torch.rand(n, 1, 28, 28) < 0.13).float()


def points(n: int, dims: int) -> Callable[[], torch.Tensor]:
    return lambda: torch.randn(n, dims)


def works() -> Iterator[Work]:
    text, bits, real = Space("tokens", (64,), levels=65), PICTURES, Space("real", (1, 28, 28), levels=256)
    yield Work(
        "gpt", "4 blocks 128 wide, 12 texts of 64", lambda: GPT(text, width=128, depth=4),
        lambda: torch.randint(65, (12, 64)),
    )  # fmt: skip
    yield Work(
        "vae", "perceptrons 784-400-20, 128 images", lambda: VAE(bits, latent=20, width=400, network="mlp"), pictures(128)
    )  # fmt: skip
    yield Work(
        "vae", "convolutions, 128 images 28 x 28", lambda: VAE(bits, latent=20, width=512), pictures(128)
    )
    for kind in ("coupling", "autoregressive"):
        yield Work(
            "nsf", f"{kind}, 512 points in the plane", lambda kind=kind: NSF(Space("real", (2,)), kind=kind), points(512, 2)
        )  # fmt: skip
    yield Work("ddpm", "256 points in the plane", lambda: DDPM(Space("real", (2,))), points(256, 2))
    yield Work(
        "ddpm", "32 images 28 x 28", lambda: DDPM(real, width=512), lambda: 2 * torch.rand(32, 1, 28, 28) - 1
    )  # fmt: skip
    yield Work("pixelcnn", "32 images 28 x 28", lambda: PixelCNN(bits), pictures(32))
    yield Work("rbm", "784-500, 128 images", lambda: RBM(bits, width=500), pictures(128))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="works whose names contain one of these")
    parser.add_argument("--page", action="store_true", help="write the table of docs/cost.md, and no more")
    parser.add_argument("--pairs", type=int, default=9, help="turns of each side, at least 7")
    parser.add_argument("--turn", type=float, default=0.5, help="seconds of a turn, at least")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="as in benchmarks/peers.py")
    args = parser.parse_args()
    if args.pairs < FEWEST:
        parser.error(f"--pairs {args.pairs} is too few for an interval; take at least {FEWEST}.")
    if args.page:
        between(PAGE, "compiled", table())
        return
    chosen = [w for w in works() if not args.only or any(name in w.name for name in args.only)]
    try:
        print(f"the compiler itself is ready after {wake(CLOCKS[args.clock][1]):.0f} s", flush=True)
        for work in chosen:
            compare(work, args)
    finally:
        shutil.rmtree(os.environ["TORCHINDUCTOR_CACHE_DIR"], ignore_errors=True)


def everything() -> float:
    """Seconds of the processor for this process and those that it has waited for, such as a compiler."""
    return sum(os.times()[:4])


CLOCKS = {"wall": (time.perf_counter, time.perf_counter), "processor": (time.process_time, everything)}
"""For steps, and for compiling."""


def wake(clock: Callable[[], float]) -> float:
    """The seconds of one product, which are those of loading the compiler and of trying the machine's."""
    began = clock()
    net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh())
    x = torch.zeros(2, 4)
    with Compiled(torch.nn.ModuleDict({"net": net}), {"net": {(x.shape,)}}):
        net(x).sum().backward()
    return clock() - began


def compare(work: Work, args: argparse.Namespace) -> None:
    began, (clock, long_clock) = time.perf_counter(), CLOCKS[args.clock]
    torch.manual_seed(0)
    model, batch = work.make().train(), Batch(work.batch())
    model.initialize(batch)
    calls = called(model, [batch], Progress(0, 100))
    if not calls:
        print(f"{work.name}: no network is called, and none can be compiled.", flush=True)
        return
    settings = Training(**{**model.training_defaults, "steps": 10**6})

    def started(how: Calls) -> Callable[[], float]:
        """Takes a step, and returns its seconds."""
        own = copy.deepcopy(model)
        state = State.start(own, settings)
        if how:
            state.compiled = Compiled(own, how)

        def step() -> float:
            tick = clock()
            train_step(state, [Piece(batch)], settings)
            return clock() - tick

        return step

    plain, latencies = started({}), []
    for _ in range(2):
        quick, tick = started(calls), long_clock()
        for _ in range(FIRST):
            quick()
        latencies.append(long_clock() - tick)
    for _ in range(FIRST):
        plain()
    turns = []
    for i in range(args.pairs):
        sides = [(plain, 0), (quick, 1)]
        took = {side: turn(step, args.turn) for step, side in (sides if i % 2 == 0 else sides[::-1])}
        turns.append((took[0], took[1]))
    ratios = [without / within for without, within in turns]
    without, within = (statistics.median(t[i] for t in turns) for i in (0, 1))
    low, high = around_the_median(ratios)
    first, again = (max(seconds - FIRST * within, 0.0) for seconds in latencies)
    record(
        "compiled", ratios, model=work.model, work=work.what, median=round(statistics.median(ratios), 3),
        median_low=round(low, 3), median_high=round(high, 3), step_ms=round(1e3 * without, 3),
        compiled_ms=round(1e3 * within, 3), compiling_seconds=round(first, 1), again_seconds=round(again, 1),
        networks=sorted(calls), clock=args.clock, metric="time of a step without over with, one value a pair",
        seconds=time.perf_counter() - began,
    )  # fmt: skip
    print(f"  median {statistics.median(ratios):.2f} [{low:.2f}, {high:.2f}], {first:.0f} s to compile, {again:.1f} again", flush=True)  # fmt: skip


def turn(step: Callable[[], float], seconds: float) -> float:
    """The median seconds of steps, taken until a turn is over."""
    took: list[float] = []
    while sum(took) < seconds:
        took.append(step())
    return statistics.median(took)


def table() -> str:
    """In Markdown: the last result of each work."""
    rows = map(json.loads, (RESULTS / "compiled.jsonl").read_text().splitlines())
    last = {(row["model"], row["work"]): row for row in rows}
    head = (
        "| model | work | a step, ms | compiled, ms | times faster | s to compile | again | pays from |\n"
        "|---|---|---|---|---|---|---|---|\n"
    )
    return head + "".join(
        f"| `{model}` | {work} | {shown(row['step_ms'])} | {shown(row['compiled_ms'])} | {row['median']:.2f} [{row['median_low']:.2f}, "
        f"{row['median_high']:.2f}] | {row['compiling_seconds']:.0f} | {row['again_seconds']:.1f} | {pays(row)} |\n"
        for (model, work), row in last.items()
    )


def shown(ms: float) -> str:
    return f"{ms:.3g}" if ms < 1000 else f"{ms:.0f}"


def pays(row: dict) -> str:
    """The seconds of a training in which as many are saved as compiling takes; empty where no gain is certain."""
    share = 1 - 1 / row["median"]
    return f"{row['compiling_seconds'] / share:.0f} s" if row["median_low"] > 1 else ""


if __name__ == "__main__":
    main()
