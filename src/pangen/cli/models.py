"""`pangen models`: every model, what it accepts and what it can do."""

from __future__ import annotations

import argparse
from typing import Any

from pangen.cli.options import add_json
from pangen.cli.output import print_json, print_prose
from pangen.registry import TAXONOMY, Entry, entries


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("models", help="every model: data, density, capabilities, cost")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.json:
        print_json({"models": [card(entry) for entry in entries().values()]})
        return 0
    header = ("family", "model", "accepts", "density", "capabilities", "sampling cost")
    print_prose(header, [_rows(*group) for group in by_family()], names=2)
    return 0


def _rows(family: str, members: list[Entry]) -> list[list[str]]:
    rows: list[list[str]] = []
    for entry in members:
        density = f"{entry.density}: {entry.reason}" if entry.reason else entry.density
        accepts, can = ", ".join(entry.spaces), ", ".join(_abilities(entry))
        rows.append(["" if rows else family, entry.name, accepts, density, can, entry.sampling])
    return rows


def by_family() -> list[tuple[str, list[Entry]]]:
    """Families in the registry's order, each with its members."""
    found: dict[str, list[Entry]] = {}
    for entry in entries().values():
        found.setdefault(entry.family, []).append(entry)
    return list(found.items())


def card(entry: Entry) -> dict[str, Any]:
    """A model's facts as JSON."""
    return {
        "name": entry.name,
        "family": entry.family,
        "summary": entry.summary,
        "paper": entry.paper,
        "accepts": list(entry.spaces),
        "codecs": list(entry.codecs),
        "density": entry.density,
        "reason": entry.reason,
        "taxonomy": TAXONOMY[entry.density],
        "capabilities": _abilities(entry),
        "sampling": entry.sampling,
        "samples": entry.samples,
        "conditional": entry.conditional,
        "showcase": entry.showcase,
    }


def _abilities(entry: Entry) -> list[str]:
    return [*entry.capabilities, *(["conditional"] if entry.conditional else [])]
