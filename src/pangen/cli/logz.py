"""`pangen logz`: the normalising constant of an energy-based run, between two bounds."""

from __future__ import annotations

import argparse
from typing import Any

from pangen.cli.options import add_json, add_machine, add_seed, choice, limit_threads, whole
from pangen.cli.output import print_json

METHODS = ("exact", "ais")


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("logz", help="the log normalising constant of an energy-based run")
    parser.add_argument("path", metavar="RUN", help="the folder of a run")
    parser.add_argument(
        "--method",
        type=choice("method", METHODS),
        metavar="NAME",
        help="exact, a sum over states, or ais, annealed importance sampling (the first that can be)",
    )
    parser.add_argument(
        "--chains", type=whole("--chains", 2), metavar="N", help="chains each way (those of the recipe)"
    )
    add_seed(parser, "the chains")
    add_json(parser)
    add_machine(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    limit_threads(args.threads)
    from pangen.api import load_run, log_z

    found = log_z(
        load_run(args.path, device=args.device), args.method, chains=args.chains or 0, seed=args.seed or 0
    )
    if args.json:
        print_json(found)
    elif found["method"] == "exact":
        print(f"log Z = {found['log_z']:.6f}, by a sum over states")
    else:
        print(
            f"log Z = {found['log_z']:.4f} in [{found['low']:.4f}, {found['high']:.4f}], by annealed importance "
            "sampling forward and back; likelihoods take the upper end"
        )
    return 0
