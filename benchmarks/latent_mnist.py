"""Latent-variable models on binarised MNIST: bounds on the test log-likelihood in nats.

    python benchmarks/latent_mnist.py vae-400-20 --budget 10m --seeds 3
    python benchmarks/latent_mnist.py vae-burda --budget 60m --examples 1000
    python benchmarks/latent_mnist.py iwae-burda --budget 60m --examples 1000
    python benchmarks/latent_mnist.py hvae --budget 90m

Without labels. The networks of `vae-400-20` have one hidden layer of 400 (ReLU) and 20 codes, those of the two
named after Burda et al. (2016) two of 200 (tanh) and 50; both see pixels drawn anew at every step, and are graded on
a fixed draw of the test split. `hvae` has one fixed draw of everything.

The bound is the mean over the first `--examples` of the test split of log 1/k sum_i w_i, with its standard error over
examples; k is 1 (the ELBO), 5000 or 1000. Every example is decoded k times, so that k = 5000 costs as
much as 5000 passes over the split: its seconds are in the result. It runs in pieces of bounded memory.

Run folders under `runs/` are kept: the same command goes on with one that was interrupted, and grades one that is
complete.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass, field
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from kept import trained
from ledger import record

import pangen
from pangen.cli.options import seconds
from pangen.data import Data


@dataclass(frozen=True)
class Task:
    """A model, its data, its fields that differ from the defaults, and the samples of its bound."""

    model: str
    data: str
    k: int
    fields: dict[str, Any] = field(default_factory=dict)


BURDA = {
    "model.network": "mlp", "model.width": 200, "model.depth": 2, "model.activation": "tanh", "model.latent": 50,
    "model.precision": "bfloat16", "training.lr": 2e-3, "training.weight_decay": 0.0, "training.validation_examples": 2000,
}  # fmt: skip
TASKS = {
    "vae-400-20": Task("vae", "mnist-binary-dynamic", 1, {
        "model.network": "mlp", "model.width": 400, "model.latent": 20, "model.k": 1, "model.warmup": 0.0,
        "model.precision": "bfloat16", "training.lr": 2e-3,
        "training.weight_decay": 0.0, "training.validation_examples": 10000,
    }),
    "vae-burda": Task("vae", "mnist-binary-dynamic", 5000, {**BURDA, "model.warmup": 0.0}),
    "iwae-burda": Task("iwae", "mnist-binary-dynamic", 5000, {**BURDA, "model.samples": 50, "model.growth": 1.0}),
    "hvae": Task("hvae", "mnist-binary-static", 1000, {
        "model.width": 512, "model.latent": 32, "model.groups": (1, 2, 3, 1), "model.free_bits": 2.0, "model.dropout": 0.1,
        "model.precision": "bfloat16", "model.k": 8,
    }),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--budget", type=seconds, default=600.0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--examples", type=int, default=10000, help="of the test split, from its first")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--set", nargs=2, action="append", default=[], metavar=("FIELD", "VALUE"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    task = TASKS[args.task]
    data, began = pangen.load_data(task.data), time.perf_counter()
    found = [measured(args, task, data, seed) for seed in range(args.seeds)]
    facts = {name: [one[name] for one in found] for name in found[0] if name != "nats"}
    record(
        "latent_mnist", [one["nats"] for one in found], task=args.task, data=task.data, budget=args.budget,
        examples=min(args.examples, len(data.test)), **facts, changed=dict(args.set),
        metric=f"test nats, importance-weighted bound with k = {task.k}", seconds=time.perf_counter() - began,
    )  # fmt: skip


def measured(args: argparse.Namespace, task: Task, data: Data, seed: int) -> dict[str, Any]:
    """Train, or go on with, one model, and grade it."""
    changed = "".join(f"-{name.rpartition('.')[2]}={value}" for name, value in args.set)
    run = trained(
        task.model, data, f"{args.task}-{args.budget:.0f}s{changed}-{seed}",
        budget=args.budget, seed=seed, conditional=False, recipe={**task.fields, **dict(args.set)},
    )  # fmt: skip
    run.model.k, began = task.k, time.perf_counter()
    nats = -run.log_prob(data.test.x[: args.examples]).nats
    took, error = time.perf_counter() - began, float(nats.std()) / len(nats) ** 0.5
    print(
        f"{args.task} seed {seed}: {nats.mean():.3f} nats (standard error over examples {error:.3f}), "
        f"{run.card['steps']} steps, bound in {took:.0f} s",
        flush=True,
    )
    return {
        "nats": float(nats.mean()), "standard_error": error, "steps": run.card["steps"],
        "train_seconds": run.card["seconds"], "bound_seconds": took,
        "best": run.card["best"],
    }  # fmt: skip


if __name__ == "__main__":
    main()
