"""`pangen convert`: a model of few steps from one of many."""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from pangen.cli.fit import EPILOG, check_resume, tell
from pangen.cli.options import add_json, add_length, add_machine, add_seed, folder_beside, limit_threads
from pangen.cli.output import print_json
from pangen.cli.parser import check_options, values
from pangen.cli.progress import FitBar


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "convert", help="make a model of one or few steps from a diffusion model", epilog=EPILOG
    )
    parser.add_argument("path", metavar="RUN", help="the folder of a run of a diffusion model, the teacher")
    parser.add_argument(
        "--to", default="consistency", metavar="MODEL",
        help="consistency, of one step, or flow-matching, of straight lines (consistency)",
    )  # fmt: skip
    parser.add_argument(
        "--method", metavar="NAME",
        help="consistency: distil, along the teacher's path, or tune, from its weights alone (distil); "
        "flow-matching: reflow",
    )  # fmt: skip
    parser.add_argument("-o", "--out", metavar="RUN", help="folder of the new run (RUN-MODEL)")
    add_length(parser, "1000 steps")
    add_seed(parser, "order and noise")
    parser.add_argument("--resume", action="store_true", help="go on where the conversion stopped")
    add_json(parser)
    add_machine(parser)
    parser.set_defaults(run=run, takes_extras=True)


def run(args: argparse.Namespace) -> int:
    path = Path(args.path)
    out = Path(args.out) if args.out else folder_beside(path, args.to)
    check_options(args.parser, {name: None for name in args.extras if "." not in name})
    fields = values(args.extras)
    limit_threads(args.threads)
    from pangen.api import convert
    from pangen.tasks.convert import TARGETS

    if args.resume and args.to in TARGETS:
        asked = {f"model.{TARGETS[args.to].setting}": args.method, "model.teacher": str(path.resolve())}
        length = {"training.steps": args.steps, "training.budget": args.budget, "seed": args.seed}
        check_resume(out, {"model.name": args.to, **asked, **length, **fields})
    with redirect_stdout(sys.stderr), FitBar(f"{path} to {args.to}") as bar:
        trained = convert(
            path, args.to, method=args.method, out=out, steps=args.steps, budget=args.budget,
            seed=args.seed or 0, device=args.device, resume=args.resume, report=bar, recipe=fields,
        )  # fmt: skip
    card = trained.card
    if args.json:
        print_json({"run": str(out), **card})
    else:
        tell(out, card, can_sample=True)
    return 130 if card["state"] == "interrupted" else 0
