"""Diffusion of images: distances, the solvers' curve, and what a classifier learns from samples alone.

    python benchmarks/diffusion_images.py digits --budget 5m --seeds 3
    python benchmarks/diffusion_images.py mnist --budget 25m --seeds 1 --synthetic 20000 \\
        --set model.width 256 --set training.lr 2e-3 --sampler dpmpp 12

The Fréchet distance is measured by the model's own sampler, and at 10, 20, 50 and 100 evaluations of the network by
DDIM and DPM-Solver++; by their ratios a solver is judged. With `--synthetic N` instead a small convolutional network
learns labels from N samples, and is tested on all real test images; beside it the same network that learnt from as
many real ones. Run folders under `runs/` are kept, and serve `consistency.py` as teachers.
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
from ledger import record

import pangen
from pangen.cli.options import seconds
from pangen.data import Data, Split
from pangen.evaluation.judge import Judge
from pangen.run import Run

CURVE, SOLVERS = (10, 20, 50, 100), ("ddim", "dpmpp")
CLASSIFIER: dict[str, Any] = {"model.channels": 16, "model.width": 64, "training.batch": 64}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--model", default="edm")
    parser.add_argument("--budget", type=seconds, default=300.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--synthetic", type=int, metavar="N", default=0)
    parser.add_argument("--sampler", nargs=2, metavar=("NAME", "STEPS"), help="another than the model's own")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--set", nargs=2, action="append", default=[], metavar=("FIELD", "VALUE"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data, began = pangen.load_data(args.data), time.perf_counter()
    judge, found = Judge(data), []
    how: dict[str, Any] = {"sampler": args.sampler[0], "steps": int(args.sampler[1])} if args.sampler else {}
    changed = "".join(f"-{name.rpartition('.')[2]}={value}" for name, value in args.set)
    for seed in range(args.seeds):
        run = trained(
            args.model, data, f"{args.model}-{args.data}-{args.budget:.0f}s{changed}-{seed}", budget=args.budget,
            seed=seed, recipe=dict(args.set),
        )  # fmt: skip
        values = quality(run, judge, seed, how)
        if not args.synthetic:
            values |= curve(run, judge, seed)
        else:
            values["train on synthetic, cnn"] = learnt_from(
                samples_of(run, data, args.synthetic, seed, how), data
            )
        print(f"seed {seed}, {run.card['steps']} steps:", {k: round(v, 4) for k, v in values.items()}, flush=True)  # fmt: skip
        found.append(values)
    facts = {
        "data": args.data,
        "budget": args.budget,
        "changed": dict(args.set),
        "synthetic": args.synthetic,
        **how,
    }
    for metric in found[0]:
        numbers = [one[metric] for one in found]
        record("diffusion_images", numbers, model=args.model, **facts, metric=metric, seconds=time.perf_counter() - began)  # fmt: skip
    if args.synthetic:
        few = replace(data, train=data.train.first(args.synthetic))
        record(
            "diffusion_images", [learnt_from(few, data)], model="real images", **facts,
            metric="train on synthetic, cnn", seconds=time.perf_counter() - began,
        )  # fmt: skip
    else:
        wins = sum(one["frechet, dpmpp 10"] <= one["frechet, ddim 20"] for one in found)
        print(f"DPM-Solver++ in 10 steps is no farther than DDIM in 20 for {wins} of {len(found)} seeds.")


def quality(run: Run, judge: Judge, seed: int, how: dict[str, Any]) -> dict[str, float]:
    """Fidelity of samples."""
    y = run.conditions(judge.samples, seed=seed)
    fidelity = judge.measure(run.sample(judge.samples, y, seed=seed, **how), y)["fidelity"]
    return {metric: fidelity[metric]["value"] for metric in ("frechet", "precision", "recall", "coverage")}


def curve(run: Run, judge: Judge, seed: int) -> dict[str, float]:
    """Fréchet distances at so many evaluations of the network."""
    y, values = run.conditions(judge.samples, seed=seed), {}
    for solver in SOLVERS:
        for steps in CURVE:
            x = run.sample(judge.samples, y, seed=seed, sampler=solver, steps=steps)
            values[f"frechet, {solver} {steps}"] = judge.frechet(x, y)["value"]
        few, many = (values[f"frechet, {solver} {steps}"] for steps in (CURVE[0], CURVE[-1]))
        values[f"{solver} at {CURVE[0]} over {CURVE[-1]}"] = few / many
    return values


def samples_of(run: Run, data: Data, n: int, seed: int, how: dict[str, Any]) -> Data:
    """The data with samples in the place of what is learnt from; each class as often as it occurs."""
    y = run.conditions(n, seed=seed + 1000)
    x = run.sample(n, y, seed=seed + 1000, **how)
    kept = n // 10
    return replace(
        data, name=f"{data.name}, sampled", train=Split(x[kept:], y[kept:]), validation=Split(x[:kept], y[:kept])
    )  # fmt: skip


def learnt_from(shown: Data, data: Data) -> float:
    """Accuracy on the real test images of a classifier that saw `shown`."""
    run = pangen.fit("cnn", shown, steps=3000, seed=0, device="cpu", recipe=CLASSIFIER)
    x, y = data.test.all()
    return float((run.classify(x).argmax(1) == y).double().mean())


if __name__ == "__main__":
    main()
