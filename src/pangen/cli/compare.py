"""`pangen compare`: several models on the same data, side by side."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pangen.cli import gym
from pangen.cli.options import (
    add_data,
    add_features,
    add_json,
    add_length,
    add_machine,
    add_samples,
    data_options,
    default_folder,
    limit_threads,
    listed,
    whole,
)
from pangen.cli.output import fitting, print_json, print_numbers
from pangen.cli.progress import comparing
from pangen.registry import get


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("compare", help="train and measure several models on the same data")
    parser.add_argument("data", metavar="DATA", help="a name from `pangen data`, a path, or `gym`")
    parser.add_argument("--models", metavar="A,B,...", help="names, or `all` that fit the data (a showcase)")
    add_length(parser, "12s for each model; in the gym 5s, more for some")
    parser.add_argument(
        "--seeds", type=whole("--seeds", 1), default=1, metavar="N", help="trainings of each model (1)"
    )
    parser.add_argument(
        "-o", "--out", metavar="DIR", help="keeps the runs and the report (runs/compare-DATA)"
    )
    parser.add_argument(
        "--redo", action="store_true", help="train again what is there, with its recorded steps"
    )
    add_samples(parser)
    add_features(parser)
    add_json(parser)
    add_machine(parser)
    add_data(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if gym.is_gym(args.data):
        return gym.run(args)
    models = listed(args.models) if args.models else None
    if models and models != ["all"]:
        for name in models:
            get(name)
    out = Path(args.out) if args.out else default_folder("compare", args.data)
    limit_threads(args.threads)
    from pangen.api import compare, load_data

    with comparing(out) as bar:
        result = compare(
            load_data(args.data, **data_options(args)),
            models,
            budget=args.budget,
            steps=args.steps,
            seeds=args.seeds,
            out=out,
            redo=args.redo,
            device=args.device,
            samples=args.samples,
            features=args.features,
            report=bar,
        )
    if args.json:
        print_json(result)
    else:
        _tell(result, out)
    return int(any("failed" in row for row in result["rows"]))


def _tell(result: dict[str, Any], out: Path) -> None:
    from pangen.evaluation import table_rows
    from pangen.evaluation.table import BEATEN, by_need, caught

    header, rows = table_rows(result)
    rows = [[cell.partition(":")[0] if cell.startswith("failed:") else cell for cell in row] for row in rows]
    shown = fitting(header, rows, by_need(result))
    names, *shorter = ([row[i] for i in shown] for row in (header, *rows))
    print_numbers(names, shorter, left=sum(i < 2 for i in shown))
    if len(shown) < len(header):
        left_out = dict.fromkeys(name for i, name in enumerate(header) if i not in shown)
        print(f"There is no room for: {'; '.join(left_out)}. The report has them.")
    print(f"{BEATEN} a classical baseline does better. {caught(result)}")
    for row in result["rows"]:
        if "failed" in row:
            who = f"{row['model']} #{row['seed']}" if result["seeds"] > 1 else row["model"]
            print(f"{who} failed: {row['failed']}")
    if redone := result.get("redo"):
        print(f"redo: {len(redone['identical'])} identical, {len(redone['different'])} different.")
    print(f"report: {out / 'report.html'}")
