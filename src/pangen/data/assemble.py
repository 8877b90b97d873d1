"""From the examples a user gave to a `Data`: splits, levels, classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from pangen.data.dataset import Column, Data, Modality, Split, as_splits
from pangen.data.stored import Stored
from pangen.errors import PangenError
from pangen.rng import generator

FEWEST = 10
"""Examples without which there is nothing to learn from, and too little to hold out."""
HELD_OUT = ("validation", "test")


@dataclass(frozen=True)
class Examples:
    """Checked examples that belong together.

    `x`: images uint8 `(N, C, H, W)`, values 0 to 255; vectors and tables float32 `(N, D)`, either perhaps `Stored`;
    text a tuple of strings; sound a tuple of float32 `(T,)`. `y`: labels, whole numbers or strings `(N,)`; a tuple of texts that
    the examples answer to or that describe them; or None.
    """

    modality: Modality
    x: Any
    y: np.ndarray | tuple[str, ...] | None = None
    columns: tuple[str, ...] = ()
    """Names of the coordinates of vectors, where they have some."""
    table: tuple[Column, ...] = ()
    """Of a table, what its columns are."""


def assemble(
    name: str,
    parts: Mapping[str, Examples],
    *,
    source: str,
    notes: Iterable[str] = (),
    series: bool = False,
    seed: int = 0,
    window: int = 0,
    rate: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Data:
    """One `Data` from the splits that are given; those that are not are taken out of "train"."""
    train = parts["train"]
    count = sum(len(part.x) for part in parts.values())
    if count < FEWEST or not all(len(part.x) for part in parts.values()):
        empty = next((f" and none for {split}" for split, part in parts.items() if not len(part.x)), "")
        what = f"windows of {window} characters" if window else "examples"
        raise PangenError(f"{source} holds {count} {what}{empty}; at least {FEWEST} are needed.")
    _check_alike(parts, source)
    parts, levels, found = _levels(parts)
    labels, numbered = _classes(parts, source)
    splits = {split: Split(_tensor(part.x), numbered[split]) for split, part in parts.items()}
    splits = _hold_out(splits, source, series, seed)
    splits, told = _held(splits)
    return Data(
        name,
        train.modality,
        **as_splits(splits),
        levels=levels,
        labels=labels,
        window=window,
        rate=rate,
        options=dict(options or {}),
        columns=train.columns,
        table=train.table,
        notes=(*notes, *found, *told),
    )


def _tensor(x: Any) -> Any:
    if not isinstance(x, np.ndarray):
        return x
    return torch.from_numpy(x if x.flags.writeable else x.copy())


def _check_alike(parts: Mapping[str, Examples], source: str) -> None:
    train = parts["train"]
    for split, part in parts.items():
        shapes = [getattr(p.x, "shape", (0,))[1:] for p in (train, part)]
        if part.modality != train.modality or shapes[0] != shapes[1]:
            raise PangenError(
                f"{source}: examples for {split} are {part.modality}s of shape {shapes[1]} and those for "
                f"train {train.modality}s of shape {shapes[0]}; they must be alike."
            )
        if (part.y is None) != (train.y is None):
            with_, without = ("train", split) if part.y is None else (split, "train")
            raise PangenError(f"{source}: {with_} has labels and {without} has none; label both or neither.")


def _levels(parts: Mapping[str, Examples]) -> tuple[Mapping[str, Examples], int, list[str]]:
    """Two levels when pixels take two values at most, 0 and 1 or 0 and 255; else 256."""
    if parts["train"].modality != "image":
        return parts, 0, []
    seen = [p.x.sample.numpy() if isinstance(p.x, Stored) else p.x for p in parts.values()]
    used = set().union(*map(_values, seen))
    if used <= {0, 1}:
        return {k: replace(p, x=_binary(p.x, 1)) for k, p in parts.items()}, 2, []
    if used <= {0, 255}:
        white = {k: replace(p, x=_binary(p.x, 255)) for k, p in parts.items()}
        return white, 2, ["pixels are 0 or 255 only: they are read as binary images."]
    return parts, 256, []


def _values(x: np.ndarray) -> set[int]:
    """Those that pixels take; counting makes eight bytes of each."""
    parts = np.array_split(x.reshape(-1), x.size // 2**20 + 1)
    return set().union(*(np.flatnonzero(np.bincount(part, minlength=256)).tolist() for part in parts))


def _binary(x: Any, white: int) -> Any:
    return replace(x, white=white) if isinstance(x, Stored) else x // white if white > 1 else x


def _classes(
    parts: Mapping[str, Examples], source: str
) -> tuple[tuple[str, ...], Mapping[str, torch.Tensor | tuple[str, ...] | None]]:
    """Names of the classes in sorted order, and each example's index among them; or the texts beside them."""
    labels = [part.y for part in parts.values() if isinstance(part.y, np.ndarray)]
    if not labels:
        return (), {split: part.y for split, part in parts.items() if not isinstance(part.y, np.ndarray)}
    every = np.concatenate(labels)
    classes, index = np.unique(every, return_inverse=True)
    if len(classes) == 1:
        raise PangenError(
            f"{source}: all labels are '{classes[0]}'; one class is nothing to tell apart: "
            "leave the labels out, or give two classes at least."
        )
    numbers = torch.from_numpy(index.reshape(-1)).long().split([len(p.x) for p in parts.values()])
    numbered = dict(zip(parts, numbers, strict=True))
    for split, y in numbered.items():
        strange = y[~torch.isin(y, numbered["train"])]
        if len(strange):
            raise PangenError(
                f"{source}: the label '{classes[strange[0]]}' occurs for {split} and never for train; "
                "mend the labels or the splits."
            )
    return tuple(map(str, classes)), numbered


def _hold_out(splits: dict[str, Split], source: str, series: bool, seed: int) -> dict[str, Split]:
    """Take a tenth of train for each held-out split that is missing: by chance, or its end in time."""
    train = splits["train"]
    missing = [split for split in HELD_OUT if split not in splits]
    n = len(train)
    size = max(n // 10, 1)
    size = min(size, len(train.x.seen)) if train.stored else size
    if n - size * len(missing) < 1:
        raise PangenError(
            f"{source} holds {n} training examples, too few to take {' and '.join(missing)} from."
        )
    if train.stored:
        return splits | _taken_out(train, missing, size, series, seed)
    order = torch.arange(n) if series else torch.randperm(n, generator=generator("cpu", "split", seed))
    rest = n - size * len(missing)
    found = dict(splits)
    for i, split in enumerate(missing):
        found[split] = Split(*train.take(order[rest + i * size : rest + (i + 1) * size]))
    if missing:
        found["train"] = Split(*train.take(order[:rest]))
    return {split: found[split] for split in ("train", *HELD_OUT)}


def _taken_out(train: Split, missing: list[str], size: int, series: bool, seed: int) -> dict[str, Split]:
    """`_hold_out` of stored examples: of each stretch of them one, or their end; the rest stay in their order.

    A permutation of all of them would be as large as memory may be.
    """
    n, k = len(train), size * len(missing)
    if not k:
        return {}
    noise = generator("cpu", "split", seed)
    starts = torch.arange(k + 1) * n // k
    rows = starts[:-1] + (torch.rand(k, generator=noise, dtype=torch.float64) * starts.diff()).long()
    order = torch.randperm(k, generator=noise)
    if series:
        rows, order = torch.arange(n - k, n), torch.arange(k)
    rest = train.x.without(rows)
    y = None if train.y is None else train.conditions(rest.rows(torch.arange(n - k)))
    found = {"train": Split(rest, y)}
    for split, part in zip(missing, order.split(size), strict=True):
        found[split] = Split(*train.take(rows[part]))
    return found


def _held(splits: dict[str, Split]) -> tuple[dict[str, Split], list[str]]:
    """Stored examples held out brought into memory, and what there is to note."""
    train, found, notes = splits["train"], dict(splits), []
    for split in HELD_OUT:
        found[split] = splits[split].in_memory()
        if len(found[split]) < len(splits[split]):
            notes.append(
                f"{split} is {len(found[split]):,} of its {len(splits[split]):,} examples, evenly spread: they are held in memory."
            )
    if train.stored:
        notes.append(
            f"the {len(train):,} training examples stay on disk: scales, features, near-copies and the fingerprint are "
            f"found on {len(train.x.seen):,} of them, evenly spread."
        )
    return found, notes
