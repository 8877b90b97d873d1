"""A numeric table in a .csv file."""

from __future__ import annotations

import csv
import io
import math
import re
from pathlib import Path

import numpy as np

from pangen.data.arrays import float32
from pangen.data.assemble import Examples
from pangen.data.text import read_characters
from pangen.errors import PangenError, unknown

GAPS = frozenset({"", "?", "na", "n/a", "nan", "null", "none", "-"})
"""Cells that say, in lower case, that a value is missing."""
_AS_SERIES = ", or read the table as a series with --series --window N"
MOST_CLASSES = 100
"""A target with more values than this is no label."""


def read_csv(path: Path, *, target: str | int | None) -> Examples:
    """Every column a coordinate, but the target, whose values are the labels."""
    header, rows, lines = read_rows(path)
    names = header or [str(i) for i in range(len(rows[0]))]
    chosen = None if target is None else find_column(path, target, names)
    columns = [i for i in range(len(names)) if i != chosen]
    if not columns:
        raise PangenError(f"{path} has no column beside its target '{names[chosen or 0]}'; add some.")
    x = np.empty((len(rows), len(columns)))
    for j, i in enumerate(columns):
        x[:, j] = column_values(path, names[i], [row[i] for row in rows], lines, target is None)
    y = None if chosen is None else _labels(path, names[chosen], [row[chosen] for row in rows], lines)
    return Examples("vector", float32(x, str(path)), y, tuple(names[i] for i in columns))


def read_rows(path: Path) -> tuple[list[str] | None, list[list[str]], list[int]]:
    """The header if there is one, the rows of stripped cells, and the line in the file of each."""
    text = read_characters(path)
    first = text.partition("\n")[0]
    delimiter = next((d for d in ",;\t" if d in first), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows, lines = [], []
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append([cell.strip() for cell in row])
                lines.append(reader.line_num)
    except csv.Error as error:
        raise PangenError(f"{path} is no table: {error} in line {reader.line_num}.") from None
    header = None
    if rows and not any(is_number(cell) for cell in rows[0]):
        header, rows, lines = rows[0], rows[1:], lines[1:]
    if not rows:
        raise PangenError(f"{path} holds no rows of numbers; give a table with a row for each example.")
    width = len(header or rows[0])
    for row, line in zip(rows, lines, strict=True):
        if len(row) != width:
            raise PangenError(
                f"{path} has {len(row)} cells in line {line} and {width} in its first; mend that line."
            )
    return header, rows, lines


def is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _is_time(cell: str) -> bool:
    return re.match(r"\d{4}[-/]\d\d?([-/]\d\d?)?", cell) is not None


def find_column(path: Path, target: str | int, names: list[str]) -> int:
    """The column of that name, or at that index from 0, from the end if negative."""
    found = [i for i, name in enumerate(names) if name == str(target)]
    if len(found) > 1:
        raise PangenError(f"{path} has {len(found)} columns named '{target}'; give the index of one.")
    if found:
        return found[0]
    try:
        index = int(target)
    except ValueError:
        raise unknown(f"column of {path}", str(target), names) from None
    if not -len(names) <= index < len(names):
        raise PangenError(f"{path} has {len(names)} columns and no column {index}; count from 0.")
    return index % len(names)


def column_values(
    path: Path, name: str, cells: list[str], lines: list[int], may_be_target: bool
) -> list[float]:
    found = []
    for cell, line in zip(cells, lines, strict=True):
        if cell.lower() in GAPS:
            raise _gap(path, name, line)
        try:
            value = float(cell)
        except ValueError:
            label = may_be_target and len(set(cells)) <= MOST_CLASSES
            hint = ", or make it the label with --target" if label else ""
            hint += _AS_SERIES if _is_time(cell) else ""
            raise PangenError(
                f"{path}: column '{name}' holds text, '{cell[:40]}' in line {line}; leave the column out{hint}."
            ) from None
        if not math.isfinite(value):
            raise PangenError(
                f"{path}: column '{name}' holds an infinite value in line {line}; remove or replace it."
            )
        found.append(value)
    return found


def _gap(path: Path, name: str, line: int) -> PangenError:
    return PangenError(
        f"{path}: column '{name}' has a gap in line {line}; fill it in or remove the row, "
        "for gaps cannot be modelled yet."
    )


def _labels(path: Path, name: str, cells: list[str], lines: list[int]) -> np.ndarray:
    """Whole numbers if all are, else strings."""
    for cell, line in zip(cells, lines, strict=True):
        if cell.lower() in GAPS:
            raise _gap(path, name, line)
    numbers = [float(cell) if is_number(cell) else None for cell in cells]
    whole = all(v is not None and math.isfinite(v) and v == math.floor(v) for v in numbers)
    if None not in numbers and not whole:
        raise PangenError(
            f"{path}: the target '{name}' holds numbers that are not whole, and a label is a word or a whole "
            "number: leave out --target, or group the numbers."
        )
    if len(set(cells)) > MOST_CLASSES:
        raise PangenError(
            f"{path}: the target '{name}' takes {len(set(cells))} values, and a label takes at most "
            f"{MOST_CLASSES}: leave out --target, or group them."
        )
    return np.array([int(v) for v in numbers if v is not None]) if whole else np.array(cells)
