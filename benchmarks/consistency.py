"""Consistency models against their teacher: the distance to real data in one and two steps, over the teacher's.

    python benchmarks/consistency.py --seeds 3 --budget 180
    python benchmarks/consistency.py --data digits --methods distil --seeds 3 --budget 300 --set training.lr=2e-3

The teacher is `edm`, drawn by 18 steps of Heun's method (35 evaluations); students are distilled, tuned from its weights, and
trained from scratch, each for as long as the teacher. In the plane the distance is the sliced Wasserstein distance of 10 000 samples
less that of real to real data; of other data the Fréchet distance to test data in the features of `pangen evaluate`. 1 is the teacher.

Run folders under `runs/` are kept: the same command goes on with one that was interrupted, and measures one that is complete.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from diffusion_2d import COUNT, noise_floor, sliced_wasserstein
from kept import trained
from ledger import record

import pangen
from pangen.cli.options import seconds
from pangen.data.dataset import Data
from pangen.evaluation import Judge
from pangen.run import Run

METHODS = ("distil", "tune", "scratch")
STEPS = (1, 2)
Distance = Callable[..., float]
"""Of a run's samples to real data; it is told the seed and how to sample."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=["moons", "gaussians8", "digits"])
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget", type=seconds, default=180.0, help="of each training")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="of the students' recipe")
    args = parser.parse_args()
    summary = []
    for name in args.data:
        ratios = measured(pangen.load_data(name), args)
        best = [min(args.methods, key=lambda m, k=k: statistics.fmean(ratios[m, k])) for k in STEPS]
        told = [
            f"{m} in {k} ({statistics.fmean(ratios[m, k]):.2f})" for m, k in zip(best, STEPS, strict=True)
        ]
        summary.append(f"{name} {' and '.join(told)}")
    print(f"Nearest to the teacher: {'; '.join(summary)} times its distance.")


def measured(data: Data, args: argparse.Namespace) -> dict[tuple[str, int], list[float]]:
    """Distances over the teacher's by method and steps, one a seed; recorded."""
    distance, metric = distance_of(data)
    found: dict[tuple[str, int], list[float]] = {(m, k): [] for m in args.methods for k in STEPS}
    plain: dict[tuple[str, int], list[float]] = {key: [] for key in found}
    steps: dict[str, list[int]] = {m: [] for m in args.methods}
    teachers, began = [], time.perf_counter()
    for seed in range(args.seeds):
        name = f"edm-{data.name}-{args.budget:.0f}s-{seed}"
        teacher = trained("edm", data, name, budget=args.budget, seed=seed)
        teachers.append(distance(teacher, seed, sampler="heun", steps=18))
        for method in args.methods:
            run = student(teacher, method, data, name, args, seed)
            steps[method].append(run.card["steps"])
            for k in STEPS:
                plain[method, k].append(distance(run, seed, steps=k))
                found[method, k].append(plain[method, k][-1] / teachers[-1])
    for (method, k), values in found.items():
        record(
            "consistency", values, method=method, sampling_steps=k, data=data.name, budget=args.budget,
            changed=dict(field.split("=", 1) for field in args.set), teacher=[round(t, 5) for t in teachers],
            student=[round(v, 5) for v in plain[method, k]], steps=steps[method],
            seconds=time.perf_counter() - began, metric=f"{metric}, over the teacher's",
        )  # fmt: skip
    return found


def student(teacher: Run, method: str, data: Data, name: str, args: argparse.Namespace, seed: int) -> Run:
    """Trained for as long as the teacher, with the recipe that `pangen convert` makes."""
    changed = dict(field.split("=", 1) for field in args.set)
    fields: dict[str, Any] = {"model.width": teacher.recipe.model["width"]}
    if method != "scratch":
        folder = str(Path(teacher.path).resolve())
        fields |= {"model.method": method, "model.teacher": folder, "model.target": "v"}
    out = f"{name}-{method}" + "".join(f"-{field.rpartition('.')[2]}" for field in args.set)
    return trained("consistency", data, out, budget=args.budget, seed=seed, recipe={**fields, **changed})


def distance_of(data: Data) -> tuple[Distance, str]:
    """To fresh real data where its law is known, else to the test split."""
    if data.truth is not None and data.modality == "vector":
        floor = noise_floor(data)

        def sliced(run: Run, seed: int, **how: Any) -> float:
            real = data.truth.sample(COUNT, torch.Generator().manual_seed(1000 + seed))
            return max(sliced_wasserstein(real, run.sample(COUNT, seed=seed, **how)) - floor, 0.05 * floor)

        return sliced, "sliced Wasserstein-2 less that of real data (0.05 of it at least)"
    judge = Judge(data)

    def frechet(run: Run, seed: int, **how: Any) -> float:
        y = run.conditions(judge.samples, seed=seed)
        return judge.frechet(run.sample(judge.samples, y, seed=seed, **how), y)["value"]

    return frechet, "Fréchet distance"


if __name__ == "__main__":
    main()
