"""Products of factors rounded to bfloat16 beside full ones: the same steps, seeds and data, and how good samples become.

    PANGEN_DATA=... python benchmarks/rounding.py fashion-mnist --steps 500 --seeds 3 --set training.batch 64

Records the loss on validation data and the Fréchet distance of either, and prints the paired differences (rounded less
full) with their intervals. How much faster rounded factors are says `unet_speed.py`. Run folders under `runs/` are kept.
"""

from __future__ import annotations

import argparse
import os
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from kept import trained
from ledger import interval, record

import pangen
from pangen.evaluation.judge import Judge

PRECISIONS = ("full", "bfloat16")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--model", default="edm")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--set", nargs=2, action="append", default=[], metavar=("FIELD", "VALUE"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data = pangen.load_data(args.data)
    judge, found = Judge(data), {}
    for precision in PRECISIONS:
        began = time.perf_counter()
        for seed in range(args.seeds):
            run = trained(
                args.model, data, f"{args.model}-{args.data}-{args.steps}-steps-{precision}-{seed}", steps=args.steps,
                seed=seed, recipe={"model.precision": precision, **dict(args.set)},
            )  # fmt: skip
            y = run.conditions(judge.samples, seed=seed)
            one = {
                "validation": run.card["best"]["score"],
                "frechet": judge.frechet(run.sample(judge.samples, y, seed=seed), y)["value"],
            }
            print(f"{precision}, seed {seed}:", {k: round(v, 4) for k, v in one.items()}, flush=True)
            for metric, value in one.items():
                found.setdefault((metric, precision), []).append(value)
        for metric in ("validation", "frechet"):
            record(
                "rounding", found[metric, precision], model=args.model, data=args.data, steps=args.steps,
                changed=dict(args.set), precision=precision, metric=metric, seconds=time.perf_counter() - began,
            )  # fmt: skip
    for metric in ("validation", "frechet"):
        full, rounded = (found[metric, precision] for precision in PRECISIONS)
        mean, low, high = interval([b - a for a, b in zip(full, rounded, strict=True)])
        size = sum(full) / len(full)
        told = "equal within the interval" if low <= 0 <= high else "not equal"
        print(f"{metric}: {mean / size:+.1%} [{low / size:+.1%}, {high / size:+.1%}] by rounding: {told}.")


if __name__ == "__main__":
    main()
