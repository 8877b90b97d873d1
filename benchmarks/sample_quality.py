"""How good samples are at equal budgets, over seeds: distance, coverage, copies, sharpness, and how fast they come.

    python benchmarks/sample_quality.py digits --models r3gan,vae,ddpm --budget 60s --seeds 3
    PANGEN_DATA=... python benchmarks/sample_quality.py fashion-mnist --models r3gan,vae --budget 5m --seeds 3
    PANGEN_DATA=... python benchmarks/sample_quality.py olivetti-faces --models r3gan --budget 5m --seeds 3 \\
        --set model.augment adaptive
    python benchmarks/sample_quality.py digits --train 100 --models r3gan --unconditional --budget 2m --seeds 3

Every model has the settings of its recipe, unless `--set` changes them. Beside stand held-out real images and copies
of training images. Likelihoods are not computed. Run folders under `runs/` are kept; the same command goes on.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from kept import trained
from ledger import record, verdict

import pangen
from pangen.cli.options import seconds
from pangen.evaluation.cost import sample_timed
from pangen.evaluation.judge import Judge

LESS = ("frechet", "frechet_extrapolated", "kernel_distance", "mmd", "sliced_wasserstein", "near copies")
"""Of which less is better."""
IDEAL = {"sharpness": 1.0, "two_sample": 0.5}
"""Of real data: the nearer the better."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--models", default="r3gan,vae", type=lambda names: names.split(","))
    parser.add_argument("--budget", type=seconds, default=60.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train", type=int, metavar="N", help="the first training examples alone")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--unconditional", action="store_true")
    parser.add_argument("--set", nargs=2, action="append", default=[], metavar=("FIELD", "VALUE"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data = pangen.load_data(args.data)
    if args.train:
        data = replace(data, train=data.train.first(args.train))
    judge, means = Judge(data), {}
    changed = "".join(f"-{name.rpartition('.')[2]}={value}" for name, value in args.set)
    changed += f"-of-{args.train}" if args.train else ""
    facts = {
        "data": args.data,
        "trained on": len(data.train),
        "budget": args.budget,
        "changed": dict(args.set),
    }
    for row in judge.yardsticks():
        for metric, value in numbers(row).items():
            record(
                "sample_quality",
                [value],
                model=row["model"],
                **{"data": args.data, "trained on": len(data.train)},
                metric=metric,
                seconds=0.0,
            )
    for model in args.models:
        began, found = time.perf_counter(), []
        for seed in range(args.seeds):
            run = trained(
                model, data, f"{model}-{args.data}-{args.budget:.0f}s{changed}-{seed}", budget=args.budget, seed=seed,
                conditional=not args.unconditional, recipe=dict(args.set),
            )  # fmt: skip
            y = run.conditions(judge.samples, seed=seed)
            x, cost = sample_timed(run, judge.samples, y, seed=seed)
            speed = 1000 / cost["sample_seconds_per_1000"]
            found.append(numbers(judge.measure(x, y)) | {"samples per second": speed})
            print(f"{model} seed {seed}:", {k: round(v, 4) for k, v in found[-1].items()}, flush=True)
            print("; ".join(run.card["warnings"]), flush=True)
        for metric in found[0]:
            values = [one[metric] for one in found]
            record(
                "sample_quality",
                values,
                model=model,
                **facts,
                metric=metric,
                seconds=time.perf_counter() - began,
            )
            means.setdefault(metric, {})[model] = values
    for metric, values in means.items():
        off = {
            model: [abs(value - IDEAL[metric]) for value in each] if metric in IDEAL else each
            for model, each in values.items()
        }
        if len(values) > 1:
            name = f"{metric}, off that of real data" if metric in IDEAL else metric
            print(verdict(name, off, less=metric in (*LESS, *IDEAL)))


def numbers(row: dict[str, Any]) -> dict[str, float]:
    """What `Judge.measure` found, one number a name."""
    found = {name: one["value"] for name, one in row["fidelity"].items()}
    found |= {"near copies": row["near_copies"].get("value"), "sharpness": row["sharpness"].get("value")}
    found["train on synthetic"] = row["classification"].get("value")
    return {name: value for name, value in found.items() if value is not None}


if __name__ == "__main__":
    main()
