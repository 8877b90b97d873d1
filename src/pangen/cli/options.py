"""Options that several verbs share, and how their values are read."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pangen.errors import PangenError, unknown

INPUT = "-"
UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """Seconds in '90', '60s', '2m' or '1h'."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip().lower())
    if not found or float(found[1]) == 0:
        raise PangenError(f"'{text}' is no budget; write seconds, minutes or hours, such as 60s, 2m or 1h.")
    return float(found[1]) * UNITS[found[2]]


def size(text: str) -> tuple[int, int]:
    """Height and width in '28x28'."""
    found = re.fullmatch(r"([1-9]\d*)[x×]([1-9]\d*)", text.lower())
    if not found:
        raise PangenError(f"'{text}' is no image size; write height x width in pixels, such as 28x28.")
    return int(found[1]), int(found[2])


def whole(option: str, least: int) -> Callable[[str], int]:
    """A reader of whole numbers of at least `least`."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?\d+", text.strip()) or int(text) < least:
            raise PangenError(f"{option} takes a whole number of at least {least}, not '{text}'.")
        return int(text)

    return read


def positive(option: str) -> Callable[[str], float]:
    """A reader of positive numbers."""

    def read(text: str) -> float:
        if not re.fullmatch(r"\d*\.?\d+", text.strip()) or float(text) == 0:
            raise PangenError(f"{option} takes a positive number, such as 0.5, not '{text}'.")
        return float(text)

    return read


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, all else on stderr")


def add_seed(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--seed", type=whole("--seed", 0), metavar="N", help=f"decides {what} (0)")


def add_length(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--budget", type=seconds, metavar="TIME", help=f"training time, such as 60s or 2m ({default})"
    )
    parser.add_argument(
        "--steps", type=whole("--steps", 1), metavar="N", help="training steps, instead of a budget"
    )


def add_machine(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("machine")
    group.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or mps (auto)")
    group.add_argument(
        "--threads", type=whole("--threads", 1), metavar="N", help="processor threads (as torch decides)"
    )


def add_data(parser: argparse.ArgumentParser) -> None:
    """How data in the user's own files is read."""
    group = parser.add_argument_group("your own data")
    group.add_argument("--size", type=size, metavar="HxW", help="scale every image to this height and width")
    group.add_argument("--skip-bad", action="store_true", help="leave out files that cannot be read")
    group.add_argument(
        "--stored",
        action="store_true",
        help="leave examples on disk, as is done with what is large (more than a quarter of the free memory)",
    )
    group.add_argument("--target", metavar="COL", help="the column of a .csv that holds the labels")
    group.add_argument("--lines", action="store_true", help="each line of a .txt is one example")
    group.add_argument(
        "--window",
        type=whole("--window", 1),
        metavar="N",
        help="characters of a text, or steps of a series, in an example",
    )
    group.add_argument(
        "--seconds", type=positive("--seconds"), metavar="S", help="of sound in an example, at most"
    )
    group.add_argument(
        "--rate", type=whole("--rate", 1), metavar="HZ", help="resample all sound to this rate"
    )
    group.add_argument("--mono", action="store_true", help="mix the channels of sound into one")
    group.add_argument("--series", action="store_true", help="split in time order, not by chance")
    group.add_argument("--column", metavar="COL", help="the one column of a .csv that is the series (all)")
    group.add_argument(
        "--split-seed", type=whole("--split-seed", 0), metavar="N", help="decides the splits (0)"
    )


def choice(kind: str, names: Sequence[str]) -> Callable[[str], str]:
    """A reader of one of some names."""

    def read(text: str) -> str:
        if text not in names:
            raise unknown(kind, text, names)
        return text

    return read


def add_other_data(parser: argparse.ArgumentParser) -> None:
    """Data in the place of that which a run was trained on."""
    parser.add_argument("--data", metavar="DATA", help="other data than it was trained on")


def other_data_options(args: argparse.Namespace, called: str = "--data") -> dict[str, Any]:
    """`data_options`, which without other data are a mistake; `called`: how that is given."""
    options = data_options(args)
    if options and not args.data:
        raise PangenError(
            f"options for reading data need {called}; a run remembers how its own data was read."
        )
    return options


def add_features(parser: argparse.ArgumentParser) -> None:
    """What lends the features that samples are compared in."""
    parser.add_argument(
        "--features",
        metavar="RUN",
        help="a vit or cnn, imagenet, or a network's .pt file, in whose features samples are compared",
    )


def add_samples(parser: argparse.ArgumentParser) -> None:
    """How many samples a model is judged by."""
    parser.add_argument(
        "--samples",
        type=whole("--samples", 2),
        metavar="N",
        help="drawn of each model, and set against real data (as many as there are held-out examples, or 1000)",
    )


def add_split(parser: argparse.ArgumentParser) -> None:
    """The split that is measured."""
    parser.add_argument(
        "--split",
        type=choice("split", ("train", "validation", "test")),
        default="test",
        metavar="NAME",
        help="train, validation or test (test)",
    )


def data_options(args: argparse.Namespace) -> dict[str, Any]:
    """What `load_data` is told beside the name: only what was asked for."""
    names = {"split_seed": "seed"}
    fields = (
        "size",
        "skip_bad",
        "stored",
        "target",
        "lines",
        "window",
        "seconds",
        "rate",
        "mono",
        "series",
        "column",
        "split_seed",
    )
    found = {names.get(f, f): getattr(args, f) for f in fields}
    return {name: value for name, value in found.items() if value is not None and value is not False}


def limit_threads(count: int | None) -> None:
    """Let torch and the numerical libraries use this many threads."""
    if count is not None:
        os.environ["OMP_NUM_THREADS"] = str(count)  # read by whatever is imported after this
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(count)


def default_folder(prefix: str, data: str) -> Path:
    """`runs/PREFIX-DATA`, data being a name or the last part of a path or of `latents:RUN`."""
    return Path("runs") / f"{prefix}-{Path(data.removeprefix('latents:')).resolve().stem or 'data'}"


def folder_beside(run: Path, ending: str) -> Path:
    """Where what is made of a run goes if nothing else is asked for."""
    return run.with_name(f"{run.resolve().name}-{ending}")


def listed(text: str) -> list[str]:
    """What stands between commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def check_writable(path: Path) -> None:
    """Raise before any work when a file cannot be written there."""
    if path.is_dir():
        raise PangenError(f"cannot write {path}: it is a folder; name a file with -o.")
    if not path.parent.is_dir():
        raise PangenError(
            f"cannot write {path}: there is no folder {path.parent}; choose another place with -o."
        )
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise PangenError(f"cannot write {path}: permission denied; choose another place with -o.")


def add_text(parser: argparse.ArgumentParser, what: str) -> None:
    """A text on the command line, in a file, or on standard input."""
    parser.add_argument("text", nargs="?", metavar="TEXT", help=f"{what}, - for standard input")
    parser.add_argument("--file", metavar="FILE", help="a file that holds the text instead")


def text_of(args: argparse.Namespace, *, needed: bool = True) -> str:
    """The text that `add_text` asks for, without the end of its last line; empty where none is `needed`."""
    if (args.file and args.text is not None) or (needed and not args.file and args.text is None):
        raise PangenError(f"{args.parser.prog} takes one of TEXT and --file.")
    if not args.file and args.text != INPUT:
        return args.text or ""
    from pangen.data.text import characters

    try:
        raw = Path(args.file).read_bytes() if args.file else sys.stdin.buffer.read()
    except OSError as error:
        raise PangenError(f"{args.file} cannot be read: {error.strerror}.") from None
    return characters(raw, args.file or "standard input").removesuffix("\n").removesuffix("\r")
