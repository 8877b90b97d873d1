"""Flows of images: bits/dim of discrete pixels, and what a class-conditional flow knows of classes.

    PANGEN_DATA=... python benchmarks/flow_images.py mnist --seeds 3 --budget 15m
    PANGEN_DATA=... python benchmarks/flow_images.py cifar10 --seeds 1 --budget 20m
    python benchmarks/flow_images.py digits --seeds 3 --budget 30
    python benchmarks/flow_images.py noise --seeds 3 --budget 60

`mnist`: bits/dim of p(x) of nice, realnvp and glow without labels, on test images chosen once.
`cifar10`: glow on 4000 exact images, 500 of them held out, beside naive pixels and two lossless image
formats, whose bytes are those of one file for each image, headers and all. `digits`: the share of test
images whose class is argmax_y log p(x given y) + log p(y). `--codec grid` learns the noise on grey
levels; the other, `dequantise`, draws it uniformly. `noise`: what the first gains over uniform noise on
digits, on the same test images. All bits/dim are upper bounds of the pixels' own.
"""

from __future__ import annotations

import argparse
import io
import math
import os
import time
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from ledger import record

import pangen
from pangen.cli.options import seconds
from pangen.data.dataset import Data
from pangen.evaluation.judge import pick
from pangen.run import Run
from pangen.training.fit import Event

MODELS = {
    "mnist": ["nice", "realnvp", "glow"], "cifar10": ["glow"], "digits": ["realnvp", "glow"],
    "noise": ["realnvp", "glow"],
}  # fmt: skip
DATA = {"mnist": "mnist", "cifar10": "cifar10-lossless-4k", "digits": "digits", "noise": "digits"}
BATCH = 64
"""Of the larger images: smaller than the families' own, for more steps in minutes of one processor."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=DATA)
    parser.add_argument("--models", nargs="+")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget", type=seconds, default=900.0, help="training time of each run")
    parser.add_argument("--examples", type=int, default=2000, help="test images at most")
    parser.add_argument("--codec", choices=["dequantise", "grid"], default="dequantise")
    args = parser.parse_args()
    data = pangen.load_data(DATA[args.task])
    x, y = pick(data.test, args.examples)
    if args.task == "cifar10":
        baselines(data, x)
    for model in args.models or MODELS[args.task]:
        if args.task == "noise":
            noise(model, data, x, args)
            continue
        began, found, steps = time.perf_counter(), [], []
        for seed in range(args.seeds):
            run = train(model, data, seed, args)
            if args.task == "digits":
                score = float((run.classify(x).argmax(1) == y).double().mean())
            else:
                score = bits(run, x, f"seed {seed}")
            print(f"{model} seed {seed}: {score:.4f} after {run.card['steps']} steps", flush=True)
            found.append(score)
            steps.append(run.card["steps"])
        metric = "test accuracy by Bayes' rule" if args.task == "digits" else "test bits/dim, at most"
        record(
            "flow_images", found, model=model, data=data.name, codec=args.codec, budget=args.budget, examples=len(x),
            steps=steps, metric=metric, seconds=time.perf_counter() - began,
        )  # fmt: skip


def noise(model: str, data: Data, x: torch.Tensor, args: argparse.Namespace) -> None:
    """Bits/dim of uniform noise on the levels less those of learnt noise, paired by seed and image."""
    began, found, errors = time.perf_counter(), [], []
    for seed in range(args.seeds):
        uniform, learnt = (
            pangen.fit(
                model, data, budget=args.budget, seed=seed, codec="grid", device="cpu",
                recipe={"model.dequantisation": how},
            ).log_prob(x).nats
            for how in ("uniform", "variational")
        )  # fmt: skip
        gain = (learnt - uniform) / (x[0].numel() * math.log(2))
        found.append(float(gain.mean()))
        errors.append(round(float(gain.std()) / len(x) ** 0.5, 5))
        print(f"{model} seed {seed}: {found[-1]:.4f} +- {errors[-1]:.4f}", flush=True)
    record(
        "flow_images", found, model=model, data=data.name, codec="grid", budget=args.budget, examples=len(x),
        standard_errors=errors, metric="bits/dim that learnt noise saves over uniform noise",
        seconds=time.perf_counter() - began,
    )  # fmt: skip


def train(model: str, data: Data, seed: int, args: argparse.Namespace) -> Run:
    """A run that says on the way what the validation images cost."""
    volume: list[float] = []

    def report(event: Event) -> None:
        if "validation nats" in event.numbers:
            nats = event.numbers["validation nats"] - volume[0]
            print(f"  {model} step {event.step} of {event.total}, {event.seconds:.0f} s: about {per_dim(data, nats):.3f} bits/dim", flush=True)  # fmt: skip

    conditional = args.task == "digits"
    recipe: dict[str, Any] = {} if conditional else {"training.batch": BATCH}
    codec = pangen.codecs.CODECS[args.codec].fit(data)
    volume.append(float(codec.encode(data.validation.x[:1000]).log_volume.mean()))
    return pangen.fit(
        model, data, budget=args.budget, seed=seed, conditional=conditional, codec=args.codec, device="cpu",
        recipe=recipe, report=report,
    )  # fmt: skip


def per_dim(data: Data, nats: float) -> float:
    return nats / (data.train.x[0].numel() * math.log(2))


def bits(run: Run, x: torch.Tensor, what: str) -> float:
    """Mean bits/dim of test images; the standard error over images is printed."""
    each = -run.log_prob(x).nats / (x[0].numel() * math.log(2))
    print(f"  {what}: +- {float(each.std()) / len(x) ** 0.5:.4f} over {len(x)} images")
    return float(each.mean())


def baselines(data: Data, x: torch.Tensor) -> None:
    """Independent pixels, and the bits of files that hold one image each."""
    from PIL import Image

    began = time.perf_counter()
    run = pangen.fit("independent", data, conditional=False, device="cpu")
    facts = {"data": data.name, "examples": len(x), "seconds": time.perf_counter() - began}
    record("flow_images", [bits(run, x, "independent")], model="independent", metric="test bits/dim", **facts)
    options = {"PNG": {"optimize": True}, "WebP": {"lossless": True, "quality": 100, "method": 6}}
    for name, how in options.items():
        total = 0
        for image in x:
            file = io.BytesIO()
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, name, **how)
            total += len(file.getvalue())
        record(
            "flow_images", [8 * total / x.numel()], model=f"{name} lossless", metric="test bits/dim", **facts
        )


if __name__ == "__main__":
    main()
