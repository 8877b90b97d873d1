"""`pangen compare gym`: models on every source whose law is known."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pangen.cli.options import data_options, default_folder, limit_threads, listed
from pangen.cli.output import print_json, print_numbers
from pangen.cli.progress import comparing
from pangen.errors import PangenError

NAME = "gym"


def is_gym(data: str) -> bool:
    """Whether `gym` is asked for, or some of it: `gym:moons,series`."""
    return data == NAME or data.startswith(f"{NAME}:")


def run(args: argparse.Namespace) -> int:
    """What `pangen compare` does then."""
    if data_options(args) or args.features or args.redo:
        raise PangenError(
            "the gym's sources are fixed: leave out options of your own data, --features and --redo."
        )
    _, _, sources = args.data.partition(":")
    out = Path(args.out) if args.out else default_folder("compare", NAME)
    limit_threads(args.threads)
    from pangen.api import gym

    with comparing(out) as bar:
        result = gym(
            listed(sources) or None,
            args.models,
            budget=args.budget,
            steps=args.steps,
            seeds=args.seeds,
            out=out,
            device=args.device,
            report=bar,
        )
    if args.json:
        print_json(result)
    else:
        _tell(result, out)
    return int(any("failed" in row for source in result["sources"] for row in source["rows"]))


def _tell(result: dict[str, Any], out: Path) -> None:
    from pangen.evaluation.gym import best_rows, regret_rows

    tables = regret_rows(result)
    for header, rows in tables:
        print_numbers(header, rows)
    for source in result["sources"]:
        for row in source["rows"]:
            if "failed" in row:
                print(f"{source['name']} {row['model']}: {row['failed']}")
    print_numbers(*best_rows(result), left=2)
    print(
        "Regret in nats above the entropy; z: samples' distance from real data, in deviations of no distance."
    )
    if any(row["own_form"] for source in result["sources"] for row in source["rows"]):
        print("* has the source's own form, and is no rival for the best.")
    print(f"comparisons: {out}/SOURCE/report.html")
