"""`pangen decode`: codes to examples."""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from pangen.cli.examples import (
    add_given,
    check_fits,
    check_name,
    labels_for,
    preview,
    read_array,
    write_examples,
)
from pangen.cli.options import add_json, add_machine, limit_threads
from pangen.cli.output import print_json
from pangen.errors import PangenError


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("decode", help="the examples that codes stand for")
    parser.add_argument("path", metavar="RUN", help="the folder of a run whose model has codes")
    parser.add_argument("codes", metavar="CODES", help="an .npy file, as `pangen encode` writes it")
    add_given(parser)
    parser.add_argument(
        "-o", "--out", metavar="FILE", help=".png a picture, .npy the raw array, .txt text, .wav sound"
    )
    add_json(parser)
    add_machine(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    out, source = Path(args.out) if args.out else None, Path(args.codes)
    check_name(out)
    if source.suffix.lower() != ".npy" or not source.is_file():
        raise PangenError(
            f"there is no .npy file '{source}' of codes; `pangen encode {args.path} -o {source.stem}.npy` makes one."
        )
    limit_threads(args.threads)
    from pangen.run import load_run
    from pangen.tasks.latent import decode, with_codes

    with redirect_stdout(sys.stderr):
        found = with_codes(load_run(args.path, device=args.device))
        if out is not None:
            check_fits(out, found)
        z = read_array(source)
        x = decode(found, z, labels_for(found, None, args.given, len(z)))
        if out is not None:
            write_examples(out, x, found)
    if args.json:
        print_json({"run": args.path, "examples": len(x), "file": None if out is None else str(out)})
    else:
        print(f"{len(x)} examples: {out}" if out is not None else preview(x, found.codec))
    return 0
