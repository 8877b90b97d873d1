"""`pangen runs`: the run folders and how they stand."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from pangen.cli.options import add_json
from pangen.cli.output import print_json, print_prose
from pangen.memory import gibibytes


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("runs", help="the run folders in a folder, and how they stand")
    parser.add_argument("folder", nargs="?", default="runs", metavar="DIR", help="where to look (runs)")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from pangen.overview.runs import runs

    rows = runs(args.folder)
    if args.json:
        print_json({"runs": rows})
    elif not rows:
        print(f"no runs in {args.folder}; `pangen fit MODEL DATA` makes one.")
    else:
        header = ("run", "state", "model", "data", "validation", "size", "changed")
        print_prose(header, [[_row(row) for row in rows]])
        for row in rows:
            if row["problem"]:
                print(f"{row['run']}: {row['problem']}")
    return 0


def _row(row: Mapping[str, Any]) -> list[str]:
    score = "" if row["score"] is None else f"{row['score']:.5g} {row['measure']}"
    size = gibibytes(row["bytes"]) if row["bytes"] >= 2**20 else f"{row['bytes'] / 1024:.0f} KiB"
    return [row["run"], standing(row), row["model"], row["data"], score, size, row["changed"][:16]]


def standing(row: Mapping[str, Any]) -> str:
    """The state, and how far a training has come that has not finished."""
    done = row["state"] in ("finished", "damaged") or not row["total"]
    return row["state"] if done else f"{row['state']} at step {row['step']} of {row['total']}"
