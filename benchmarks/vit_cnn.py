"""A vision Transformer beside a convolutional network of equal size, from few images to many.

    python benchmarks/vit_cnn.py digits --steps 1500
    PANGEN_DATA=... python benchmarks/vit_cnn.py fashion --steps 1500

Accuracy on the test split after training on a part of the training split, three sizes, each with three seeds;
both networks have the same number of parameters to a few percent, and see as many examples.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from ledger import interval, record

import pangen
from pangen.data import Data
from pangen.evaluation.judge import pick

DATA = {"digits": "digits", "fashion": "fashion-mnist"}
SIZES = {"digits": (100, 400, 1437), "fashion": (500, 5000, 50000)}
FIELDS: dict[str, dict[str, dict[str, Any]]] = {
    "digits": {
        "vit": {"model.width": 64, "model.depth": 3},
        "cnn": {"model.channels": 32, "model.width": 64},
    },
    "fashion": {
        "vit": {"model.width": 72, "model.depth": 4},
        "cnn": {"model.channels": 16, "model.width": 64},
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", choices=DATA)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    data = pangen.load_data(DATA[args.data])
    for size in SIZES[args.data]:
        found = {}
        for model in ("vit", "cnn"):
            began, accuracies = time.perf_counter(), []
            for seed in range(args.seeds):
                run, accuracy = trained(model, part(data, size), seed, args)
                accuracies.append(accuracy)
            found[model] = interval(accuracies)
            record(
                "vit_cnn", accuracies, model=model, data=data.name, trained_on=min(size, len(data.train)), steps=args.steps,
                parameters=run.card["parameters"], metric="test accuracy", seconds=time.perf_counter() - began,
            )  # fmt: skip
        print(verdict(min(size, len(data.train)), found), flush=True)


def part(data: Data, size: int) -> Data:
    """The data with `size` training images."""
    some = pick(data.train, size)
    return replace(data, train=replace(data.train, x=some.x, y=some.y))


def trained(model: str, data: Data, seed: int, args: argparse.Namespace) -> tuple[pangen.Run, float]:
    fields = {**FIELDS[args.data][model], "training.batch": 64}
    run = pangen.fit(model, data, steps=args.steps, seed=seed, device="cpu", recipe=fields)
    x, y = data.test.all()
    return run, float((run.classify(x).argmax(1) == y).double().mean())


def verdict(size: int, found: dict[str, tuple[float, float, float]]) -> str:
    (vit, vit_low, vit_high), (cnn, cnn_low, cnn_high) = found["vit"], found["cnn"]
    apart = vit_low > cnn_high or cnn_low > vit_high
    who = ("the vit wins" if vit > cnn else "the cnn wins") if apart else "neither wins"
    return f"{size} images: {who}, {vit:.4f} [{vit_low:.4f}, {vit_high:.4f}] for the vit, {cnn:.4f} [{cnn_low:.4f}, {cnn_high:.4f}] for the cnn."


if __name__ == "__main__":
    main()
