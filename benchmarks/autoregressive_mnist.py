"""Products of conditionals on statically binarised MNIST (our own draw of the pixels, split 50k/10k/10k).

    PANGEN_DATA=... python benchmarks/autoregressive_mnist.py made --budget 20m
    PANGEN_DATA=... python benchmarks/autoregressive_mnist.py nade --budget 20m
    PANGEN_DATA=... python benchmarks/autoregressive_mnist.py pixelcnn --budget 90m
    PANGEN_DATA=... python benchmarks/autoregressive_mnist.py pixelrnn --budget 90m

Exact test log-likelihood in nats, without labels, with its standard error over examples. Run folders under
`runs/` are kept; the same command goes on with one that was interrupted, and grades one that is complete.
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

DATA = "mnist-binary-static"
TRAINING = {"training.validation_examples": 2000}
ROUNDED = {"model.precision": "bfloat16"}
FIELDS: dict[str, dict[str, Any]] = {
    "made": {  # the paper's one wide hidden layer: residual blocks learn the training images by heart
        "model.width": 2000,
        "model.depth": 0,
        "model.dropout": 0.0,
        "training.lr": 1e-3,
        "training.weight_decay": 0.01,
        "training.batch": 100,
        "training.ema": 0.999,
    },
    "nade": {"model.width": 500, "training.batch": 100, "training.ema": 0.999},
    "pixelcnn": {  # kernels of 5: with those of 3 a pixel sees too little of a digit, however long it learns
        **ROUNDED,
        "model.channels": 32,
        "model.depth": 6,
        "model.kernel": 5,
        "model.dropout": 0.02,
        "training.batch": 16,
        "training.ema": 0.999,
    },
    "pixelrnn": {**ROUNDED, "model.channels": 48, "training.batch": 16, "training.ema": 0.999},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", choices=FIELDS)
    parser.add_argument("--budget", type=seconds, default=1200.0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--set", nargs=2, action="append", default=[], metavar=("FIELD", "VALUE"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data, began = pangen.load_data(DATA), time.perf_counter()
    found = [measured(args, data, seed) for seed in range(args.seeds)]
    facts = {name: [one[name] for one in found] for name in found[0] if name != "nats"}
    record(
        "autoregressive_mnist", [one["nats"] for one in found], model=args.model, data=DATA, budget=args.budget,
        changed=dict(args.set), **facts, metric="test nats, exact", seconds=time.perf_counter() - began,
    )  # fmt: skip


def measured(args: argparse.Namespace, data: Data, seed: int) -> dict[str, Any]:
    """Train, or go on with, one model, and grade it."""
    changed = "".join(f"-{name.rpartition('.')[2]}={value}" for name, value in args.set)
    fields = {**TRAINING, **FIELDS[args.model], **dict(args.set)}
    run = trained(
        args.model, data, f"{args.model}-{DATA}-{args.budget:.0f}s{changed}-{seed}",
        budget=args.budget, seed=seed, conditional=False, recipe=fields,
    )  # fmt: skip
    nats = -run.log_prob(data.test.x).nats
    error = float(nats.std()) / len(nats) ** 0.5
    print(
        f"{args.model} seed {seed}: {nats.mean():.3f} nats (standard error over examples {error:.3f})",
        flush=True,
    )
    return {
        "nats": float(nats.mean()), "standard_error": error, "steps": run.card["steps"],
        "train_seconds": run.card["seconds"], "best": run.card["best"],
    }  # fmt: skip


if __name__ == "__main__":
    main()
