"""How far back a loss reaches: the classical claim about recurrent networks and Transformers, measured.

    PANGEN_DATA=... python benchmarks/gradient_distance.py --steps 300 --seeds 3 --figure docs/assets/gradients.png

The norm of the gradient of one token's loss with respect to what is known of the token d places before it, for d up
to 100, relative to d = 1: the geometric mean over test windows of tinyshakespeare, before and after a short training.
Reported: how many powers of ten it falls from d = 1 to d = 100.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from ledger import interval, record

import pangen
from pangen.data import Data

WINDOW, FURTHEST = 128, 100
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "rnn": ("rnn", {"model.cell": "rnn"}),
    "lstm": ("rnn", {"model.cell": "lstm"}),
    "gru": ("rnn", {"model.cell": "gru"}),
    "transformer": ("gpt", {}),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--windows", type=int, default=64)
    parser.add_argument("--figure")
    args = parser.parse_args()
    data = pangen.load_data("tinyshakespeare", window=WINDOW)
    curves: dict[str, dict[str, torch.Tensor]] = {}
    for name, (model, fields) in MODELS.items():
        for when, steps in (("before training", 1), ("after training", args.steps)):
            began, found = time.perf_counter(), []
            for seed in range(args.seeds):
                rate = {"training.lr": 1e-12} if steps == 1 else {}
                run = pangen.fit(model, data, steps=steps, seed=seed, device="cpu", recipe={**fields, **rate})
                found.append(reach(run, data, args.windows))
            curves.setdefault(when, {})[name] = torch.stack(found).mean(0)
            falls = [float(curve[0] - curve[-1]) for curve in found]
            record(
                "gradient_distance", falls, model=name, when=when, steps=steps,
                metric=f"powers of ten from distance 1 to {FURTHEST}", seconds=time.perf_counter() - began,
            )  # fmt: skip
            print(f"{name} {when}: falls by 10^{interval(falls)[0]:.1f}", flush=True)
    if args.figure:
        draw(curves, args.figure)


def reach(run: pangen.Run, data: Data, windows: int) -> torch.Tensor:
    """log10 of the gradient's norm at distances 1 to FURTHEST from the last token, relative to 1."""
    model, kept = run.model.double().eval(), []  # float32 runs out of numbers after 70 steps of an rnn
    x = run.codec.encode(data.test.x[:windows]).x
    hook = model.before.register_forward_hook(
        lambda *call: (call[-1].retain_grad(), kept.append(call[-1]))[1]
    )
    with torch.enable_grad():
        logits = model.requires_grad_(True).logits(x, None)
        model.nats(logits, x)[:, -1].sum().backward()
    hook.remove()
    norms = (
        kept[0].grad.norm(dim=2).double().clamp(min=1e-300).log10().mean(0)
    )  # of each place; the last knows d = 1
    curve = norms.flip(0)[:FURTHEST]
    return curve - curve[0]


def draw(curves: dict[str, dict[str, torch.Tensor]], path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.2), sharey=True, layout="constrained")
    for axis, (when, models) in zip(axes, curves.items(), strict=True):
        for name, curve in models.items():
            axis.plot(range(1, FURTHEST + 1), 10.0**curve, label=name)
        axis.set(yscale="log", xlabel="tokens back", title=when)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("gradient of a token's loss, relative")
    axes[1].legend()
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
