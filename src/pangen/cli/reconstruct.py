"""`pangen reconstruct`: what comes back of examples through their codes."""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pangen.cli.examples import add_examples, check_name, examples_for, write_examples, write_picture
from pangen.cli.options import add_data, add_json, add_machine, limit_threads, whole
from pangen.cli.output import print_json
from pangen.errors import PangenError

if TYPE_CHECKING:
    from pangen.codecs import ImageCodec

ENDINGS = (".png", ".npy")


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "reconstruct", help="examples through their codes and back, and the error of that"
    )
    parser.add_argument("path", metavar="RUN", help="the folder of a run whose model has codes")
    add_examples(parser)
    parser.add_argument(
        "-o", "--out", metavar="FILE", help=".png originals above what comes back, .npy all that comes back"
    )
    parser.add_argument(
        "-n", type=whole("-n", 1), default=16, metavar="N", help="examples in the picture (16)"
    )
    add_json(parser)
    add_machine(parser)
    add_data(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    out = Path(args.out) if args.out else None
    check_name(out, ENDINGS)
    limit_threads(args.threads)
    from pangen.evaluation.images import grid
    from pangen.run import load_run
    from pangen.tasks.latent import mean_squared_error, reconstruct, with_codes

    with redirect_stdout(sys.stderr):
        found = with_codes(load_run(args.path, device=args.device))
        image = found.codec.outer.space.is_image
        if out is not None and out.suffix == ".png" and not image:
            raise PangenError(
                f"{found.entry.name} has no images here to set side by side; write to a file that ends in .npy."
            )
        x, y = examples_for(found, args)
        again = reconstruct(found, x, y)
        error = mean_squared_error(found, x, again)
        if out is not None and out.suffix == ".npy":
            write_examples(out, again, found)
        elif out is not None:
            shown = min(args.n, len(x))
            rows = [*x[:shown], *again[:shown]]
            levels = cast("ImageCodec", found.codec.outer).levels
            write_picture(out, grid(_stacked(rows), levels, columns=shown))
    if args.json:
        print_json(
            {
                "run": args.path,
                "examples": len(x),
                "split": args.split,
                "mean_squared_error": error,
                "unit": _unit(image),
                "file": None if out is None else str(out),
            }
        )
    else:
        print(f"mean squared error {error:.6g} on {len(x)} examples ({_unit(image)})")
        if out is not None:
            print(
                f"{'originals above what comes back' if out.suffix == '.png' else 'what comes back'}: {out}"
            )
    return 0


def _stacked(images: list[Any]) -> Any:
    import torch

    return torch.stack(images)


def _unit(image: bool) -> str:
    return "pixels in [0, 1]" if image else "units of the data"
