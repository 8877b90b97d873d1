"""Stored runs: small ones as this version writes them, and what they answered.

    python tests/stored/make.py [NAME ...]

Every later version must load, sample and evaluate them. Runs that are there are never made again: a version that
writes another format adds its own, under other names.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

import pangen
from pangen.data import load_data
from pangen.folder import BEFORE, CHECKPOINT, METRICS
from pangen.run import Run, load_run

HERE = Path(__file__).parent
ANSWERS = "answers.json"
SMALL = {"training.batch": 16, "training.validation_examples": 16, "training.ema": 0.5}
RUNS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "independent": ("independent", "digits", {}),
    "mixture": ("mixture", "moons", {}),
    "rbm": ("rbm", "bars-and-stripes", {"model.width": 8, "model.chains": 8, "model.temperatures": 20}),
    "vae": ("vae", "digits", {"model.latent": 2, "model.width": 8}),
    "gan": ("gan", "moons", {"model.width": 16}),
    "realnvp": ("realnvp", "moons", {"model.width": 16, "model.pairs": 2}),
    "gpt": ("gpt", "brackets", {"model.width": 16, "model.depth": 1}),
    "edm": ("edm", "moons", {"model.width": 16}),
    "interrupted": ("realnvp", "moons", {"model.width": 8, "model.pairs": 1, "training.snapshots": 2}),
}
STEPS, HALT = 20, 11
SEEN = 4
"""Samples and test examples that are answered for."""


def answers(run: Run) -> dict[str, Any]:
    """Samples, and the log-probability of the first test examples."""
    x = run.sample(SEEN, seed=1)
    raw = load_data(run.recipe.data.name).test.x[:SEEN]
    return {
        "samples": x.tolist() if isinstance(x, torch.Tensor) else list(x),
        "nats": [] if run.no_likelihood else run.log_prob(raw, seed=1).nats.tolist(),
    }


def make(name: str) -> None:
    model, data, recipe = RUNS[name]
    closed = model in ("independent", "mixture")

    def halt(event: Any) -> None:
        if name == "interrupted" and event.step == HALT:
            import signal

            signal.raise_signal(signal.SIGINT)

    pangen.fit(
        model, data, out=HERE / name, steps=None if closed else STEPS, device="cpu", report=halt,
        recipe={} if closed else SMALL | recipe,
    )  # fmt: skip
    if name != "interrupted":
        for file in (CHECKPOINT, BEFORE, METRICS):
            (HERE / name / file).unlink(missing_ok=True)
    found = answers(load_run(HERE / name, device="cpu"))
    (HERE / name / ANSWERS).write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    for name in sys.argv[1:] or RUNS:
        if not (HERE / name).exists():
            make(name)
