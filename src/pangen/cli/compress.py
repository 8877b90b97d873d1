"""`pangen compress`: files to fewer bytes, by a model's probabilities."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from pangen.cli.options import add_json, check_writable
from pangen.cli.output import print_json, print_numbers
from pangen.errors import PangenError

SHOWN = 3
"""Names of files that are told."""


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("compress", help="files to fewer bytes, none of them lost")
    parser.add_argument("path", metavar="RUN", help="the folder of a run with a likelihood")
    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="files and folders of the run's kind of data"
    )
    parser.add_argument("-o", "--out", metavar="FILE", help=".pgn; --report does without")
    parser.add_argument(
        "--pixels", action="store_true", help="of PNG files keep the pixels, not how they were packed"
    )
    parser.add_argument("--report", action="store_true", help="compare with other programs and formats")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    out = Path(args.out) if args.out else None
    if out is None and not args.report:
        raise PangenError("pangen compress needs -o FILE.pgn, or --report for the numbers alone.")
    if out is not None:
        if out.suffix != ".pgn":
            raise PangenError(f"cannot write {out}: its name must end in .pgn.")
        check_writable(out)
    from pangen.compression import compress

    with redirect_stdout(sys.stderr):
        found = compress(args.path, args.inputs, out, pixels=args.pixels, report=args.report)
    if args.json:
        print_json({"run": args.path, **found})
        return 0
    print("\n".join(told(found)))
    if args.report:
        print_numbers(("bytes", "", "of the input"), compared(found))
    return 0


def told(found: Mapping[str, Any]) -> list[str]:
    """What was written, where the bytes are, and what a nat was worth."""
    rate, files = found["mb_per_second"], found["files"]
    back = f", {found['mb_per_second_back']:.3g} back" if "mb_per_second_back" in found else ""
    lines = [
        f"{plural(files, 'file')}, {found['bytes']} bytes to {found['compressed']}, {rate:.3g} MB/s{back}"
    ]
    if found["file"]:
        lines[0] += f": {found['file']}"
    if found["kept"]:
        shown = ", ".join(found["kept"][:SHOWN]) + (", ..." if len(found["kept"]) > SHOWN else "")
        what = plural(len(found["kept"]), "file")
        lines.append(
            f"{what} that this run does not model, kept as they are, {found['aside']} bytes: {shown}"
        )
    if found["model"]:
        initial = f" and {found['initial']} to begin with" if found["initial"] else ""
        lines.append(
            f"the model: {found['model']:.0f} bytes by its likelihood, {found['payload'] - found['initial']} coded "
            f"({found['over_model']:.4f}){initial}; header {found['header']}"
        )
    lines.append(f"with the model's weights: {found['with_weights']} bytes")
    return lines


def compared(found: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """By size, the smallest first."""
    sizes = {"pangen": found["compressed"], "pangen and weights": found["with_weights"], **found["others"]}
    return [
        (name, str(size), f"{size / max(found['bytes'], 1):.1%}")
        for name, size in sorted(sizes.items(), key=lambda pair: pair[1])
    ]


def plural(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"
