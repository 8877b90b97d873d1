"""Seconds of a step whose examples were read while the one before was computed, beside one that waits for them.

    python benchmarks/ahead.py --pairs 7

A folder of colour images as PNG files, more than memory is said to have room for, so that each is decoded when it is needed.
Trainings with and without reading ahead take turns in one process; the ratio is that of the median steps.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as `pangen` sets them
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import numpy as np
from ledger import record
from PIL import Image
from timing import around_the_median

import pangen
from pangen.data import Data, load_data
from pangen.data.ahead import Ahead
from pangen.memory import keep_freed

MODELS = ("vae", "realnvp", "dcgan")
FILES, SIDE, FEWEST = 4000, 32, 7


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=MODELS, metavar="MODEL")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    if args.pairs < FEWEST:
        parser.error(f"--pairs {args.pairs} is too few for an interval; take at least {FEWEST}.")
    keep_freed()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        data = load_data(folder, stored=True)
        for model in args.only:
            compare(model, data, args.pairs, args.steps)


def write(folder: Path) -> None:
    """Smooth pictures with a little noise, as photographs are: what is all noise takes longer to decode."""
    draw = np.random.default_rng(0)
    for i in range(FILES):
        rough = Image.fromarray(draw.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize(
            (SIDE, SIDE), Image.Resampling.BICUBIC
        )
        noisy = np.asarray(rough, np.int16) + draw.integers(-4, 5, (SIDE, SIDE, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{i}.png")


def compare(model: str, data: Data, pairs: int, count: int) -> None:
    began, ahead, waiting = time.perf_counter(), [], []
    begin = Ahead.begin
    for i in range(pairs + 1):  # the first warms up
        for found in (ahead, waiting) if i % 2 else (waiting, ahead):
            Ahead.begin = begin if found is ahead else lambda *_: None
            found.append(step(model, data, count))
    Ahead.begin = begin
    ratios = [b / a for a, b in zip(ahead[1:], waiting[1:], strict=True)]
    low, high = around_the_median(ratios)
    record(
        "ahead", ratios, model=model, images=f"{FILES} PNG, colour, {SIDE} x {SIDE}",
        median=round(statistics.median(ratios), 3), median_low=round(low, 3), median_high=round(high, 3),
        ahead_ms=round(1e3 * statistics.median(ahead[1:]), 2), waiting_ms=round(1e3 * statistics.median(waiting[1:]), 2),
        metric="a step that waits for its examples over one that does not, one value a pair",
        seconds=time.perf_counter() - began,
    )  # fmt: skip


def step(model: str, data: Data, count: int) -> float:
    """Seconds of the median step."""
    ends: list[float] = []
    pangen.fit(
        model, data, steps=count, device="cpu",
        recipe={"training.validations": 1, "training.validation_examples": 100},
        report=lambda event: ends.append(time.perf_counter()),
    )  # fmt: skip
    return statistics.median(b - a for a, b in pairwise(ends[:-1]))  # the last validates


if __name__ == "__main__":
    main()
