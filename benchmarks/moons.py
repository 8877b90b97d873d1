"""RealNVP on `moons`: nats above the entropy of a law that is known exactly.

python benchmarks/moons.py --model realnvp --seeds 3 --budget 20
"""

from __future__ import annotations

import argparse
import os
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from ledger import record

import pangen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="realnvp")
    parser.add_argument("--data", default="moons")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget", type=float, default=20.0)
    args = parser.parse_args()
    began, regrets = time.perf_counter(), []
    data = pangen.load_data(args.data)
    for seed in range(args.seeds):
        run = pangen.fit(args.model, data, budget=args.budget, seed=seed, device="cpu")
        gap = data.truth.log_prob(data.test.x) - run.log_prob(data.test.x).nats
        error = float(gap.std() / len(gap) ** 0.5)
        regrets.append(float(gap.mean()))
        print(
            f"seed {seed}: {gap.mean():.4f} +- {error:.4f} nat above the entropy, {run.card['steps']} steps",
            flush=True,
        )
    record(
        "moons", regrets, model=args.model, data=args.data, budget=args.budget,
        metric="mean log p_true - log p_model, nats, 10k held-out points", seconds=time.perf_counter() - began,
    )  # fmt: skip


if __name__ == "__main__":
    main()
