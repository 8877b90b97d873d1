"""`pangen check`: whether a trained model is what it claims to be."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from typing import Any

from pangen.cli.options import (
    add_data,
    add_json,
    add_machine,
    add_other_data,
    add_seed,
    limit_threads,
    other_data_options,
)
from pangen.cli.output import print_json


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "check", help="whether a run's density adds up to 1, and a flow's inverse and volume are right"
    )
    parser.add_argument("path", metavar="RUN", help="the folder of a run")
    add_other_data(parser)
    add_seed(parser, "noise, and where samples fall")
    add_json(parser)
    add_machine(parser)
    add_data(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    options = other_data_options(args)
    limit_threads(args.threads)
    from pangen.api import check, load_data, load_run

    with redirect_stdout(sys.stderr):
        found = load_run(args.path, device=args.device)
        result = check(found, load_data(args.data, **options) if args.data else None, seed=args.seed or 0)
    if args.json:
        print_json(result)
    else:
        print("\n".join(_lines(result)))
    return 0


def _lines(result: Mapping[str, Any]) -> list[str]:
    lines = [f"{result['model']} on {result['data']}, {result['dtype']}"]
    for name, found in result["checks"].items():
        why = found.get("not checked")
        words = f"not checked: {why}" if why else _WORDS[name](found)
        lines.append(f"  {name.replace('_', '-'):17}{words}")
    return lines


def _normalisation(found: Mapping[str, Any]) -> str:
    how = f"{found['by']} of {found['points']} points"
    coarse = f", {found['coarse']:.6f} by a quarter of them" if "coarse" in found else ""
    return f"p adds up to {found['total']:.6f} ({how}{coarse}; {found['kind']})"


def _invertibility(found: Mapping[str, Any]) -> str:
    each = ", ".join(f"{found[dtype]['largest']:.2g} in {dtype}" for dtype in ("float32", "float64"))
    return f"decode(encode(x)) is off by at most {each} ({found['examples']} held-out examples)"


def _log_determinant(found: Mapping[str, Any]) -> str:
    return (
        f"off by at most {found['largest']:.2g} nats from autograd's ({found['examples']} examples, float64)"
    )


_WORDS = {
    "normalisation": _normalisation, "invertibility": _invertibility, "log_determinant": _log_determinant,
}  # fmt: skip
