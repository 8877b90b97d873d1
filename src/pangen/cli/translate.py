"""`pangen translate`: texts that answer to others."""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pangen.cli.examples import check_name
from pangen.cli.options import add_json, add_machine, add_text, limit_threads, text_of, whole
from pangen.cli.output import print_json
from pangen.files import write_text

if TYPE_CHECKING:
    from pangen.run import Run


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("translate", help="the answer to each line of a text")
    parser.add_argument("path", metavar="RUN", help="the folder of a run on pairs of texts")
    add_text(parser, "what to translate")
    parser.add_argument(
        "--beam",
        type=whole("--beam", 1),
        default=4,
        metavar="N",
        help="beginnings kept at once; 1 is greedy (4)",
    )
    parser.add_argument("-o", "--out", metavar="FILE", help=".txt, instead of the terminal")
    add_json(parser)
    add_machine(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    out = Path(args.out) if args.out else None
    check_name(out, [".txt"])
    limit_threads(args.threads)
    lines = text_of(args).splitlines() or [""]
    from pangen.run import load_run
    from pangen.tasks.translate import translate, with_pairs

    with redirect_stdout(sys.stderr):
        found = with_pairs(load_run(args.path, device=args.device))
        texts = translate(found, lines, beam=args.beam)
        tell_unknown(found, lines)
    if out is not None:
        write_text(out, "\n".join(texts) + "\n")
    if args.json:
        pairs = [{"source": a, "target": b} for a, b in zip(lines, texts, strict=True)]
        print_json({"run": args.path, "translations": pairs} | ({"file": str(out)} if out else {}))
    elif out is not None:
        print(f"{len(texts)} lines: {out}")
    else:
        print("\n".join(texts))
    return 0


def tell_unknown(found: Run, lines: list[str]) -> None:
    """Say so when a character is none that the run has learnt to read."""
    from pangen.codecs.text import Characters

    source = found.codec.source
    strange = source.unknown("".join(lines)) if isinstance(source, Characters) else None
    if strange is not None:
        print(f"the training texts have no {strange!r}: it is read as unknown.", file=sys.stderr)
