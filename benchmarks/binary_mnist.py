"""Boltzmann machines on statically binarised MNIST (our own draw of the pixels, split 50k/10k/10k).

    python benchmarks/binary_mnist.py rbm --budget 20m
    python benchmarks/binary_mnist.py dbm-2 --budget 40m
    python benchmarks/binary_mnist.py dbm-2 --budget 2m --seeds 3 --temperatures 2000
    python benchmarks/binary_mnist.py dbm-3 --budget 2m --seeds 3 --temperatures 2000

Test log-likelihood in nats, log Z between forward and reverse annealed importance sampling and its
pessimistic end taken. Run folders under `runs/` are kept; the same command resumes them.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from kept import trained
from ledger import record

import pangen
from pangen.cli.options import seconds
from pangen.data import Data
from pangen.rng import generator

COMMON = {
    "training.batch": 100, "training.ema": 0.9995, "training.validations": 10, "training.weight_decay": 2e-4,
    "model.chains": 100, "model.precision": "bfloat16",
}  # fmt: skip
LAST = {"training.validations": 1}
"""The last weights are kept: with so few chains as a validation affords, log Z of a dbm is too rough to choose by."""
RECIPES = {
    "rbm": ("rbm", {"model.width": 500, "training.lr": 0.1}),
    "dbm-2": ("dbm", {**LAST, "model.hidden": [500, 1000], "model.pretrain": 0.1, "training.lr": 0.03}),
    "dbm-3": ("dbm", {**LAST, "model.hidden": [500, 500, 1000], "model.pretrain": 0.15, "training.lr": 0.03}),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("--budget", type=seconds, default=1200.0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--temperatures", type=int, default=5000)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data, began = pangen.load_data("mnist-binary-static"), time.perf_counter()
    found = [measured(args, data, seed) for seed in range(args.seeds)]
    facts = {name: [one[name] for one in found] for name in ("steps", "train_seconds", "log_z", "train_nats")}
    record(
        "binary_mnist", [one["test_nats"] for one in found], model=args.recipe, data="mnist-binary-static",
        budget=args.budget, temperatures=args.temperatures, **facts,
        metric="test nats, pessimistic end of annealed importance sampling", seconds=time.perf_counter() - began,
    )  # fmt: skip


def measured(args: argparse.Namespace, data: Data, seed: int) -> dict[str, Any]:
    """Train, or go on with, one machine, and grade it."""
    name, fields = RECIPES[args.recipe]
    run = trained(
        name, data, f"{args.recipe}-binary-mnist-{args.budget:.0f}s-{seed}",
        budget=args.budget, seed=seed, conditional=False, recipe={**COMMON, **fields},  # no labels, as in the papers
    )  # fmt: skip
    model = run.model
    model.temperatures = model.sweeps = args.temperatures
    log_z = model.partition(generator("cpu", "benchmark", seed), "ais", 100)
    model.log_z.copy_(log_z.pessimistic)
    nats = -run.log_prob(data.test.x).nats
    middle, low, high = (float(end) for end in log_z[:3])
    error = float(nats.std()) / len(nats) ** 0.5
    print(
        f"{args.recipe} seed {seed}: {nats.mean():.3f} nats (standard error over examples {error:.3f}), "
        f"log Z {middle:.3f} in [{low:.3f}, {high:.3f}]",
        flush=True,
    )
    return {
        "test_nats": float(nats.mean()),
        "train_nats": float(-run.log_prob(data.train.x[:10000]).nats.mean()),
        "log_z": [low, middle, high],
        "steps": run.card["steps"],
        "train_seconds": run.card["seconds"],
    }


if __name__ == "__main__":
    main()
