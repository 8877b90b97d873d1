"""EQ-T of StyleGAN's two generators, plain and alias-free (Karras et al. 2021, Eq. 3), in dB: higher is better.

    python benchmarks/equivariance.py digits --steps 500 --seeds 3
    python benchmarks/equivariance.py fashion-mnist --steps 300 --seeds 3 --set model.width=128

At random start and after a short training, both of the same width. The input of a generator (of the plain one: its learnt
picture, as a periodic signal) moves by whole pixels of the output, up to an eighth of the side, at least one; noise is off.
Pixels from outside do not count.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from kept import trained
from ledger import record

import pangen
from pangen.families.adversarial.stylegan import StyleGAN
from pangen.networks.alias_free import equivariance
from pangen.recipes import build_model

CODES = 64
MODELS = {"plain": False, "alias-free": True}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="?", default="digits")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="fields of the recipe")
    args = parser.parse_args()
    recipe = dict(field.split("=", 1) for field in args.set)
    data, means = pangen.load_data(args.data), {}
    for name, alias_free in MODELS.items():
        began, found = time.perf_counter(), {"start": [], "trained": []}
        for seed in range(args.seeds):
            changed = "".join(f"-{field.rpartition('.')[2]}" for field in args.set)
            run = trained(
                "stylegan", data, f"equivariance-{args.data}-{name}-{args.steps}{changed}-{seed}",
                steps=args.steps, seed=seed, recipe={**recipe, "model.alias_free": alias_free},
            )  # fmt: skip
            torch.manual_seed(seed)
            found["start"].append(eq_t(build_model(run.recipe, run.codec.space), seed))
            found["trained"].append(eq_t(run.model, seed))
        for when, values in found.items():
            record(
                "equivariance", values, metric="EQ-T in dB", data=args.data, model=name, when=when,
                steps=args.steps, changed=recipe, seconds=time.perf_counter() - began,
            )  # fmt: skip
            means[when, name] = statistics.fmean(values)
    gains = {when: means[when, "alias-free"] - means[when, "plain"] for when in ("start", "trained")}
    winner = "alias-free" if gains["trained"] > 0 else "plain"
    print(
        f"Trained, {winner} won: alias-free {means['trained', 'alias-free']:.1f} dB, plain "
        f"{means['trained', 'plain']:.1f} dB, a gain of {gains['trained']:+.1f} dB ({gains['start']:+.1f} dB at the start)."
    )


@torch.no_grad()
def eq_t(model: StyleGAN, seed: int) -> float:
    """Of the images of random codes."""
    noise = torch.Generator().manual_seed(seed)
    model.eval()
    bounded = torch.sigmoid if model.space.kind == "binary" else torch.tanh
    w = model.map(model.draw(CODES, noise), model.space.no_condition(CODES))
    return equivariance(lambda w, shift: bounded(model.generator(w, shift=shift)), w, noise)


if __name__ == "__main__":
    main()
