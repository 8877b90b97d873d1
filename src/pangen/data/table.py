"""A table in a .csv file: of numbers, or of categories and numbers with gaps."""

from __future__ import annotations

import csv
import io
import math
import re
from pathlib import Path

import numpy as np

from pangen.data.arrays import float32
from pangen.data.assemble import Examples
from pangen.data.dataset import DECIMALS, Column, Modality
from pangen.data.text import read_characters
from pangen.errors import PangenError, unknown

GAPS = frozenset({"", "?", "na", "n/a", "nan", "null", "none", "-"})
"""Cells that say, in lower case, that a value is missing."""
MOST_CLASSES = 100
"""A target with more values than this is no label, and text no category."""


FEW, EACH = 20, 5
"""A number has few values if there are no more, each so many times in the mean."""


def read_csv(path: Path, *, target: str | int | None) -> Examples:
    """Every column but the target, whose values are the labels: vectors, or a table where one holds words or gaps."""
    header, rows, lines = read_rows(path)
    names = header or [str(i) for i in range(len(rows[0]))]
    chosen = None if target is None else find_column(path, target, names)
    columns = [i for i in range(len(names)) if i != chosen]
    if not columns:
        raise PangenError(f"{path} has no column beside its target '{names[chosen or 0]}'; add some.")
    y = None if chosen is None else _labels(path, names[chosen], [row[chosen] for row in rows], lines)
    x, table = np.empty((len(rows), len(columns)), np.float32), []
    for j, i in enumerate(columns):
        column, x[:, j] = _read_column(path, names[i], [row[i] for row in rows], lines)
        table.append(column)
    kind: Modality = "table" if np.isnan(x).any() or any(column.words for column in table) else "vector"
    shown = tuple(table) if kind == "table" else ()
    return Examples(kind, x, y, tuple(names[i] for i in columns), shown)


def _read_column(path: Path, name: str, cells: list[str], lines: list[int]) -> tuple[Column, np.ndarray]:
    """What a column is, and its values: numbers, or indices of words; NaN where there is a gap."""
    seen = np.array([cell.lower() not in GAPS for cell in cells])
    told = [cell for cell, is_seen in zip(cells, seen, strict=True) if is_seen]
    where = [line for line, is_seen in zip(lines, seen, strict=True) if is_seen]
    found = np.full(len(cells), np.nan, np.float32)
    if not told:
        raise PangenError(f"{path}: column '{name}' holds nothing but gaps; leave it out.")
    if any(map(is_number, told)):
        found[seen] = float32(np.array(column_values(path, name, told, where)), f"{path}: column '{name}'")
        values = np.unique(found[seen])
        few = len(values) <= min(FEW, len(told) // EACH)
        return Column(name, points=tuple(values.tolist()) if few else (), decimals=_decimals(values)), found
    words = sorted(set(told))
    if all(map(_is_time, told)):
        raise PangenError(
            f"{path}: column '{name}' holds times, '{told[0][:40]}' in line {where[0]}; leave the column out, or read the "
            "table as a series with --series --window N."
        )
    if len(words) > MOST_CLASSES:
        raise PangenError(
            f"{path}: column '{name}' holds {len(words)} different texts, '{told[0][:40]}' in line {where[0]}, and a category "
            f"has at most {MOST_CLASSES}; leave the column out."
        )
    index = {word: i for i, word in enumerate(words)}
    found[seen] = [index[word] for word in told]
    return Column(name, tuple(words)), found


def _decimals(values: np.ndarray) -> int | None:
    """As many as write all values float32 as they are; None: more than few."""
    exact = values.astype(float)
    enough = (d for d in range(DECIMALS + 1) if (exact.round(d).astype(np.float32) == values).all())
    return next(enough, None)


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


def column_values(path: Path, name: str, cells: list[str], lines: list[int]) -> list[float]:
    """The numbers in cells that hold nothing else."""
    found = []
    for cell, line in zip(cells, lines, strict=True):
        try:
            value = float(cell)
        except ValueError:
            others = "numbers and text" if any(map(is_number, cells)) else "text"
            raise PangenError(
                f"{path}: column '{name}' holds {others}, '{cell[:40]}' in line {line}; mend that line, or leave the column out."
            ) from None
        if not math.isfinite(value):
            raise PangenError(
                f"{path}: column '{name}' holds an infinite value in line {line}; remove or replace it."
            )
        found.append(value)
    return found


def _labels(path: Path, name: str, cells: list[str], lines: list[int]) -> np.ndarray:
    """Whole numbers if all are, else strings."""
    for cell, line in zip(cells, lines, strict=True):
        if cell.lower() in GAPS:
            raise PangenError(
                f"{path}: the target '{name}' has a gap in line {line}; fill it in or remove the row."
            )
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
