"""`pangen fill`: gaps in a text, and what may stand there."""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from typing import Any

from pangen.cli.options import add_json, add_machine, add_text, limit_threads, text_of, whole
from pangen.cli.output import print_json


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("fill", help="what may stand in the gaps of a text")
    parser.add_argument("path", metavar="RUN", help="the folder of a bert on text")
    add_text(parser, "a text with ___ for each word that is missing, in characters _ for each character")
    parser.add_argument("-n", type=whole("-n", 1), default=5, metavar="N", help="candidates for each gap (5)")
    add_json(parser)
    add_machine(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    limit_threads(args.threads)
    text = text_of(args).rstrip("\r\n")
    from pangen.tasks.fill import fill

    with redirect_stdout(sys.stderr):
        from pangen.run import load_run

        found = fill(load_run(args.path, device=args.device), text, args.n)
    if args.json:
        gaps = [[one._asdict() for one in gap] for gap in found.gaps]
        print_json({"run": args.path, "text": found.text, "gaps": gaps})
        return 0
    print(found.text)
    for i, gap in enumerate(found.gaps, 1):
        print(f"gap {i}: " + ", ".join(f"{one.text!r} {one.probability:.3f}" for one in gap))
    return 0
