"""Texts that answer to texts: tables of two columns, translations, and toys whose rule is known."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path

import torch

from pangen.data.assemble import Examples
from pangen.data.dataset import Data, Split, as_splits
from pangen.data.text import read_characters
from pangen.errors import PangenError
from pangen.rng import generator

ALPHABET = "abcdefgh"
LENGTHS = (3, 10)
"""Of a toy's strings, the shortest and the longest."""
SIZES = {"train": 20_000, "validation": 500, "test": 1000}

TOYS: dict[str, Callable[[str], str]] = {
    "copying": lambda text: text,
    "reversal": lambda text: text[::-1],
    "sorting": lambda text: "".join(sorted(text)),
}
"""What a toy's target is of its source."""


def read_pairs(path: Path) -> tuple[Examples, list[str]]:
    """The rows SOURCE TAB TARGET of a file, and what was left out of it."""
    rows = [
        row.removesuffix("\r").split("\t") for row in read_characters(path).removesuffix("\n").split("\n")
    ]
    for number, row in enumerate(rows, 1):
        if len(row) != 2 and row != [""]:
            raise PangenError(
                f"{path}, line {number}: {len(row)} columns; each line is a source, a tab and its target."
            )
    kept = [row for row in rows if all(row) and len(row) == 2]
    empty = len(rows) - len(kept)
    found = Examples("text", tuple(target for _, target in kept), tuple(source for source, _ in kept))
    return found, [f"{empty} lines without a source or a target were left out."] if empty else []


def translations(name: str, paths: list[Path]) -> Data:
    """Aligned lines of train, validation and test, of each the source's file before the target's."""
    parts = {}
    for split, source, target in zip(SIZES, paths[::2], paths[1::2], strict=True):
        y, x = _lines(source), _lines(target)
        if len(x) != len(y):
            raise PangenError(f"{source} has {len(y)} lines and {target} {len(x)}: get the files again.")
        parts[split] = Split(x, y)
    return Data(name, "text", **as_splits(parts))


def _lines(path: Path) -> tuple[str, ...]:
    try:
        text = gzip.decompress(path.read_bytes()).decode()
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise PangenError(f"{path} cannot be read ({error}): get the file again.") from None
    return tuple(text.removesuffix("\n").split("\n"))


def toy_data(name: str) -> Data:
    """Strings of 3 to 10 letters, uniform in length and letters, none of them twice; the target follows the rule."""
    seen: dict[str, None] = {}
    noise = generator("cpu", "toy pairs")
    while len(seen) < sum(SIZES.values()):  # a dictionary keeps its order
        lengths = torch.randint(LENGTHS[0], LENGTHS[1] + 1, (5000,), generator=noise).tolist()
        letters = torch.randint(len(ALPHABET), (5000, LENGTHS[1]), generator=noise).tolist()
        seen |= {"".join(ALPHABET[i] for i in row[:n]): None for row, n in zip(letters, lengths, strict=True)}
    sources, parts = iter(seen), {}
    for split, size in SIZES.items():
        y = tuple(next(sources) for _ in range(size))
        parts[split] = Split(tuple(map(TOYS[name], y)), y)
    return Data(name, "text", **as_splits(parts), alphabet=ALPHABET)
