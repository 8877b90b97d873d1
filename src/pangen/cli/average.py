"""`pangen average`: another average of a run's weights, when its training has ended."""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from pangen.cli.fit import tell_next
from pangen.cli.options import add_json, add_machine, folder_beside, limit_threads, positive
from pangen.cli.output import print_json, print_numbers


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "average", help="another average of a run's weights, without training again"
    )
    parser.add_argument("path", metavar="RUN", help="the folder of a run trained with --training.snapshots")
    parser.add_argument(
        "--sigma-rel", type=positive("--sigma-rel"), metavar="S",
        help="length of the average, as a share of the training (the best of a few on the validation split)",
    )  # fmt: skip
    parser.add_argument("-o", "--out", metavar="RUN", help="folder of the new run (RUN-average)")
    add_json(parser)
    add_machine(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    path = Path(args.path)
    out = Path(args.out) if args.out else folder_beside(path, "average")
    limit_threads(args.threads)
    from pangen.api import average, load_run

    with redirect_stdout(sys.stderr):
        made = average(load_run(path, device=args.device), args.sigma_rel, out=out)
    if args.json:
        print_json({"run": str(out), **made.card})
        return 0
    found = made.card["average"]
    rows = [[f"{row['sigma_rel']:g}", f"{row['score']:.5g}"] for row in found["scores"]]
    own = ["as trained", f"{found['own_score']:.5g}"]
    print_numbers(["sigma_rel", f"validation {found['measure']}"], [*rows, own])
    print(
        f"{made.card['model']} on {made.card['data']}: the average with sigma_rel {found['sigma_rel']:g} of "
        f"{made.card['steps']} steps, its profile {found['distance']:.1%} off."
    )
    for warning in made.card["warnings"]:
        print(f"warning: {warning}")
    print(f"run:  {out}")
    tell_next(out, can_sample=made.entry.samples)
    return 0
