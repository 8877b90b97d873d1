"""`pangen interpolate`: the way from one example to another, through their codes."""

from __future__ import annotations

import argparse
import re
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pangen.cli.examples import (
    SPLITS,
    Found,
    add_given,
    check_fits,
    check_name,
    generator_of,
    joined,
    labels_for,
    preview,
    read_example,
    write_examples,
    write_picture,
)
from pangen.cli.options import add_json, add_machine, choice, limit_threads, whole
from pangen.cli.output import print_json
from pangen.errors import PangenError

if TYPE_CHECKING:
    from pangen.codecs import ImageCodec
    from pangen.run import Run


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "interpolate", help="the way from one example to another, through their codes"
    )
    parser.add_argument("path", metavar="RUN", help="the folder of a run whose model has codes")
    for end in ("A", "B"):
        parser.add_argument(
            end.lower(), metavar=end, help="an index into the split, from 0, or an image or .npy file"
        )
    parser.add_argument(
        "-n",
        type=whole("-n", 2),
        default=8,
        metavar="N",
        help="examples on the way, both ends among them (8)",
    )
    parser.add_argument(
        "--split",
        type=choice("split", SPLITS[:-1]),
        default="test",
        metavar="NAME",
        help="train, validation or test (test)",
    )
    add_given(parser)
    parser.add_argument("-o", "--out", metavar="FILE", help=".png a strip, .npy the raw array, .txt text")
    add_json(parser)
    add_machine(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    out = Path(args.out) if args.out else None
    check_name(out)
    limit_threads(args.threads)
    from pangen.evaluation.images import grid
    from pangen.run import load_run
    from pangen.tasks.latent import interpolate, with_codes

    with redirect_stdout(sys.stderr):
        found = with_codes(load_run(args.path, device=args.device))
        if out is not None:
            check_fits(out, found)
        ends = [_end(found, word, args.split, args.given) for word in (args.a, args.b)]
        x = interpolate(found, ends[0].x, ends[1].x, args.n, joined([end.y for end in ends]))
        if out is not None and out.suffix == ".png" and found.codec.outer.space.is_image:
            levels = cast("ImageCodec", found.codec.outer).levels
            write_picture(out, grid(x, levels, columns=len(x)))
        elif out is not None:
            write_examples(out, x, found)
    if args.json:
        print_json({"run": args.path, "examples": len(x), "file": None if out is None else str(out)})
    else:
        print(
            f"{len(x)} examples from {args.a} to {args.b}: {out}"
            if out is not None
            else preview(x, found.codec)
        )
    return 0


def _end(found: Run, word: str, split: str, given: str | None) -> Found:
    """One example of the split, or of a file, and its label where the run has some."""
    import torch

    from pangen.evaluation.kind import data_of

    if not re.fullmatch(r"-?\d+", word):
        return Found(read_example(found, Path(word)), labels_for(found, None, given, 1))
    part = data_of(found).split(split)
    if not 0 <= int(word) < len(part):
        raise PangenError(f"there is no example {word} in the {split} split, which has 0 to {len(part) - 1}.")
    x, y = part.take(torch.tensor([int(word)]), generator_of(split))
    return Found(x, labels_for(found, y, given, 1))
