"""A folder with a file for each example, labelled and split by its subfolders where it has some."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pangen.errors import PangenError

SPLITS = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
}
"""Subfolders that name a split."""

T = TypeVar("T")


def files_of(folder: Path) -> list[Path]:
    """Files of a folder and its subfolders by their paths within it, numbers in names in their order."""
    return sorted((path.relative_to(folder) for path in _walk(folder, set())), key=_natural)


def read_splits(
    folder: Path, members: Sequence[Path], read: Callable[[Path], T | None], what: str
) -> dict[str, tuple[list[T], np.ndarray | None]]:
    """The examples of each split and their labels; all in "train" when the folder does not say.

    Args:
        members: files by their paths within the folder.
        read: the example of a file; None for one to leave out.
        what: the examples are called in errors.
    """
    found: dict[str, tuple[list[T], np.ndarray | None]] = {}
    for split, files in by_split(folder, members).items():
        top = folder if split is None else folder / files[0].parts[0]
        labels = _labels(top, [folder / file for file in files], what)
        every = [read(folder / file) for file in files]
        kept = [label for label, example in zip(labels or (), every, strict=False) if example is not None]
        examples = [example for example in every if example is not None]
        found[split or "train"] = examples, classes(kept) if labels else None
    return found


def _walk(folder: Path, seen: set[str]) -> Iterator[Path]:
    """Files of a folder and its subfolders, hidden ones left out, links followed once."""
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "__MACOSX")):
            continue
        if path.is_dir():
            yield from _walk(path, seen)
        else:
            yield path


def _natural(path: Path) -> tuple[Any, ...]:
    """Order by name, numbers by value: 2.png before 10.png."""
    pieces = re.split(r"(\d+)", path.as_posix())
    return tuple((int(p), "") if i % 2 else (-1, p) for i, p in enumerate(pieces)), path.as_posix()


def by_split(folder: Path, members: Sequence[Path]) -> dict[str | None, list[Path]]:
    """Files of each split, when subfolders are called train and test or validation; else of None."""
    tops = {f.parts[0] for f in members if len(f.parts) > 1}
    splits = {top: SPLITS[top.lower()] for top in tops if top.lower() in SPLITS}
    if "train" not in splits.values() or len(splits) < 2:
        return {None: list(members)}
    found: dict[str | None, list[Path]] = {}
    for top, split in sorted(splits.items()):
        if split in found:
            raise PangenError(f"{folder} holds two folders for {split}, one of them '{top}'; keep one.")
        found[split] = [f for f in members if f.parts[0] == top]
    outside = next((f for f in members if f.parts[0] not in splits), None)
    if outside is not None:
        raise PangenError(
            f"{folder} has folders for splits and {outside} beside them; move it into train, validation or test."
        )
    return found


def _labels(top: Path, files: list[Path], what: str) -> list[str] | None:
    """The subfolder of each file; None when all lie in the folder itself."""
    names = [parts[0] if len(parts := path.relative_to(top).parts) > 1 else "" for path in files]
    if set(names) == {""}:
        return None
    if "" in names:
        loose = files[names.index("")]
        raise PangenError(
            f"{top} holds {what} in subfolders, and {loose.name} outside them; "
            "put all in subfolders, one for each class, or none."
        )
    if len(set(names)) == 1:
        raise PangenError(
            f"all {what} of {top} lie in one subfolder, and one class is nothing to tell apart: "
            f"give {top / names[0]} itself, or a subfolder for each class."
        )
    return names


def classes(labels: list[str]) -> np.ndarray:
    """Names of subfolders; as numbers if all are, so that 10 comes after 2."""
    numbers = all(label.isdecimal() and label == str(int(label)) for label in labels)
    return np.array([int(label) for label in labels] if numbers else labels)
