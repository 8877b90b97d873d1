"""Neural spline flows in the plane: nats above the entropy of laws that are known exactly.

python benchmarks/flow_2d.py --seeds 3 --budget 180
python benchmarks/flow_2d.py --model maf --data moons --seeds 3 --budget 60
"""

from __future__ import annotations

import argparse
import json
import os
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from ledger import record

import pangen

HELD_OUT = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="nsf")
    parser.add_argument("--data", nargs="+", default=["moons", "gaussians8", "checkerboard"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget", type=float, default=180.0)
    parser.add_argument(
        "--recipe", type=json.loads, default={}, help='such as \'{"model.kind": "autoregressive"}\''
    )
    args = parser.parse_args()
    for name in args.data:
        data, began, regrets, errors, steps = pangen.load_data(name), time.perf_counter(), [], [], []
        for seed in range(args.seeds):
            run = pangen.fit(
                args.model, data, budget=args.budget, seed=seed, device="cpu", recipe=args.recipe
            )
            x = data.truth.sample(HELD_OUT, torch.Generator().manual_seed(1000 + seed))
            gap = data.truth.log_prob(x) - run.log_prob(x).nats  # paired: the same points for both
            regrets.append(float(gap.mean()))
            errors.append(round(float(gap.std() / HELD_OUT**0.5), 5))
            steps.append(run.card["steps"])
            print(
                f"{name} seed {seed}: {regrets[-1]:.4f} +- {errors[-1]:.4f} nat, {steps[-1]} steps",
                flush=True,
            )
        record(
            "flow_2d", regrets, model=args.model, data=name, budget=args.budget, recipe=args.recipe,
            standard_errors=errors, steps=steps, metric="mean log p_true - log p_model, nats, 10k fresh points",
            seconds=time.perf_counter() - began,
        )  # fmt: skip


if __name__ == "__main__":
    main()
