"""Diffusion in the plane: sliced Wasserstein distance to laws that are known, over that of real to real data.

    python benchmarks/diffusion_2d.py --seeds 3 --budget 180
    python benchmarks/diffusion_2d.py --models edm --data moons --seeds 3 --budget 180 --set model.median=0.3

10 000 samples against 10 000 fresh real ones in standardised data, 512 projections; by 18 steps of Heun's
method and by the model's own sampler. 1 is the noise floor: two sets of real data. Run folders under `runs/` are
kept, and serve `consistency.py` as teachers.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from itertools import pairwise
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from kept import trained
from ledger import record
from torch import Tensor

import pangen
from pangen.data.dataset import Data

COUNT, PROJECTIONS = 10_000, 512
HOW: dict[str, dict[str, Any]] = {"heun 18": {"sampler": "heun", "steps": 18}, "its own": {}}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["edm", "ddpm", "score", "flow-matching"])
    parser.add_argument("--data", nargs="+", default=["moons", "gaussians8", "checkerboard"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget", type=float, default=180.0, help="seconds of training")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="fields of the recipe")
    args = parser.parse_args()
    recipe = dict(field.split("=", 1) for field in args.set)
    summary = []
    for name in args.data:
        data = pangen.load_data(name)
        floor = noise_floor(data)
        ratios = {model: measured(model, data, floor, args, recipe) for model in args.models}
        model, sampler = min(
            ((m, s) for m in ratios for s in HOW), key=lambda pair: statistics.fmean(ratios[pair[0]][pair[1]])
        )
        value = statistics.fmean(ratios[model][sampler])
        summary.append(f"{name} {model} ({sampler}, {value:.2f} times the floor)")
    print(f"Nearest the truth: {'; '.join(summary)}.")


def measured(
    model: str, data: Data, floor: float, args: argparse.Namespace, recipe: dict[str, str]
) -> dict[str, list[float]]:
    """Ratios by each sampler, one a seed; recorded."""
    ratios: dict[str, list[float]] = {sampler: [] for sampler in HOW}
    regrets, steps, began = [], [], time.perf_counter()
    for seed in range(args.seeds):
        changed = "".join(f"-{name.rpartition('.')[2]}={value}" for name, value in recipe.items())
        out = f"{model}-{data.name}-{args.budget:.0f}s{changed}-{seed}"
        run = trained(model, data, out, budget=args.budget, seed=seed, recipe=recipe)
        real = data.truth.sample(COUNT, torch.Generator().manual_seed(1000 + seed))
        for sampler, how in HOW.items():
            ratios[sampler].append(sliced_wasserstein(real, run.sample(COUNT, seed=seed, **how)) / floor)
        few = real[:1000]
        regrets.append(round(float((data.truth.log_prob(few) - run.log_prob(few).nats).mean()), 4))
        steps.append(run.card["steps"])
    for sampler, values in ratios.items():
        record(
            "diffusion_2d", values, model=model, data=data.name, sampler=sampler, budget=args.budget, recipe=recipe,
            steps=steps, regrets=regrets, seconds=time.perf_counter() - began,
            metric="sliced Wasserstein-2 to fresh real data over that of real to real",
        )  # fmt: skip
    return ratios


def noise_floor(data: Data) -> float:
    """Mean distance between two sets of real data."""
    sets = [data.truth.sample(COUNT, torch.Generator().manual_seed(i)) for i in range(9)]
    return statistics.fmean(sliced_wasserstein(a, b) for a, b in pairwise(sets))


def sliced_wasserstein(real: Tensor, fake: Tensor) -> float:
    """Between equal numbers of points: the root mean square over projections, in units of the real data."""
    mean, std = real.double().mean(0), real.double().std(0)
    directions = torch.randn(
        real.shape[1], PROJECTIONS, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    directions /= directions.norm(dim=0)
    a, b = (((x.double() - mean) / std @ directions).sort(0).values for x in (real, fake))
    return float((a - b).square().mean().sqrt())


if __name__ == "__main__":
    main()
