"""What may be wrong with data, looked for before a training: all of it counted, and told where it matters."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from pangen.data.dataset import Data, Split
from pangen.data.series import Series

HELD_OUT = ("validation", "test")
LOOKED_AT = 2**24
"""Bytes that are looked at, at most: of larger data every so manieth example."""
FEW = 100
"""Training examples, or steps of a series, under which a model knows them by heart."""
COPIES, LEAKED = 0.01, 0.01
"""Share of examples that are copies, and of held-out ones beyond what chance explains, from which on it is told."""
STATES = 64
"""Bits of an example up to which copies are what chance brings."""
EMPTY, SAME = 0.05, 0.5
"""Share of images of one tone or of silent clips; and of pixels that never change, or cells that are missing."""
RANGE, EXTREME = 1 / 8, 0.99
"""Share of the grey levels that pixels reach, and of pixels that are black or white."""
SILENT = 1e-3
VALUES = 10
"""Of a column; one that has no more of them is no real number."""
SENTINEL, APART = 3, 5.0
"""A value this often at the end of a column, this many widths of all others away from them, stands for something else."""
IMBALANCE = 10.0

Found = tuple[dict[str, Any], list[str]]
"""Counts, and sentences."""


@dataclass(frozen=True)
class Trouble:
    """What looking at data has found."""

    counts: Mapping[str, Any]
    """How much there is of all that was looked for."""
    warnings: tuple[str, ...]
    """What a training would suffer from, each one sentence."""


def find_trouble(data: Data) -> Trouble:
    """Copies, leaks, constants, odd values, labels and sizes of a data set, in a fraction of a second."""
    parts = {name: data.split(name).in_memory() for name in ("train", *HELD_OUT)}
    every = max(-(-_bytes(data) // LOOKED_AT), 1)
    splits = {name: _thin(part, every) for name, part in parts.items()}
    every *= round(len(data.train) / len(parts["train"]))
    what = "training example" if data.train.stored else "example"
    counts: dict[str, Any] = {"looked at": f"one {what} in {every}"} if every > 1 else {}
    warnings: list[str] = []
    for look in (_size, _copies, _VALUES[data.modality], _labels):
        found, sentences = look(data, splits, every)
        counts |= found
        warnings += sentences
    return Trouble(counts, tuple(warnings))


def _bytes(data: Data) -> int:
    parts = [data.split(name).in_memory().x for name in ("train", *HELD_OUT)]
    if isinstance(parts[0], Tensor):
        return sum(x.numel() * x.element_size() for x in parts)
    return sum(len(x) for part in parts for x in part) * (4 if data.modality == "sound" else 1)


def _thin(split: Split, every: int) -> Split:
    y = split.y if split.y is None else split.y[::every]
    return Split(split.x[::every], y, split.redraw)


def _size(data: Data, splits: Mapping[str, Split], every: int) -> Found:
    series = data.series is not None
    count = data.series.ends[0] if data.series is not None else len(data.train)
    if count >= FEW:
        return {}, []
    what = "steps" if series else "examples"
    return {}, [
        f"there are {count} training {what}: a model with many parameters will know them by heart; take a small one, "
        "or more data."
    ]


def _keys(split: Split) -> list[Any]:
    """Each example as something that can be hashed."""
    x = split.x
    if isinstance(x, Tensor):
        rows = x.flatten(1).contiguous().numpy()
        return rows.view(f"V{rows.shape[1] * rows.itemsize}").ravel().tolist() if rows.size else []
    if x and isinstance(x[0], Tensor):
        return [clip.numpy().tobytes() for clip in x]
    return list(zip(x, split.y, strict=True)) if isinstance(split.y, tuple) else list(x)


def _copies(data: Data, splits: Mapping[str, Split], every: int) -> Found:
    """Equal examples, within the splits and across them.

    Where examples are drawn independently, as many held-out ones are copies of training examples as training
    examples are of each other: only more than that is a leak. Of one example in k, one pair in k is seen.
    """
    if data.series is not None:  # windows overlap
        return {}, []
    keys = {name: _keys(split) for name, split in splits.items()}
    rows = [key for part in keys.values() for key in part]
    copies = len(rows) - len(set(rows))
    times = Counter(keys["train"])
    leaked = {name: sum(key in times for key in keys[name]) for name in HELD_OUT}
    counts = {"copies": copies} | {f"copies of training examples in {k}": n for k, n in leaked.items()}
    if copies == len(rows) - 1:
        return counts, ["every example is the same: there is nothing to learn."]
    if data.labels:
        first: dict[Any, int] = {}
        labels = [y for split in splits.values() for y in cast("Tensor", split.y).tolist()]
        torn = sum(first.setdefault(key, y) != y for key, y in zip(rows, labels, strict=True))
        counts["copies with another label"] = torn
    found: list[str] = []
    usual = sum(n for n in times.values() if n > 1) / len(keys["train"])
    if data.truth is not None or _bits(data) <= STATES:
        return counts, found
    if copies >= COPIES / every * len(rows):
        found.append(
            f"{copies} of {len(rows)} examples are copies of another: a model that remembers them looks better than "
            "it is; remove copies before the data is split."
        )
    for name, n in leaked.items():
        size = len(keys[name])
        chance = usual * size
        if n - chance > LEAKED / every * size + 4 * chance**0.5:
            found.append(
                f"{n} of {size} examples in {name} are copies of training examples, and {chance:.0f} would be by chance: "
                "scores on them tell what was remembered; take them out of one of the two."
            )
    if data.labels and torn >= COPIES / every * len(rows):
        found.append(f"{torn} examples are copies of another that has another label: look at the labels.")
    return counts, found


def _bits(data: Data) -> float:
    """What tells one example from others, at most; infinite where that is not known."""
    if data.modality == "image":
        return data.size * math.log2(data.levels)
    if data.modality != "table":
        return math.inf
    gaps = data.train.x.isnan().any(0).tolist()  # where a number is missing, it tells nothing
    values = [len(column.words or column.points) for column in data.table]
    return sum(math.log2(n) if n else 0.0 if gap else math.inf for n, gap in zip(values, gaps, strict=True))


def _images(data: Data, splits: Mapping[str, Split], every: int) -> Found:
    x = torch.cat([split.x for split in splits.values()])
    top = 255 if data.train.redraw else data.levels - 1
    flat = x.flatten(1)
    still = int((flat == flat[0]).all(0).sum())
    blank = int((flat == flat[:, :1]).all(1).sum())
    often = torch.bincount(flat.flatten().int(), minlength=top + 1).double()
    used = often.nonzero().flatten()
    low, high = int(used[0]), int(used[-1])
    counts = {
        "constant pixels": f"{still} of {flat.shape[1]}",
        "images of one tone": f"{blank} of {len(flat)}",
        "grey levels": f"{low} to {high} of 0 to {top}",
    }
    found: list[str] = []
    if still == flat.shape[1]:
        return counts, found
    if still > SAME * flat.shape[1]:
        found.append(
            f"{still} of {flat.shape[1]} pixels are the same in all images: likelihoods pay for nothing there; crop them."
        )
    if blank > EMPTY * len(flat) and data.truth is None:
        found.append(
            f"{blank} of {len(flat)} images are of one tone: are they empty, or was reading them at fault?"
        )
    if high - low < RANGE * top:
        tone = "black" if high < top / 2 else "white" if low > top / 2 else "of one grey"
        found.append(
            f"pixels have values {low} to {high} of 0 to {top}: images are nearly {tone}; scale them to the whole range."
        )
    elif (share := float(often[[low, high]].max() / often.sum())) > EXTREME:
        tone = "black" if often[low] > often[high] else "white"
        found.append(f"{share:.1%} of all pixels are {tone}: crop the images, or look how they were read.")
    return counts, found


def _vectors(data: Data, splits: Mapping[str, Split], every: int) -> Found:
    values = torch.cat([split.x for split in splits.values()])
    return _columns(values.T, data.columns)


def _tables(data: Data, splits: Mapping[str, Split], every: int) -> Found:
    cells = torch.cat([split.x for split in splits.values()]).T
    missing = cells.isnan()
    counts: dict[str, Any] = {"missing cells": f"{int(missing.sum())} of {cells.numel()}"}
    found, constant = [], []
    for column, values, gaps in zip(data.table, cells, missing, strict=True):
        known = values[~gaps].sort().values
        share = float(gaps.double().mean())
        if share > SAME:
            found.append(f"column '{column.name}' lacks {share:.0%} of its cells: leave it out.")
        if len(known) and known[0] == known[-1]:
            constant.append(column.name)
        elif not column.words and (told := _sentinel(known)):
            found.append(_APART.format(column.name, *told))
    counts["constant columns"] = len(constant)
    if constant:
        found.append(f"{_named(constant)} constant: leave {'it' if len(constant) == 1 else 'them'} out.")
    return counts, found


def _series(data: Data, splits: Mapping[str, Split], every: int) -> Found:
    series = cast("Series", data.series)
    return _columns(series.values, series.columns)


def _columns(columns: Tensor, names: Sequence[str]) -> Found:
    """Columns `(D, N)` of real numbers, or what should be that."""
    names = names or tuple(map(str, range(len(columns))))
    ordered = columns.sort(1).values
    broken = int((~columns.isfinite()).any(0).sum())
    distinct = (ordered.diff(dim=1) != 0).sum(1) + 1
    constant = [names[i] for i in (distinct == 1).nonzero().flatten()]
    few = [names[i] for i in ((distinct > 1) & (distinct <= VALUES)).nonzero().flatten()]
    counts: dict[str, Any] = {
        "constant columns": len(constant),
        f"columns of at most {VALUES} values": len(few),
        "rows that are not finite": broken,
    }
    found = []
    if broken:
        found.append(f"{broken} examples hold numbers that are not finite: fill them in, or leave them out.")
    if constant:
        found.append(f"{_named(constant)} constant: leave {'it' if len(constant) == 1 else 'them'} out.")
    if few:
        found.append(f"{_named(few)} of ten values at most: no density over them is bounded.")
    if not few and not broken and not constant and bool((columns == columns.round()).all()):
        found.append(
            "every value is a whole number: no density over them is bounded; images are given as integers "
            "(N, H, W), other counts with noise from 0 to 1 added."
        )
    odd = {names[i]: told for i, told in enumerate(map(_sentinel, ordered)) if told and names[i] not in few}
    counts["columns with a value far from all others"] = len(odd)
    return counts, found + [_APART.format(name, *told) for name, told in odd.items()]


_APART = (
    "column '{}' holds {:g} {} times, far from all its other values: if it stands for what is missing, fill it in, or "
    "leave these rows out."
)


def _sentinel(ordered: Tensor) -> tuple[float, int] | None:
    """The value at an end of sorted values that is far from the others, and its count."""
    for end, inwards in ((ordered[0], 1), (ordered[-1], -1)):
        rest = ordered[ordered != end]
        times = len(ordered) - len(rest)
        if len(rest) > 1 and times >= SENTINEL:
            gap = (rest[0] - end) * inwards if inwards == 1 else end - rest[-1]
            if gap > APART * (rest[-1] - rest[0]) > 0:
                return float(end), times
    return None


def _texts(data: Data, splits: Mapping[str, Split], every: int) -> Found:
    strange = sum(text.count("\ufffd") for split in splits.values() for text in split.x)
    found = []
    if strange:
        found.append(
            f"the text holds {strange} characters that were lost when it was decoded (U+FFFD): get it anew, as UTF-8."
        )
    return {"lost characters": strange}, found


def _sounds(data: Data, splits: Mapping[str, Split], every: int) -> Found:
    clips = [clip for split in splits.values() for clip in split.x]
    silent = sum(bool(clip.abs().max() < SILENT) for clip in clips)
    found = []
    if silent > EMPTY * len(clips):
        found.append(f"{silent} of {len(clips)} clips are silent: leave them out.")
    return {"silent clips": silent}, found


def _labels(data: Data, splits: Mapping[str, Split], every: int) -> Found:
    if not data.labels:
        return {}, []
    many = torch.bincount(cast("Tensor", data.train.y), minlength=len(data.labels))
    found = [f"label '{data.labels[i]}' has no training example." for i in (many == 0).nonzero().flatten()]
    most, least = int(many.argmax()), int(torch.where(many > 0, many, many.max()).argmin())
    ratio = int(many[most]) / max(int(many[least]), 1)
    if ratio >= IMBALANCE:
        found.append(
            f"label '{data.labels[most]}' occurs {ratio:.0f} times as often as '{data.labels[least]}': few will be "
            "drawn of the rarer ones, and those may be poor."
        )
    return {"most frequent label to rarest": round(ratio, 2)}, found


def _named(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:5]) + (", ..." if len(names) > 5 else "")
    return f"column {shown} is" if len(names) == 1 else f"{len(names)} columns ({shown}) are"


_VALUES: dict[str, Callable[[Data, Mapping[str, Split], int], Found]] = {
    "image": _images,
    "vector": _vectors,
    "table": _tables,
    "series": _series,
    "text": _texts,
    "sound": _sounds,
}
