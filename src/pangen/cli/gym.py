"""`pangen compare gym`: models on every source whose law is known."""

from __future__ import annotations

import argparse
from collections.abc import Callable
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
    if data_options(args):
        raise PangenError("the gym's sources are fixed: leave out options of your own data.")
    if args.features:
        raise PangenError(
            "a run has features of one kind of data, and the gym is of every kind: leave out --features, or compare one of its "
            f"sources, as in `pangen compare ising4x4 --features {args.features}`."
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
            redo=args.redo,
            device=args.device,
            samples=args.samples,
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
    of = {source["name"] for source in result["sources"]}
    if result["budgets"]:
        more = _named(result["budgets"], of, lambda seconds: f"{seconds:g} s")
        print(f"Trained for {result['budget']:g} s each{more and '; '}{more}.")
    if other := _named(
        result["settings"], of, lambda fields: " ".join(f"{k} {v}" for k, v in fields.items())
    ):
        print(f"Settings of its own: {other}.")
    if redone := result.get("redo"):
        print(f"redo: {len(redone['identical'])} identical, {len(redone['different'])} different.")
        print("".join(f"different: {name}\n" for name in redone["different"]), end="")
    print(f"comparisons: {out}/SOURCE/report.html")


def _named(by_source: dict[str, dict[str, Any]], of: set[str], say: Callable[[Any], str]) -> str:
    """What some models have on some of the sources."""
    return ", ".join(
        f"{model} {say(value)} on {name}"
        for name, each in by_source.items() if name in of for model, value in each.items()
    )  # fmt: skip
