"""`pangen classify`: a generative model as a classifier, also where pixels or features are missing."""

from __future__ import annotations

import argparse
import csv
import io
import re
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pangen.cli.options import (
    add_data,
    add_json,
    add_machine,
    add_seed,
    add_split,
    check_writable,
    limit_threads,
    other_data_options,
    whole,
)
from pangen.cli.output import print_json
from pangen.errors import PangenError
from pangen.files import write_text

if TYPE_CHECKING:
    from pangen.tasks.classify import Classified


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("classify", help="the class of each example, by a model with labels")
    parser.add_argument("path", metavar="RUN", help="the folder of a run that was trained with labels")
    parser.add_argument("data", nargs="?", metavar="DATA", help="other data than it was trained on")
    add_split(parser)
    parser.add_argument(
        "--missing", type=_share, default=0.0, metavar="S", help="hide this share of pixels or features (0)"
    )
    parser.add_argument(
        "--imputations",
        type=whole("--imputations", 1),
        default=5,
        metavar="N",
        help="training examples that lend what is missing, where the model cannot sum over it (5)",
    )
    parser.add_argument("-n", type=whole("-n", 1), metavar="N", help="examples, from the first (all)")
    parser.add_argument("-o", "--out", metavar="FILE", help=".csv, each example's class and probabilities")
    add_seed(parser, "what is hidden")
    add_json(parser)
    add_machine(parser)
    add_data(parser)
    parser.set_defaults(run=run)


def _share(text: str) -> float:
    if not re.fullmatch(r"0?\.\d+|0|\d+(\.\d+)?\s*%", text) or (share := _number(text)) >= 1:
        raise PangenError(f"--missing takes a share from 0 to less than 1, such as 0.4 or 40%, not '{text}'.")
    return share


def _number(text: str) -> float:
    return float(text[:-1]) / 100 if text.endswith("%") else float(text)


def run(args: argparse.Namespace) -> int:
    options = other_data_options(args, "DATA")
    out = Path(args.out) if args.out else None
    if out is not None:
        if out.suffix != ".csv":
            raise PangenError(f"cannot write {out}: its name must end in .csv.")
        check_writable(out)
    limit_threads(args.threads)
    from pangen.api import classify, load_data, load_run

    with redirect_stdout(sys.stderr):
        found = classify(
            load_run(args.path, device=args.device),
            load_data(args.data, **options) if args.data else None,
            split=args.split,
            missing=args.missing,
            imputations=args.imputations,
            examples=args.n,
            seed=args.seed or 0,
        )
    if out is not None:
        write_text(out, _table(found))
    if args.json:
        print_json({"run": args.path, "labels": found.labels, **found.facts})
    else:
        print("\n".join(_lines(found.facts)))
    return 0


def _table(found: Classified) -> str:
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(["example", "class", *(f"p({name})" for name in found.labels)])
    for i, (chosen, p) in enumerate(
        zip(found.log_p.argmax(1).tolist(), found.log_p.exp().tolist(), strict=True)
    ):
        rows.writerow([i, found.labels[chosen], *(f"{value:.6g}" for value in p)])
    return file.getvalue()


def _lines(facts: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{facts['model']} on {facts['data']}, {facts['examples']} examples of the {facts['split']} split"
    ]
    lines.append(f"  {'class by':22}{facts['by']}")
    if facts["missing"]:
        lines.append(f"  {'missing':22}{100 * facts['missing']:g} %, {facts['missing_values']}")
    if "accuracy" not in facts:
        shares = ", ".join(f"{name} {count}" for name, count in facts["times_chosen"].items() if count)
        return [*lines, f"  {'classes found':22}{shares}", "  no labels in the data, so nothing to score."]
    for name, title, scale, unit in (
        ("accuracy", "accuracy", 100, " %"),
        ("log_loss", "log loss", 1, " nats"),
        ("calibration_error", "calibration error", 100, " points"),
    ):
        value, (low, high) = facts[name]["value"], facts[name]["interval"]
        lines.append(f"  {title:22}{scale * value:.4g}{unit} [{scale * low:.4g}, {scale * high:.4g}]")
    lines.append(f"  {'confidence':22}{'examples':>8}  {'said':>7}  {'right':>7}")
    for row in facts["reliability"]:
        between = f"{100 * row['from']:.0f} to {100 * row['to']:.0f} %"
        said, right = 100 * row["confidence"], 100 * row["accuracy"]
        lines.append(f"  {between:>20}  {row['samples']:8}  {said:5.1f} %  {right:5.1f} %")
    return lines
