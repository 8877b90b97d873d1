"""`pangen encode`: examples to codes."""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from pangen.cli.examples import add_examples, check_name, examples_for, write_array
from pangen.cli.options import add_data, add_json, add_machine, limit_threads
from pangen.cli.output import print_json


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("encode", help="the codes of examples, as an array")
    parser.add_argument("path", metavar="RUN", help="the folder of a run whose model has codes")
    add_examples(parser)
    parser.add_argument("-o", "--out", metavar="FILE", required=True, help=".npy, one row for each example")
    add_json(parser)
    add_machine(parser)
    add_data(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    out = Path(args.out)
    check_name(out, (".npy",))
    limit_threads(args.threads)
    from pangen.run import load_run
    from pangen.tasks.latent import encode, with_codes

    with redirect_stdout(sys.stderr):
        found = with_codes(load_run(args.path, device=args.device))
        z = encode(found, *examples_for(found, args))
        write_array(out, z)
    if args.json:
        print_json({"run": args.path, "codes": list(z.shape), "split": args.split, "file": str(out)})
    else:
        print(f"{len(z)} codes of shape ({', '.join(map(str, z.shape[1:]))}): {out}")
    return 0
