"""`pangen advise`: which models to take for some data, and what that rests on."""

from __future__ import annotations

import argparse
import shlex
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from pangen.cli.options import add_data, add_json, choice, data_options, limit_threads, seconds
from pangen.cli.output import print_json

USES = ("sample", "density", "impute", "detect", "compress")
BUDGET = 60.0
THINGS = {
    "image": "images",
    "vector": "vectors",
    "table": "rows",
    "text": "texts",
    "series": "windows",
    "sound": "clips",
}
KEPT = ("runs/compare-*/ledger.jsonl", "runs/compare-gym/*/ledger.jsonl")


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("advise", help="which models to take for data, from what was measured")
    parser.add_argument("data", metavar="DATA", help="a name from `pangen data`, or a path")
    parser.add_argument(
        "--for",
        dest="use",
        type=choice("use", USES),
        default="sample",
        metavar="USE",
        help="sample, density, impute, detect or compress (sample)",
    )
    parser.add_argument(
        "--budget",
        type=seconds,
        default=BUDGET,
        metavar="TIME",
        help="training time, such as 60s or 10m (60s)",
    )
    parser.add_argument(
        "--ledger",
        action="append",
        metavar="DIR",
        help=f"a comparison of your own, beside what is known; can be repeated ({KEPT[0]})",
    )
    add_json(parser)
    add_data(parser)
    parser.set_defaults(run=run, threads=None)


def run(args: argparse.Namespace) -> int:
    limit_threads(args.threads)
    from pangen.api import advise, load_data

    kept = sorted(str(path) for pattern in KEPT for path in Path().glob(pattern))
    with redirect_stdout(sys.stderr):
        data = load_data(args.data, **data_options(args))
        found = advise(
            data, args.use, budget=args.budget, ledgers=kept if args.ledger is None else args.ledger
        )
    if args.json:
        print_json(found)
    else:
        print("\n".join(_lines(found, _named(args))))
    return 0


def _named(args: argparse.Namespace) -> str:
    """The data as they were named on the command line, how they are read included."""
    words = [args.data]
    for name, value in data_options(args).items():
        option = "--split-seed" if name == "seed" else f"--{name.replace('_', '-')}"
        text = "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
        words += [option] if value is True else [option, text]
    return shlex.join(words)


def _lines(found: dict[str, Any], name: str) -> list[str]:
    facts = found["facts"]
    what = [f"{facts['train']} training {THINGS[facts['modality']]}", f"shape {tuple(facts['shape'])}"]
    what += [f"{facts['levels']} levels"] if facts["levels"] else []
    what += [f"{facts['labels']} labels"] if facts["labels"] else []
    lines = [
        f"{found['data']}: {', '.join(what)}",
        f"for {found['use']}, in {found['budget']:g} s of training",
    ]
    if not found["enough"]:
        lines.append(f"not enough evidence: {found['reason']}.")
    if found["models"]:
        lines.append(
            f"by {found['measure']}, {found['reason']}:" if found["enough"] else f"by {found['measure']}:"
        )
        lines += [_line(i, one) for i, one in enumerate(found["models"], 1)]
    if found["simple"]:
        lines.append(f"{found['simple']} will do: nothing measured is better by more than the intervals.")
    if not found["models"]:
        lines.append(f"these can do it: {', '.join(found['able']) or 'none'}")
    sources = dict.fromkeys(source for one in found["models"] for source in one["rests_on"])
    if sources:
        lines += ["rests on:", *(f"  {source}" for source in sources)]
    if found["enough"]:
        lines.append(f"next: pangen fit {found['simple'] or found['models'][0]['model']} {name}")
    elif found["measure"] or found["use"] in ("sample", "density", "compress"):
        lines.append(f"next: pangen compare {name} --seeds 3, and ask again")
    return lines


def _line(i: int, one: dict[str, Any]) -> str:
    value = f"{one['expected']:+.3g}" if "relative_to" in one else f"{one['expected']:.4g}"
    if one["interval"]:
        low, high = one["interval"]
        value += f" [{low:.3g}, {high:.3g}]"
    over = f" against {one['relative_to']}" if "relative_to" in one else ""
    trained = f", {one['trained']:g} s" if one["trained"] else ""
    return f"  {i}. {one['model']:18}{value}{over}, {one['seeds']} seeds{trained}"
