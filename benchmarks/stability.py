"""How often a short training meets a number that is not finite, by seed: in float32, at default rates.

    python benchmarks/stability.py flow
    PANGEN_DATA=... python benchmarks/stability.py images --steps 20
    python benchmarks/stability.py energy --seeds 10
    python benchmarks/stability.py flow --models realnvp,ffjord --steps 100 --rate 4

Each recipe, a model of the family on a data set, is trained for `--steps` steps with each of `--seeds` seeds, at
`--rate` times its own learning rate. Counted are trainings that ended in a loss, gradient or held-out
log-probability that is not finite, and those that raised the alarm of held-out likelihood.
"""

from __future__ import annotations

import argparse
import os
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from ledger import record

import pangen
from pangen.data import Data
from pangen.registry import get

FLOWS, BITS = ("moons", "checkerboard", "digits"), ("bars-and-stripes", "ising4x4")
RECIPES = {
    "flow": dict.fromkeys(("nice", "realnvp", "glow", "maf", "nsf", "ffjord", "tarflow"), FLOWS),
    "images": dict.fromkeys(("nice", "realnvp", "glow"), ("cifar10-lossless-4k",)),
    "energy": {
        "rbm": (*BITS, "digits", "moons"),
        "boltzmann": BITS,
        "dbm": (*BITS, "digits"),
        "ebm": ("moons", "gaussians8"),
    },
}
EXAMPLES = 256


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("family", choices=RECIPES)
    parser.add_argument("--models", help="these alone, separated by commas")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rate", type=float, default=1.0)
    args = parser.parse_args()
    recipes = RECIPES[args.family]
    for model in args.models.split(",") if args.models else recipes:
        for name in recipes[model]:
            data, began = pangen.load_data(name), time.perf_counter()
            outcomes = [outcome(model, data, seed, args) for seed in range(args.seeds)]
            record(
                "stability", [float(bad) for bad, _ in outcomes], model=model, data=name, steps=args.steps,
                rate=args.rate, alarms=sum(alarm for _, alarm in outcomes),
                metric="share of trainings that met a number that is not finite",
                seconds=time.perf_counter() - began,
            )  # fmt: skip


def outcome(model: str, data: Data, seed: int, args: argparse.Namespace) -> tuple[bool, bool]:
    """Whether a training met a number that is not finite, and whether it raised an alarm."""
    own = get(model).load().training_defaults.get("lr", 1e-3)
    recipe = {"training.lr": args.rate * own, "training.validations": 2}
    try:
        run = pangen.fit(model, data, steps=args.steps, seed=seed, device="cpu", recipe=recipe)
    except pangen.PangenError as error:
        print(f"{model} on {data.name}, seed {seed}: {error}", flush=True)
        return True, False
    held_out = data.test.first(EXAMPLES).all()[0]
    for warning in run.card["warnings"]:
        print(f"{model} on {data.name}, seed {seed}: {warning}", flush=True)
    return not run.log_prob(held_out).nats.isfinite().all(), bool(run.card["warnings"])


if __name__ == "__main__":
    main()
