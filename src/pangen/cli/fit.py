"""`pangen fit`: train a model and keep it in a folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pangen.cli.options import (
    add_data,
    add_json,
    add_length,
    add_machine,
    add_seed,
    data_options,
    default_folder,
    limit_threads,
)
from pangen.cli.output import print_json
from pangen.cli.parser import check_options, values
from pangen.cli.progress import FitBar
from pangen.errors import PangenError
from pangen.files import read_json
from pangen.registry import get

if TYPE_CHECKING:
    from pangen.training.fit import Report

EPILOG = """Recipe fields are set by their names: --model.latent 8 --training.lr 1e-3 --training.ema 0.99."""


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("fit", help="train a model on data", epilog=EPILOG)
    parser.add_argument("model", metavar="MODEL", help="a name from `pangen models`")
    parser.add_argument(
        "data", metavar="DATA", help="a name from `pangen data`, a path, or latents:RUN, the codes of a run"
    )
    parser.add_argument("-o", "--out", metavar="RUN", help="folder of the run (runs/MODEL-DATA)")
    add_length(parser, "1000 steps")
    add_seed(parser, "weights, order and noise")
    parser.add_argument(
        "--dtype", metavar="TYPE", help="float32, or float64, slower and exact to more digits (float32)"
    )
    parser.add_argument(
        "--unconditional", action="store_true", help="do not give the model the labels of the data"
    )
    parser.add_argument(
        "--codec", metavar="NAME", help="how data becomes tensors (the model's first that can)"
    )
    parser.add_argument("--resume", action="store_true", help="go on where the run stopped")
    parser.add_argument(
        "--tensorboard", action="store_true", help="events for TensorBoard, too, in RUN/tensorboard"
    )
    add_json(parser)
    add_machine(parser)
    add_data(parser)
    parser.set_defaults(run=run, takes_extras=True)


def run(args: argparse.Namespace) -> int:
    get(args.model)
    _check_fields(args)
    fields = values(args.extras) | ({"dtype": args.dtype} if args.dtype else {})
    out = Path(args.out) if args.out else default_folder(args.model, args.data)
    if args.resume:
        check_resume(
            out,
            {
                "training.steps": args.steps,
                "training.budget": args.budget,
                "seed": args.seed,
                "conditional": False if args.unconditional else None,
                "codec.name": args.codec,
                **fields,
            },
        )
    limit_threads(args.threads)
    from pangen.data import load_data
    from pangen.training.plan import fit_model  # `api` would import what the other verbs need as well

    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(sys.stderr))
        report: Report = stack.enter_context(FitBar(f"{args.model} on {args.data}"))
        if args.tensorboard:
            from pangen.training.tensorboard import FOLDER, TensorBoard

            report = stack.enter_context(TensorBoard(out / FOLDER, report))
        trained = fit_model(
            args.model,
            load_data(args.data, **data_options(args)),
            path=out,
            steps=args.steps,
            budget=args.budget,
            seed=args.seed or 0,
            conditional=False if args.unconditional else None,
            codec=args.codec,
            device=args.device,
            resume=args.resume,
            report=report,
            recipe=None if args.resume else fields,
        )
    card = trained.card
    if args.json:
        print_json({"run": str(out), **card})
    else:
        tell(out, card, can_sample=trained.entry.samples)
    return 130 if card["state"] == "interrupted" else 0


def tell(out: Path, card: Mapping[str, Any], *, can_sample: bool) -> None:
    done = f"{card['steps']} steps" if card["total_steps"] else "fitted"
    best = f"; the best weights are those of step {card['best']['step']}" if card["best"] else ""
    print(f"{card['model']} on {card['data']}: {done} in {card['seconds']:.1f} s{best}.")
    for warning in card.get("warnings", ()):
        print(f"warning: {warning}")
    print(f"run:  {out}")
    if card["state"] == "interrupted":
        print(
            f"stopped at step {card['steps']} of {card['total_steps']}; add --resume to the command to go on."
        )
    tell_next(out, can_sample=can_sample)


def tell_next(out: Path, *, can_sample: bool) -> None:
    """What a run can be used for."""
    if can_sample:
        print(f"next: pangen sample {out}")
    print(f"{'      ' if can_sample else 'next: '}pangen evaluate {out}")


def _check_fields(args: argparse.Namespace) -> None:
    """An option without a dot is no recipe field: perhaps one that lacks its first part."""
    for name in args.extras:
        if "." in name:
            continue
        from pangen.recipes import Training, settings_of

        leaf = name.removeprefix("--")
        for part, config in (("training", Training), ("model", settings_of(args.model))):
            if leaf in config.__dataclass_fields__:
                raise PangenError(f"unknown option '{name}': did you mean '--{part}.{leaf}'?")
        check_options(args.parser, {name: None})


def check_resume(out: Path, asked: Mapping[str, Any]) -> None:
    """A resumed run keeps its recipe: what is given again, where it is not None, must be the same."""
    if not (out / "recipe.json").exists():
        return  # `fit_model` says that there is nothing to resume
    from pangen.recipes import read_recipe

    exactly = "closed_form" in get(read_recipe(out).model["name"]).capabilities
    recorded = read_json(out / "recipe.json")
    for path, value in asked.items():
        if value is None or (exactly and path.startswith("training.")):  # which is not by steps
            continue
        found: Any = recorded
        for part in path.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        if found != value:
            raise PangenError(
                f"{out} was started with {path} = {found}, not {value}; leave it out, or start another run with -o."
            )
