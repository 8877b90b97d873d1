"""Diffusion of codes against diffusion of pixels, at equal training time: edm behind a vae, and edm alone.

    PANGEN_DATA=... python benchmarks/latent_diffusion.py --data fashion-mnist --budget 20m --seeds 3
    python benchmarks/latent_diffusion.py --data digits --budget 60s --seeds 3 --share 0.3

The budget is that of both stages together; the labels are given to edm, the vae has none. The Frechet distance and coverage are those of
`pangen evaluate` against test images, of as many samples as it takes. The two stages are measured twice: drawn from p(x given
code), as they are one model, which leaves noise in the pixels, and by the mean, which is smooth. Seconds are those of 1000 samples, by 18 steps of
Heun's method and, where there is one, the decoder. Run folders under `runs/` are kept; the same command resumes them.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from kept import trained
from ledger import record, verdict

import pangen
from pangen.cli.options import seconds
from pangen.data import Data
from pangen.evaluation import Judge
from pangen.evaluation.cost import sample_timed
from pangen.run import Run

LESS, MORE = ("frechet", "seconds per 1000 samples"), ("coverage",)
"""Metrics of which less is better, and of which more is."""
PIXELS, DRAWS, MEANS = "edm", "vae + edm, draws", "vae + edm, means"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument(
        "--budget", type=seconds, default=1200.0, help="training time of both stages together"
    )
    parser.add_argument("--share", type=float, default=0.5, help="of the budget, for the first stage")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data, began = pangen.load_data(args.data), time.perf_counter()
    judge = Judge(data)
    found: dict[str, list[dict[str, float]]] = {PIXELS: [], DRAWS: [], MEANS: []}
    steps: dict[str, list[int]] = {"pixels": [], "vae": [], "codes": []}
    for seed in range(args.seeds):
        runs = trained_runs(data, seed, args)
        for name, run in runs.items():
            steps[name].append(run.card["steps"])
        found[PIXELS].append(measured(judge, runs["pixels"], seed))
        found[DRAWS].append(measured(judge, runs["codes"], seed))
        found[MEANS].append(measured(judge, runs["codes"], seed, mean=True))
        print(
            f"seed {seed}: " + ", ".join(f"{name} {values[-1]}" for name, values in found.items()), flush=True
        )
    values = {m: {name: [one[m] for one in rows] for name, rows in found.items()} for m in LESS + MORE}
    for metric, by_model in values.items():
        for name, numbers in by_model.items():
            record(
                "latent_diffusion", numbers, metric=metric, model=name, data=args.data, budget=args.budget,
                share=args.share, steps=steps, samples=judge.samples, seconds=time.perf_counter() - began,
            )  # fmt: skip
    print(" ".join(verdict(metric, values[metric], less=metric in LESS) for metric in LESS + MORE))


def trained_runs(data: Data, seed: int, args: argparse.Namespace) -> dict[str, Run]:
    """Of the pixels, of the first stage, and of its codes."""
    folder = f"latent-diffusion-{args.data}-{args.budget:.0f}s-{args.share:g}-{seed}"
    pixels = trained("edm", data, f"{folder}/pixels", budget=args.budget, seed=seed)
    vae = trained("vae", data, f"{folder}/vae", budget=args.budget * args.share, seed=seed, conditional=False)
    rest = args.budget * (1 - args.share)
    codes = trained("edm", f"latents:{vae.path}", f"{folder}/codes", budget=rest, seed=seed)
    return {"pixels": pixels, "vae": vae, "codes": codes}


def measured(judge: Judge, run: Run, seed: int, *, mean: bool = False) -> dict[str, float]:
    y = run.conditions(judge.samples, seed=seed)
    x, cost = sample_timed(run, judge.samples, y, seed=seed)
    if mean:
        with torch.no_grad():
            x = run.codec.decode(run.model.sample(judge.samples, y, seed=seed))
    fidelity: dict[str, Any] = judge.measure(x, y)["fidelity"]
    return {
        **{metric: fidelity[metric]["value"] for metric in ("frechet", "coverage")},
        "seconds per 1000 samples": cost["sample_seconds_per_1000"],
    }


if __name__ == "__main__":
    main()
