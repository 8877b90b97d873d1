"""Boltzmann machines on bars-and-stripes: exact negative log-likelihood above the entropy.

    python benchmarks/energy_small.py --seeds 3

All states are summed, so there is no error but that of the test examples, which is shared: a
model's nats are set against the law's on the same examples.
"""

from __future__ import annotations

import argparse
import os
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from ledger import record

import pangen
from pangen.cli.options import seconds

RECIPES = {
    "rbm": {"model.width": 64, "model.replicas": 4, "model.chains": 256, "training.lr": 0.3},
    "boltzmann": {},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--budget", type=seconds, default=60.0)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    data = pangen.load_data("bars-and-stripes")
    for model, recipe in RECIPES.items():
        shares, began = [], time.perf_counter()
        for seed in range(args.seeds):
            run = pangen.fit(
                model, data, budget=args.budget, seed=seed, recipe={"training.batch": 256, **recipe}
            )
            found = run.log_prob(data.test.x)
            above = float((data.truth.log_prob(data.test.x).double() - found.nats).mean())
            shares.append(above / data.truth.entropy)
            print(f"{model} seed {seed}: {above:.4f} nat above the entropy, {shares[-1]:.2%} ({found.kind})")
        record(
            "energy_small", shares, model=model, data="bars-and-stripes", budget=args.budget,
            metric="exact nats above the entropy, as a share of the entropy", seconds=time.perf_counter() - began,
        )  # fmt: skip


if __name__ == "__main__":
    main()
