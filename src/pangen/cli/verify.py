"""`pangen verify`: whether the numbers of a comparison come out again."""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from typing import Any

from pangen.cli.options import add_json, add_machine, limit_threads, listed
from pangen.cli.output import print_json
from pangen.cli.progress import CompareBar
from pangen.errors import PangenError


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "verify", help="train and measure rows of a comparison again, and say what holds"
    )
    parser.add_argument(
        "paths",
        metavar="DIR",
        nargs="+",
        help="the folder of a comparison, or its report; several with --merge",
    )
    parser.add_argument(
        "--rows",
        metavar="A,B,...",
        help="models, trainings such as vae-1, or yardsticks (all that did not fail)",
    )
    parser.add_argument(
        "--merge",
        action="store_true",
        help="train nothing; make one ledger of several, and say where they differ",
    )
    parser.add_argument("-o", "--out", metavar="FILE", help="of --merge: the one ledger")
    add_json(parser)
    add_machine(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.merge:
        return _merge(args)
    if len(args.paths) > 1:
        raise PangenError("one comparison is verified at a time; several are for --merge.")
    if args.out:
        raise PangenError("-o names the ledger that --merge makes; without --merge there is none.")
    limit_threads(args.threads)
    from pangen.api import verify

    with redirect_stdout(sys.stderr), CompareBar() as bar:
        result = verify(
            args.paths[0], listed(args.rows) if args.rows else None, device=args.device, report=bar
        )
    if args.json:
        print_json(result)
    else:
        _tell(result)
    return int(not result["holds"])


def _merge(args: argparse.Namespace) -> int:
    if not args.out:
        raise PangenError("--merge needs -o FILE, where the one ledger goes.")
    if args.rows:
        raise PangenError("--rows chooses what is trained again, and --merge trains nothing; leave one out.")
    from pangen.api import merge_ledgers

    found = merge_ledgers(args.paths, args.out)
    if args.json:
        print_json(found)
        return int(bool(found["apart"]))
    print(f"{found['lines']} lines in {found['out']}")
    print(
        f"measured more than once: {found['repeated']}; identical {found['identical']}, within their intervals "
        f"{found['within']}, apart {len(found['apart'])}"
    )
    for line in found["apart"]:
        values = ", ".join(f"{v:.6g}" for v in line["values"])
        print(f"  {line['data']} {line['model']} seed {line['seed']}: {line['measure']} {values}")
    return int(bool(found["apart"]))


def _tell(result: dict[str, Any]) -> None:
    width = max(len(row["row"]) for row in result["rows"])
    for row in result["rows"]:
        count = row["identical"] + row["within"] + len(row["apart"])
        word = "does not hold" if row["apart"] else "holds"
        inside = f", {row['within']} within the intervals" if row["within"] else ""
        print(f"{row['row']:{width}}  {word}: {row['identical']} of {count} numbers identical{inside}")
        for line in row["apart"]:
            now = "none" if line["now"] is None else f"{line['now']:.6g}"
            print(f"{'':{width}}    {line['measure']} was {line['then']:.6g}, is {now}")
    for key, (was, now) in result["changed"].items():
        print(f"{key} was {was}, is {now}")
    print(f"ledger: {result['ledger']}")
