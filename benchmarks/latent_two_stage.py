"""Two stages against one: a vqvae and a gpt of its codes beside a vae that trains as long as both together.

    PANGEN_DATA=... python benchmarks/latent_two_stage.py --data mnist --budget 20m --seeds 3
    python benchmarks/latent_two_stage.py --data digits --budget 20s --seeds 3 --share 0.5

Bits/dim of the two stages is the whole code length, log p(codes) + log p(x given codes), a bound on log p(x)
as the vae's is. The Frechet distance is that of draws from p(x given code), and that of its means, for both: a
draw has the noise that is left to the pixels, a mean is smooth. Labels are given to the gpt and to the vae.
Recorded beside: what the pixels cost once the codes are known, and the perplexity of the codebook on test
images as a share of its size. Run folders under `runs/` are kept; the same command resumes them.
"""

from __future__ import annotations

import argparse
import math
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
from pangen.evaluation.judge import Judge, pick
from pangen.networks.quantise import perplexity
from pangen.rng import generator
from pangen.run import Run

EXAMPLES = 1000
"""Test images for the two numbers beside."""
METRICS = ("bits_per_dim", "frechet of draws", "frechet of means")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=["mnist", "digits"], default="mnist")
    parser.add_argument(
        "--budget", type=seconds, default=1200.0, help="training time of both stages together"
    )
    parser.add_argument("--share", type=float, default=0.6, help="of the budget, for the first stage")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data, means = pangen.load_data(args.data), {}
    for model, train in {"vqvae + gpt": two_stages, "vae": one_stage}.items():
        began = time.perf_counter()
        found = [measured(train(data, seed, args), data, seed, model) for seed in range(args.seeds)]
        facts = {"model": model, "data": args.data, "budget": args.budget}
        facts |= {name: [one[name] for one in found] for name in found[0] if name not in METRICS}
        if model != "vae":
            facts["share"] = args.share
        for metric in METRICS:
            values = [one[metric] for one in found]
            record("latent_two_stage", values, metric=metric, seconds=time.perf_counter() - began, **facts)
            means.setdefault(metric, {})[model] = values
    for metric, values in means.items():
        print(verdict(metric, values, less=True))


def two_stages(data: Data, seed: int, args: argparse.Namespace) -> list[Run]:
    """Both runs, the one of the whole model last."""
    first = run_of("vqvae", data, args.budget * args.share, seed, args)
    return [first, run_of("gpt", f"latents:{first.path}", args.budget * (1 - args.share), seed, args)]


def one_stage(data: Data, seed: int, args: argparse.Namespace) -> list[Run]:
    return [run_of("vae", data, args.budget, seed, args)]


def run_of(model: str, data: Data | str, budget: float, seed: int, args: argparse.Namespace) -> Run:
    folder = f"two-stage-{args.data}-{args.budget:.0f}s-{args.share:g}-{seed}"
    return trained(model, data, f"{folder}/{model}", budget=budget, seed=seed)


def measured(runs: list[Run], data: Data, seed: int, model: str) -> dict[str, Any]:
    """Numbers of the whole model, and of its codes where it has two stages."""
    judge = Judge(data)
    found: dict[str, Any] = dict.fromkeys(METRICS)
    found["bits_per_dim"] = judge.judge(runs[-1])["likelihood"]["bits_per_dim"]
    for metric, mean in zip(METRICS[1:], (False, True), strict=True):
        y = runs[-1].conditions(judge.samples)
        x = samples(runs, judge.samples, y, mean=mean)
        found[metric] = judge.measure(x, y)["fidelity"]["frechet"]["value"]
    found["steps"] = [run.card["steps"] for run in runs]
    found["train_seconds"] = [run.card["seconds"] for run in runs]
    if len(runs) > 1:
        first, second = runs
        x, size = pick(data.test, EXAMPLES).x, first.model.latent_space.levels
        codes = second.codec.encode(x)
        found["pixel_bits_per_dim"] = -float(codes.log_volume.mean()) / (x[0].numel() * math.log(2))
        found["perplexity_share"] = float(perplexity(codes.x, size)) / size
    print(f"{model} seed {seed}: " + ", ".join(f"{k} {v}" for k, v in found.items()), flush=True)
    return found


def samples(runs: list[Run], n: int, y: torch.Tensor | None, *, mean: bool) -> torch.Tensor:
    """Raw samples: codes, then p(x given code) drawn from, or its means."""
    if len(runs) == 1:
        return runs[0].sample(n, y, mean=mean)
    first, second = runs
    with torch.no_grad():
        parts = second.model.sample(n, y).split(first.model.chunk)
        ps = [first.model.p(z) for z in parts]
        noise = generator("cpu", "benchmark")
        return first.codec.decode(torch.cat([p.mean if mean else p.sample(noise) for p in ps]))


if __name__ == "__main__":
    main()
