"""`pangen decompress`: the files that `pangen compress` was given."""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from typing import Any

from pangen.cli.options import add_json
from pangen.cli.output import print_json


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("decompress", help="the files that compress was given")
    parser.add_argument("path", metavar="FILE", help="what `pangen compress` wrote")
    parser.add_argument("-o", "--out", metavar="DIR", required=True, help="a new folder")
    parser.add_argument(
        "--run", dest="model", metavar="RUN", help="the run it was compressed with (where that was)"
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from pangen.compression import decompress

    with redirect_stdout(sys.stderr):
        found = decompress(args.path, args.out, run=args.model)
    if args.json:
        print_json({"file": args.path, **found})
    else:
        files = f"{found['files']} file{'' if found['files'] == 1 else 's'}"
        print(f"{files}, {found['bytes']} bytes, {found['mb_per_second']:.3g} MB/s: {found['folder']}")
    return 0
