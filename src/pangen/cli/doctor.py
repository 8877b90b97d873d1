"""`pangen doctor`: the machine as Pangen finds it, and the traps on it."""

from __future__ import annotations

import argparse
from typing import Any

from pangen.cli.options import add_json
from pangen.cli.output import print_facts, print_json


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("doctor", help="versions, devices, threads, folders, and known traps")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from pangen.overview.doctor import doctor

    found = doctor()
    if args.json:
        print_json(found)
        return 0
    warnings = found.pop("warnings")
    print_facts(found)
    print()
    for warning in warnings:
        print(f"warning: {warning}")
    if not warnings:
        print("no known trap.")
    return 0
