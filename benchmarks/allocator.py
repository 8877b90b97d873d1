"""A step of training where what is freed stays with the process, as `pangen` has it, beside one where glibc decides.

    python benchmarks/allocator.py --pairs 7

Two processes take turns, each with `--steps` steps of `pangen.fit` on images 28 x 28: of the median step, the time of the
one where glibc decides over that of the other, and the memory that each held at most.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from itertools import pairwise

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as `pangen` sets them
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import numpy as np
from ledger import record
from timing import around_the_median

import pangen
from pangen.memory import keep_freed

MODELS = ("vae", "dcgan", "glow", "pixelcnn", "ddpm")
WARMUP, FEWEST = 4, 7


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=MODELS, metavar="MODEL")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--child", choices=("kept", "plain"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.pairs < FEWEST:
        parser.error(f"--pairs {args.pairs} is too few for an interval; take at least {FEWEST}.")
    if args.child:
        print(json.dumps(steps(args.only[0], args.steps, kept=args.child == "kept")))
        return
    for model in args.only:
        compare(model, args.pairs, args.steps)


def compare(model: str, pairs: int, count: int) -> None:
    began, took, held = time.perf_counter(), {"kept": [], "plain": []}, {"kept": [], "plain": []}
    for i in range(pairs):
        for how in ("kept", "plain") if i % 2 else ("plain", "kept"):
            command = [sys.executable, __file__, "--only", model, "--steps", str(count), "--child", how]
            found = subprocess.run(command, capture_output=True, text=True, check=True)
            ms, most = json.loads(found.stdout.splitlines()[-1])
            took[how].append(ms)
            held[how].append(most)
    ratios = [plain / kept for plain, kept in zip(took["plain"], took["kept"], strict=True)]
    low, high = around_the_median(ratios)
    record(
        "allocator", ratios, model=model, median=round(statistics.median(ratios), 3), median_low=round(low, 3),
        median_high=round(high, 3), kept_ms=round(statistics.median(took["kept"]), 1),
        kept_mib=round(statistics.median(held["kept"])), plain_mib=round(statistics.median(held["plain"])),
        metric="a step where glibc decides over one where freed memory stays, one value a pair",
        seconds=time.perf_counter() - began,
    )  # fmt: skip


def steps(model: str, count: int, *, kept: bool) -> tuple[float, float]:
    """Milliseconds of the median step, and MiB that were held at most."""
    if kept:
        keep_freed()
    images, ends = np.random.default_rng(0).integers(0, 256, (512, 28, 28), dtype=np.uint8), []
    pangen.fit(
        model, images, steps=WARMUP + count, device="cpu", recipe={"training.validations": 1},
        report=lambda event: ends.append(time.perf_counter()),
    )  # fmt: skip
    took = [b - a for a, b in pairwise(ends[WARMUP:-1])]  # the last validates
    return 1e3 * statistics.median(took), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
