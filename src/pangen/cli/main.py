"""The program `pangen`: reads a command, runs its verb, and turns mistakes into one sentence."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout

from pangen import __version__, parallel
from pangen.cli import (
    advise,
    average,
    check,
    classify,
    compare,
    complete,
    compress,
    convert,
    data,
    decode,
    decompress,
    doctor,
    encode,
    evaluate,
    fill,
    fit,
    forecast,
    frontier,
    interpolate,
    logz,
    models,
    reconstruct,
    runs,
    sample,
    show,
    translate,
    verify,
)
from pangen.cli.parser import Parser, parse
from pangen.errors import PangenError, refused
from pangen.memory import is_exhausted, is_lost, keep_freed
from pangen.threads import be_patient

VERBS = (
    models, data, advise, fit, average, convert, sample, complete, translate, fill, forecast, evaluate, classify, check, logz, encode, decode, reconstruct, interpolate, compress, decompress, compare, verify, frontier, runs, show, doctor,
)  # fmt: skip

TOGETHER = (fit.run, sample.run, evaluate.run)
"""What several processes do as one."""
OUT_OF_MEMORY = (
    "memory ran out: ask for fewer examples at once (-n, --training.accumulate, --training.batch), keep less of them "
    "(--training.recompute true), or take a smaller model (--model...) or --size."
)
LOST = "the device was lost: try again, or take another with --device cpu."


def build_parser() -> Parser:
    """The parser of all verbs; imports no torch."""
    parser = Parser(
        prog="pangen",
        description="Every family of deep generative models: train, sample, evaluate, compare.",
        epilog="Start with `pangen fit vae digits --budget 20s`, or `pangen compare digits`.",
    )
    parser.add_argument("--version", action="version", version=f"pangen {__version__}")
    subparsers = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs")
    for verb in VERBS:
        verb.add(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 (a compared model failed), 2 (bad input), 130 (Ctrl-C)."""
    be_patient()
    keep_freed()
    try:
        args = parse(build_parser(), sys.argv[1:] if argv is None else list(argv))
        if parallel.size() > 1:
            return _together(args)
        code = args.run(args)
        sys.stdout.flush()
        return code
    except PangenError as error:
        return _tell(error)
    except (MemoryError, RuntimeError) as error:
        if not is_exhausted(error) and not is_lost(error):
            raise
        print(f"pangen: {OUT_OF_MEMORY if is_exhausted(error) else LOST}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("pangen: interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except OSError as error:
        if error.errno is None:
            raise
        print(f"pangen: {refused(error)}", file=sys.stderr)
        return 2
    except SystemExit as leaving:  # --help and --version
        return int(leaving.code or 0)


def _together(args: argparse.Namespace) -> int:
    """One command by the processes that `torchrun` started; the first of them speaks."""
    if args.run not in TOGETHER:
        if parallel.is_first():
            _tell("several processes can fit, sample and evaluate; this is for one: leave out torchrun.")
        return 2
    parallel.join()
    with ExitStack() as stack:
        if not parallel.is_first():
            silent = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(redirect_stdout(silent))
            stack.enter_context(redirect_stderr(silent))
        if args.run is not fit.run:  # where the clock decides some things, and validation alone is shared
            stack.enter_context(parallel.sharing())
        try:
            code = args.run(args)
            sys.stdout.flush()
            return code
        except PangenError as error:
            stack.close()
            return 2 if parallel.is_heard(str(error)) else _tell(error)


def _tell(error: object) -> int:
    """A mistake, told in one sentence."""
    who = f" ({parallel.who()})" if parallel.rank() else ""
    print(f"pangen{who}: {' '.join(str(error).split())}", file=sys.stderr)
    return 2
