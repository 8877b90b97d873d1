"""`pangen convert`: a model of few steps from one of many."""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from pangen.cli.fit import check_resume, tell
from pangen.cli.options import add_json, add_length, add_machine, add_seed, choice, limit_threads
from pangen.cli.output import print_json
from pangen.cli.progress import FitBar

METHODS = ("distil", "tune")


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("convert", help="make a model of one step from a diffusion model")
    parser.add_argument("path", metavar="RUN", help="the folder of a run of a diffusion model, the teacher")
    parser.add_argument("--to", default="consistency", metavar="MODEL", help="consistency (consistency)")
    parser.add_argument(
        "--method", type=choice("method", METHODS), metavar="NAME",
        help="distil, along the teacher's path, or tune, from its weights alone (distil)",
    )  # fmt: skip
    parser.add_argument("-o", "--out", metavar="RUN", help="folder of the new run (RUN-consistency)")
    add_length(parser, "1000 steps")
    add_seed(parser, "order and noise")
    parser.add_argument("--resume", action="store_true", help="go on where the conversion stopped")
    add_json(parser)
    add_machine(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    path = Path(args.path)
    out = Path(args.out) if args.out else path.with_name(f"{path.resolve().name}-{args.to}")
    if args.resume:
        recorded = {"method": args.method, "teacher": str(path.resolve()), "name": args.to}
        length = {"steps": args.steps, "budget": args.budget}
        check_resume(
            out,
            {f"model.{k}": v for k, v in recorded.items()}
            | {f"training.{k}": v for k, v in length.items()}
            | {"seed": args.seed},
        )
    limit_threads(args.threads)
    from pangen.api import convert

    with redirect_stdout(sys.stderr), FitBar(f"{path} to {args.to}") as bar:
        trained = convert(
            path, args.to, method=args.method or METHODS[0], out=out, steps=args.steps, budget=args.budget,
            seed=args.seed or 0, device=args.device, resume=args.resume, report=bar,
        )  # fmt: skip
    card = trained.card
    if args.json:
        print_json({"run": str(out), **card})
    else:
        tell(out, card, can_sample=True)
    return 130 if card["state"] == "interrupted" else 0
