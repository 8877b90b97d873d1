"""The deep energy-based model in the plane: KL(data || model) by quadrature, both laws known exactly.

    python benchmarks/energy_2d.py --seeds 3 --budget 60

The model's density is normalised on the lattice, so that nothing rests on an estimate of log Z.
"""

from __future__ import annotations

import argparse
import os
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from ledger import record

import pangen
from pangen.data.dataset import Data
from pangen.run import Run

POINTS, REACH = 800, 6.0
"""Lattice points on each axis, and how many standard deviations of the data it reaches out."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=["moons", "gaussians8"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget", type=float, default=60.0)
    parser.add_argument("--objective", choices=["contrastive", "score"], default="contrastive")
    args = parser.parse_args()
    for name in args.data:
        data, began, found = pangen.load_data(name), time.perf_counter(), []
        for seed in range(args.seeds):
            run = pangen.fit(
                "ebm", data, budget=args.budget, seed=seed, device="cpu", recipe={"model.objective": args.objective}
            )  # fmt: skip
            kl, log_z = divergence(run, data)
            found.append(kl)
            print(
                f"{name} seed {seed}: KL {kl:.4f} nat, log Z off by {run.model.log_z.logsumexp(0) - log_z:+.4f}, "
                f"{run.card['steps']} steps in {run.card['seconds']:.0f} s",
                flush=True,
            )
        record(
            "energy_2d", found, model="ebm", data=name, objective=args.objective, budget=args.budget,
            metric="KL(data || model), nats, by quadrature", seconds=time.perf_counter() - began,
        )  # fmt: skip


@torch.no_grad()
def divergence(run: Run, data: Data) -> tuple[float, float]:
    """KL(data || model) in nats, and the model's log Z, as sums over a lattice."""
    mean, std = data.train.x.mean(0), data.train.x.std(0)
    axes = [torch.linspace(float(m - REACH * s), float(m + REACH * s), POINTS) for m, s in zip(mean, std, strict=True)]  # fmt: skip
    lattice = torch.cartesian_prod(*axes)
    cell = float(torch.stack([axis[1] - axis[0] for axis in axes]).double().log().sum())
    log_p = torch.cat([data.truth.log_prob(part).double() for part in lattice.split(20000)])
    score, volume = [], 0.0
    for part in lattice.split(20000):
        x, log_volume = run.codec.encode(part)
        score.append(-run.model.energy(x).double())
        volume = float(log_volume[0])
    score = torch.cat(score) + volume
    log_z = (score + cell).logsumexp(0)
    p = (log_p + cell).exp()
    assert abs(float(p.sum()) - 1) < 1e-3, "the lattice does not hold the data's law"
    inside = p > 0
    return float((p * (log_p - score + log_z))[inside].sum()), float(log_z)


if __name__ == "__main__":
    main()
