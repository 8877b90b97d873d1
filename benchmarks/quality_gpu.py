"""Trainings whose aims need a GPU, gone on with over as many calls as they take; all is graded at their ends.

    python benchmarks/quality_gpu.py --minutes 8             again and again, until all are complete
    python benchmarks/quality_gpu.py edm r3gan --minutes 8
    python benchmarks/quality_gpu.py --device cpu --steps 3 --minutes 1 --tiny

A call spends its minutes on the first trainings that are not complete; what it stops goes on where it was. Run folders
are under `runs/`. Grades are nats of the test split, or the Fréchet distance of samples as `pangen evaluate` has it.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from ledger import record

import pangen
from pangen.files import read_json, write_json
from pangen.run import CARD

STATIC, SHAKESPEARE, FASHION = "mnist-binary-static", "tinyshakespeare", "fashion-mnist"
OFTEN = {"training.validations": 40, "training.validation_examples": 2000}
ROUNDED = {"model.precision": "bfloat16"}


@dataclass(frozen=True)
class Task:
    """A model, its data, how long it trains, and the published number to reach, if there is one."""

    model: str
    data: str
    steps: int
    fields: dict[str, Any]
    grade: str = "nats"
    aim: float | None = None
    options: dict[str, Any] = field(default_factory=dict)
    conditional: bool | None = False


TASKS = {
    "rbm": Task("rbm", STATIC, 200_000, {
        "model.width": 500, "model.chains": 100, "model.k": 5, "training.batch": 100, "training.ema": 0.9995,
        "training.validations": 10, "training.weight_decay": 2e-4, "model.temperatures": 5000, "model.sweeps": 5000,
    }, aim=86.34),
    "dbm": Task("dbm", STATIC, 300_000, {
        "model.hidden": [500, 1000], "model.chains": 100, "model.pretrain": 0.1, "training.lr": 0.03,
        "training.batch": 100, "training.ema": 0.9995, "training.validations": 1, "training.weight_decay": 2e-4,
        "model.temperatures": 5000, "model.sweeps": 5000,
    }, aim=84.62),
    "made": Task("made", STATIC, 60_000, {
        **OFTEN, "model.width": 8000, "model.depth": 0, "model.dropout": 0.0, "training.lr": 5e-4,
        "training.weight_decay": 0.01, "training.batch": 100, "training.ema": 0.9995,
    }, aim=88.40),
    "pixelcnn": Task("pixelcnn", STATIC, 60_000, {
        **OFTEN, **ROUNDED, "model.channels": 64, "model.depth": 8, "model.kernel": 5, "model.dropout": 0.1,
        "training.batch": 64, "training.ema": 0.9995,
    }, aim=81.30),
    "hvae": Task("hvae", STATIC, 80_000, {
        **OFTEN, **ROUNDED, "training.batch": 128, "training.ema": 0.9995,
    }),
    "gpt": Task("gpt", SHAKESPEARE, 5_000, {
        **OFTEN, **ROUNDED, "model.width": 384, "model.depth": 6, "model.heads": 6, "model.dropout": 0.2,
        "training.batch": 64, "training.lr": 1e-3, "training.final": 0.1, "training.warmup": 100,
        "training.betas": [0.9, 0.99], "training.weight_decay": 0.1, "training.ema": 0.0,
    }, grade="nats a character", aim=1.4697, options={"window": 256}),
    "edm": Task("edm", FASHION, 100_000, {
        **ROUNDED, "model.width": 1024, "training.batch": 256, "training.lr": 1e-3, "training.ema": 0.9995,
    }, grade="frechet", conditional=True),
    "consistency": Task("consistency", FASHION, 100_000, {
        **ROUNDED, "model.width": 1024, "training.batch": 256, "training.lr": 1e-3, "training.ema": 0.9995,
    }, grade="frechet", conditional=True),
    "r3gan": Task("r3gan", FASHION, 100_000, {**ROUNDED, "training.batch": 128}, grade="frechet", conditional=True),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(TASKS)} (all)")
    parser.add_argument("--minutes", type=float, default=8.0, help="of training in this call")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--steps", type=int, help="instead of those of each training")
    parser.add_argument(
        "--tiny", action="store_true", help="default models and small grades, to try the code"
    )
    args = parser.parse_args()
    if unknown := set(args.tasks) - set(TASKS):
        parser.error(f"there is no task {', '.join(sorted(unknown))}; there are {', '.join(TASKS)}.")
    if args.device == "cuda" and not torch.cuda.is_available():
        print("quality_gpu.py: there is no GPU here; --device cpu --tiny tries the code.", file=sys.stderr)
        raise SystemExit(2)
    ends = time.perf_counter() + 60 * args.minutes
    for name in args.tasks or TASKS:
        if not done(name, args, ends):
            print(f"The time of this call is over; the same command goes on with {name}.")
            return
    print("All of these are complete.")


def done(name: str, args: argparse.Namespace, ends: float) -> bool:
    """Train until the time of this call is over; grade what is complete and was not graded."""
    task, folder = TASKS[name], Path("runs") / f"gpu-{name}{'-tiny' if args.tiny else ''}"
    card = folder / CARD
    if not (card.exists() and read_json(card)["state"] == "complete"):
        left = ends - time.perf_counter()
        if left <= 0 or not train(task, folder, args, left):
            return False
    if not (folder / "grade.json").exists():
        grade(name, task, folder, args)
    return True


def train(task: Task, folder: Path, args: argparse.Namespace, left: float) -> bool:
    """Whether it came to its end within the seconds that are left."""
    how: dict[str, Any] = {"device": args.device, "out": folder}
    if (folder / CARD).exists():
        how["resume"] = True
    else:
        how |= {"steps": args.steps or task.steps, "recipe": {} if args.tiny else task.fields}
    stop = threading.Timer(left, os.kill, (os.getpid(), signal.SIGINT))  # as Ctrl-C would
    stop.start()
    try:
        data = pangen.load_data(task.data, **task.options)
        run = pangen.fit(task.model, data, conditional=task.conditional, **how)
    finally:
        stop.cancel()
    print(f"{folder}: {run.card['state']} at step {run.card['steps']} of {run.card['total_steps']}.")
    return run.card["state"] == "complete"


def grade(name: str, task: Task, folder: Path, args: argparse.Namespace) -> None:
    """The test split's nats, or the distance of as many samples as it has examples."""
    run, began = pangen.load_run(folder, device=args.device), time.perf_counter()
    data = pangen.load_data(task.data, **task.options)
    count = 50 if args.tiny else len(data.test)
    if task.grade == "frechet":
        value = pangen.evaluate(run, data, samples=count, examples=2)["fidelity"]["frechet"]["value"]
    else:
        nats = run.log_prob(data.test.x[:count]).nats
        value = -float(nats.mean()) / (data.window if task.grade == "nats a character" else 1)
    row = record(
        "quality_gpu", [value], task=name, model=task.model, data=task.data, steps=run.card["steps"], aim=task.aim,
        train_seconds=run.card["seconds"], tiny=args.tiny, device=args.device, metric=task.grade,
        seconds=time.perf_counter() - began,
    )  # fmt: skip
    write_json(folder / "grade.json", row)
    if task.aim is not None:
        word = "reached" if value <= task.aim else f"missed by {value - task.aim:.3g}"
        print(f"{name}: {value:.4g}; the published {task.aim} is {word}.")


if __name__ == "__main__":
    main()
