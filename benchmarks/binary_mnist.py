"""Boltzmann machines on statically binarised MNIST (our own draw of the pixels, split 50k/10k/10k).

    python benchmarks/binary_mnist.py rbm --budget 20m
    python benchmarks/binary_mnist.py dbm-2 --budget 40m
    python benchmarks/binary_mnist.py dbm-3 --budget 40m

Test log-likelihood in nats, log Z between forward and reverse annealed importance sampling and its
pessimistic end taken. A run folder under `runs/` is kept; the same command resumes it.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from ledger import record

import pangen
from pangen.cli.options import seconds
from pangen.model import last
from pangen.rng import generator
from pangen.samplers.annealing import gibbs_walk, log_z_interval

COMMON = {"training.batch": 100, "model.chains": 100, "training.ema": 0.9995, "training.validations": 5}
RECIPES = {
    "rbm": ("rbm", {"model.width": 500, "training.lr": 0.1}),
    "dbm-2": ("dbm", {"model.hidden": [500, 1000], "training.lr": 0.05}),
    "dbm-3": ("dbm", {"model.hidden": [500, 500, 1000], "training.lr": 0.05}),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("--budget", type=seconds, default=1200.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--temperatures", type=int, default=5000)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    name, fields = RECIPES[args.recipe]
    data = pangen.load_data("mnist-binary-static")
    out = Path("runs") / f"{args.recipe}-binary-mnist-{args.seed}"
    began = time.perf_counter()
    if out.exists():
        run = pangen.load_run(out, device="cpu")
        if run.card["state"] != "complete":
            run = pangen.fit(name, data, out=out, resume=True)
    else:
        run = pangen.fit(name, data, out=out, budget=args.budget, seed=args.seed, recipe={**COMMON, **fields})
    model, path, draw = run.model, run.model.path(), generator("cpu", "benchmark", args.seed)
    with torch.no_grad():
        samples = last(gibbs_walk(path, 100, args.temperatures, draw))
        log_z = log_z_interval(path, samples, args.temperatures, draw)
        model.log_z.copy_(log_z.pessimistic)
    nats = -run.log_prob(data.test.x).nats
    print(
        f"log Z between {log_z.low:.3f} and {log_z.high:.3f}; standard error over examples {nats.std() / 100:.3f}"
    )
    record(
        "binary_mnist", [float(nats.mean())], model=args.recipe, data="mnist-binary-static", budget=args.budget,
        steps=run.card["steps"], train_seconds=run.card["seconds"], log_z=[float(log_z.low), float(log_z.high)],
        train_nats=float(-run.log_prob(data.train.x[:10000]).nats.mean()),
        metric="test nats, pessimistic end of annealed importance sampling", seconds=time.perf_counter() - began,
    )  # fmt: skip


if __name__ == "__main__":
    main()
