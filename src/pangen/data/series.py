"""Series: rows in time order, which decides the splits, cut into windows of equal length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pangen.data.arrays import check_finite, float32
from pangen.data.dataset import Data, Split, Truth, as_splits
from pangen.data.table import GAPS, column_values, find_column, is_number, read_rows
from pangen.errors import PangenError

SHARES = (0.6, 0.8)
"""Where training ends, and where validation does."""
MOST = 50_000
"""Training windows, which start at every step while there are no more of them."""
HELD_OUT = 10
"""Windows of a held-out split that do not overlap, or as many that overlap as little as they can."""


@dataclass(frozen=True)
class Clock:
    """Equally spaced times. `unit`: seconds, or months; without one they are numbers."""

    start: str = "0"
    step: float = 1
    unit: str = ""

    def at(self, index: int) -> str:
        """The time of a row, also of one beyond the last."""
        if not self.unit:
            return f"{float(self.start) + index * self.step:.12g}"
        if self.unit == "M":
            month = np.datetime64(self.start[:7], "M") + index * int(self.step)
            return f"{month}{self.start[7:10]}"
        time = str(np.datetime64(self.start, "s") + np.timedelta64(index * int(self.step), "s"))
        whole_days = self.step % 86400 == 0 and self.start.endswith("T00:00:00")
        return time[:10] if whole_days else time.replace("T", " ")


@dataclass(frozen=True)
class Series:
    """What the windows of a data set were cut from: values float32 `(C, T)`, a row for each column."""

    values: Tensor
    columns: tuple[str, ...]
    clock: Clock
    ends: tuple[int, ...] = ()
    """Steps at which training, validation and testing end."""


def read_series(path: Path, column: str | int | None = None) -> Series:
    """A .csv: its columns of numbers, or one of them. Times, which stand in the first column, are no values."""
    header, rows, lines = read_rows(path)
    names = header or [str(i) for i in range(len(rows[0]))]
    first = [row[0] for row in rows]
    clock = _clock(path, names[0], first, lines) if len(names) > 1 else None
    chosen: Sequence[int] = range(clock is not None, len(names))
    if column is not None:
        chosen = [find_column(path, column, names)]
        if clock is not None and chosen[0] == 0:
            raise PangenError(f"{path}: column '{names[0]}' holds the times; choose another.")
    values = np.empty((len(chosen), len(rows)))
    for j, i in enumerate(chosen):
        cells = [row[i] for row in rows]
        gap = next((line for cell, line in zip(cells, lines, strict=True) if cell.lower() in GAPS), None)
        if gap is not None:
            raise PangenError(
                f"{path}: column '{names[i]}' has a gap in line {gap}; fill it in, for a series has a value at "
                "every step."
            )
        values[j] = column_values(path, names[i], cells, lines)
    return Series(
        torch.from_numpy(float32(values, str(path))), tuple(names[i] for i in chosen), clock or Clock()
    )


def array_series(array: Any, source: str) -> Series:
    """An array `(T,)`, or `(T, C)` with a column for each of several series."""
    array = np.asarray(array)
    if array.dtype.kind not in "iuf" or array.ndim not in (1, 2) or 0 in array.shape:
        raise PangenError(
            f"{source} is {array.dtype} of shape {array.shape}; a series is numbers (T,) or (T, C)."
        )
    rows = array.reshape(len(array), -1)
    check_finite(rows, source)
    values = torch.from_numpy(float32(rows, source)).T.contiguous()
    return Series(values, tuple(map(str, range(len(values)))), Clock())


def series_data(
    name: str,
    series: Series,
    window: int,
    *,
    source: str = "",
    ends: Sequence[int] | None = None,
    options: Mapping[str, Any] | None = None,
    truth: Truth | None = None,
) -> Data:
    """Splits in time order, each cut into windows `(N, C, window)` of its own.

    Windows to train on start at every step. Those held out stand side by side where there are
    enough of them, and else overlap.

    Args:
        ends: steps at which training, validation and testing end; None: 60 %, 80 % and all of them.
    """
    steps, source = series.values.shape[1], source or name
    ends = ends or [*(int(share * steps) for share in SHARES), steps]
    parts = dict(zip(("train", "validation", "test"), zip([0, *ends[:-1]], ends, strict=True), strict=True))
    shortest = min(stop - start for start, stop in parts.values())
    if window < 2 or shortest <= window:
        raise PangenError(
            f"{source} holds {steps} steps, {shortest} of them for testing, and windows of {window} do not fit: take "
            f"one of 2 to {max(shortest - 1, 2)}, or a longer series."
        )
    train = series.values[:, : ends[0]]
    for column, values in zip(series.columns, train, strict=True):
        if values.min() == values.max():
            raise PangenError(
                f"{source}: column '{column}' is constant in training, at {float(values[0]):g}; choose another."
            )
    notes, splits = [], {}
    for split, (start, stop) in parts.items():
        room = stop - start - window
        if split == "train":
            apart = max(room // MOST, 1)
        else:
            apart = max(min(window, room // (HELD_OUT - 1)), 1)
            if apart < window:
                notes.append(
                    f"windows of {split} overlap: errors of means over them are larger than they look."
                )
        cut = series.values[:, start:stop].unfold(1, window, apart)
        splits[split] = Split(cut.movedim(0, 1))
    return Data(
        name, "series", **as_splits(splits), window=window, truth=truth, series=replace(series, ends=tuple(ends)), options=dict(options or {}), notes=tuple(notes)
    )  # fmt: skip


def _clock(path: Path, name: str, cells: list[str], lines: list[int]) -> Clock | None:
    """The clock that a first column shows: times, or numbers at equal distances; None: it holds values."""
    if is_number(cells[0]):
        if not all(map(is_number, cells)):
            return None
        steps = np.diff(np.array(cells, dtype=np.float64))
        even = len(steps) > 0 and steps[0] != 0 and np.allclose(steps, steps[0], rtol=1e-9, atol=0)
        return Clock(cells[0], float(steps[0])) if even else None
    times = []
    for cell, line in zip(cells, lines, strict=True):
        try:
            times.append(np.datetime64(cell.replace("/", "-").removesuffix("Z"), "s"))
        except ValueError:
            raise PangenError(
                f"{path}: column '{name}' holds '{cell[:40]}' in line {line}, which is no time; write times as "
                "2016-07-01 00:00:00."
            ) from None
    stamps = np.array(times)
    steps = np.diff(stamps).astype(np.int64)
    step = _usual(steps)
    months = stamps.astype("datetime64[M]")
    if step > 27 * 86400 and len(set(stamps - months)) == 1:
        steps = np.diff(months).astype(np.int64)
        step = _usual(steps)
        clock = Clock(str(stamps[0]), step, "M")
    else:
        clock = Clock(str(stamps[0]), step, "s")
    odd = np.flatnonzero(steps != step)
    if step <= 0 or len(odd):
        at = lines[int(odd[0]) + 1] if len(odd) else lines[1]
        raise PangenError(
            f"{path}: column '{name}' does not go on evenly in line {at}, after '{cells[lines.index(at) - 1]}' comes "
            f"'{cells[lines.index(at)]}'; add what is missing, or leave the column out to count rows."
        )
    return clock


def _usual(steps: np.ndarray) -> int:
    """The most frequent of them; of none 1."""
    values, counts = np.unique(steps, return_counts=True)
    return int(values[counts.argmax()]) if len(values) else 1
