"""`pangen show`: one run at a glance, also while it trains."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from pangen.cli.examples import HEIGHTS, check_fits, check_name, preview, write_examples
from pangen.cli.options import add_json, add_machine, limit_threads
from pangen.cli.output import print_facts, print_json
from pangen.cli.runs import standing
from pangen.errors import PangenError

WIDTH = 60
"""Characters of a curve."""
SECONDS = 5.0
"""That samples may take."""
SHOWN = 4


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("show", help="a run at a glance: state, recipe, curves, samples, warnings")
    parser.add_argument("path", metavar="RUN", help="the folder of a run, which may be in training")
    parser.add_argument(
        "-o", "--out", metavar="FILE", help="samples as .png a picture, .npy the raw array, .txt text, .wav sound"
    )  # fmt: skip
    add_json(parser)
    add_machine(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    out = Path(args.out) if args.out else None
    check_name(out)
    limit_threads(args.threads)
    from pangen.overview.show import show

    found = show(args.path)
    lack = (
        "it is damaged"
        if found["state"] == "damaged"
        else ""
        if found["card"]
        else "it has no checkpoint yet"
    )
    if lack and out is not None:
        raise PangenError(f"{args.path} gives no samples, as {lack}; leave out -o.")
    samples, why = "", lack and f"none: {lack}"
    if not lack:
        with redirect_stdout(sys.stderr):
            samples, why = _samples(args.path, args.device, out)
    if args.json:
        print_json({**found, "samples": samples or None, "file": str(out) if out and samples else None})
        return 0
    _tell(found)
    print(f"\nsamples  {why or ''}".rstrip())
    if samples:
        print(samples)
    if out and samples:
        print(f"samples are in {out}")
    return 0


def _samples(path: str, device: str, out: Path | None) -> tuple[str, str]:
    """A few samples for the terminal, or why there are none; all that were drawn go to `out`."""
    from pangen.api import load_run
    from pangen.training.looks import drawn

    found = load_run(path, device=device)
    if out is not None:
        check_fits(out, found)
    if not found.entry.samples:
        return "", found.entry.sampling
    with found.computing():
        x = drawn(found, SECONDS)
    if x is None:
        return "", f"none within {SECONDS:g} s; `pangen sample {path}` takes its time"
    if out is not None:
        write_examples(out, x, found)
    return preview(x[:SHOWN], found.codec), ""


def _tell(found: Mapping[str, Any]) -> None:
    card, recipe = found["card"], found["recipe"]
    print(f"{found['run']}: {found['model']} on {found['data']}, {standing(found)}")
    if found["problem"]:
        print(f"problem: {found['problem']}")
    facts = {"changed": found["changed"]}
    if card:
        share = card.get("checkpoint_seconds", 0.0) / max(card["seconds"], 1e-9)
        steps = f"{card['steps']} steps in {card['seconds']:.4g} s, {share:.1%} of them for checkpoints"
        facts |= {
            "trained": steps if card["total_steps"] else f"fitted in {card['seconds']:.4g} s",
            "parameters": f"{card['parameters']}, on {card['device']} with {card['threads']} threads",
        }
    print_facts(facts)
    print("\nrecipe")
    parts = ("codec", "model", "training") if found["total"] else ("codec", "model")
    print_facts({part: recipe[part] for part in parts})
    for name, points in found["curves"].items():
        if points:
            print(f"\n{'loss' if name == 'model' else name}: {_course(points)}\n{line(points)}")
    for kind in ("trouble", "warnings"):
        if found[kind]:
            print(f"\n{kind}")
            for sentence in found[kind]:
                print(f"  {sentence}")


def _course(points: Sequence[tuple[int, float]]) -> str:
    (first, begin), (last, end) = points[0], points[-1]
    at, least = min(points, key=lambda point: point[1])
    return f"{begin:.5g} at step {first}, least {least:.5g} at {at}, {end:.5g} at {last}"


def line(points: Sequence[tuple[int, float]]) -> str:
    """Values over steps as a row of bars; each is the mean of its steps, and the range is that of the bars."""
    last = max(points[-1][0], 1)
    parts: dict[int, list[float]] = {}
    for step, value in points:
        parts.setdefault(min(step * WIDTH // last, WIDTH - 1), []).append(value)
    means = {at: sum(values) / len(values) for at, values in parts.items()}
    low, high = min(means.values()), max(means.values())
    shown, height = "", " "
    for at in range(WIDTH):
        if at in means:
            share = (means[at] - low) / (high - low) if high > low else 0.0
            height = HEIGHTS[1 + round(share * (len(HEIGHTS) - 2))]
        shown += height
    return shown
