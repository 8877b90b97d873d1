"""`pangen data`: the known data sets, or what a name or a path turns out to hold."""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from typing import Any

from pangen.cli.options import add_data, add_json, data_options
from pangen.cli.output import print_facts, print_json, print_prose


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("data", help="known data sets; or what a name or a path holds")
    parser.add_argument("data", nargs="?", metavar="NAME|PATH", help="look at this one alone")
    add_json(parser)
    add_data(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.data is None:
        from pangen.data.known import catalogue  # needs no torch

        rows = catalogue()
        if args.json:
            print_json({"data": rows})
        else:
            print_prose(list(rows[0]), [[list(row.values()) for row in rows]])
        return 0
    from pangen.data import describe_data

    with redirect_stdout(sys.stderr):
        found = describe_data(args.data, **data_options(args))
    if args.json:
        print_json(found)
    else:
        warnings = found.pop("warnings")
        print_facts(found)
        for warning in warnings:
            print(f"warning: {warning}")
    return 0
