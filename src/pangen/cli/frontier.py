"""`pangen frontier`: quality against network evaluations and seconds."""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from pangen.cli.options import add_features, add_json, add_machine, add_seed, limit_threads, listed, whole
from pangen.cli.output import print_json, print_numbers
from pangen.cli.parser import values
from pangen.cli.progress import CompareBar
from pangen.errors import PangenError

EPILOG = """A Heun step takes two evaluations, the last one; guidance doubles all. A sampler takes the most steps that need no more than asked."""


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "frontier", help="set quality against network evaluations and seconds", epilog=EPILOG
    )
    parser.add_argument("paths", nargs="+", metavar="RUN", help="folders of runs of the same data")
    parser.add_argument(
        "--nfe", default="1,2,4,8,16,32,64", metavar="N,...", help="network evaluations (1,2,4,8,16,32,64)"
    )
    parser.add_argument(
        "--samplers", default="heun,dpmpp,ddim", metavar="A,...", help="of diffusion models (heun,dpmpp,ddim)"
    )
    parser.add_argument("--guidance", metavar="W", help="weight of the class; 1 is the model itself (1)")
    parser.add_argument(
        "-n", type=whole("-n", 10), metavar="N", help="samples for each point (as evaluate draws)"
    )
    add_features(parser)
    parser.add_argument(
        "-o", "--out", metavar="DIR", help="for frontier.json and frontier.svg (runs/frontier)"
    )
    add_seed(parser, "the samples")
    add_json(parser)
    add_machine(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    least_one = whole("--nfe", 1)
    nfe = [least_one(text) for text in listed(args.nfe)]
    guidance = values({"--guidance": args.guidance})["guidance"] if args.guidance else 1.0
    if not isinstance(guidance, int | float):
        raise PangenError(f"--guidance takes a number, such as 2, not '{args.guidance}'.")
    out = Path(args.out) if args.out else Path("runs") / "frontier"
    limit_threads(args.threads)
    from pangen.api import frontier, load_run
    from pangen.evaluation.frontier import PLOT

    with redirect_stdout(sys.stderr), CompareBar() as bar:
        result = frontier(
            [load_run(path, device=args.device) for path in args.paths], nfe=nfe, samplers=listed(args.samplers),
            out=out, guidance=guidance, samples=args.n, features=args.features, seed=args.seed or 0, report=bar,
        )  # fmt: skip
    if args.json:
        print_json(result)
    else:
        _tell(result, out / PLOT)
    return 0


def _tell(result: dict[str, Any], plot: Path) -> None:
    header = ["run", "sampler", "steps", "evaluations", "Fréchet ↓", "95 % interval", "1000 samples, s"]
    rows = [
        [
            p["run"], p["sampler"], str(p["steps"] or ""), str(p["evaluations"]), f"{p['frechet']['value']:.4g}",
            "{:.4g} to {:.4g}".format(*p["frechet"]["interval"]), f"{p['sample_seconds_per_1000']:.3g}",
        ]
        for p in result["points"]
    ]  # fmt: skip
    floor = result["floor"]
    interval = "{:.4g} to {:.4g}".format(*floor["interval"])
    rows.append(["held-out real data", "", "", "", f"{floor['value']:.4g}", interval, ""])
    print_numbers(header, rows, left=2)
    for one in result["left_out"]:
        what = f"{one['run']}, {one['sampler']}" + (f" at {one['asked']}" if "asked" in one else "")
        print(f"left out: {what}: {one['why']}")
    print(f"plot: {plot}")
