"""What comparisons have measured: rows that come with the package, and those of the user's own ledgers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from pangen.data.dataset import Data
from pangen.evaluation.intervals import seeds_interval
from pangen.evaluation.ledger import LEDGER, read_ledger

SHIPPED = Path(__file__).with_name("evidence.jsonl")
SIZES, COUNTS = 4.0, 10.0
"""How many times as large, or as many, examples may be and still speak of each other."""


@dataclass(frozen=True)
class Row:
    """One model on one data set: a mean over seeds, and where it was measured."""

    data: str
    fingerprint: str
    model: str
    measure: str
    values: tuple[float, ...]
    """One a seed."""
    budget: float | None
    """Seconds of training; None: measured by steps."""
    source: str
    """Where the row stands, and the command that gives it again."""
    modality: str = ""
    shape: tuple[int, ...] = ()
    levels: int = 0
    train: int = 0

    @property
    def mean(self) -> float:
        return fmean(self.values)

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % over seeds; None of a single one."""
        found = seeds_interval(self.values)
        return None if found is None else (found[0], found[1])


def shipped() -> list[Row]:
    """The rows of the package."""
    rows = []
    for i, line in enumerate(SHIPPED.read_text().splitlines(), 1):
        fields = json.loads(line)
        command, date = fields.pop("command"), fields.pop("date")
        for name in ("values", "shape"):
            fields[name] = tuple(fields[name])
        rows.append(Row(**fields, source=f"evidence line {i}: {command} ({date})"))
    return rows


def measured_here(paths: Iterable[Path]) -> list[Row]:
    """The rows of ledgers, or of folders of comparisons, one for each model with its own settings, measure and budget."""
    rows = []
    for path in paths:
        groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for line in read_ledger(path):
            if "value" in line and line["family"] != "yardstick" and "settings" not in line:
                key = (line["fingerprint"], line["model"], line["measure"], line["budget"], line["steps"])
                groups.setdefault(key, []).append(line)
        file = path / LEDGER if path.is_dir() else path
        for lines in groups.values():
            first, values = lines[0], tuple(line["value"] for line in lines)
            rows.append(
                Row(
                    data=first["data"], fingerprint=first["fingerprint"], model=first["model"],
                    measure=first["measure"], values=values, budget=first["budget"],
                    source=f"{file}: {first['command']} ({first['date'][:10]})",
                )
            )  # fmt: skip
    return rows


def similar(row: Row, data: Data) -> bool:
    """Whether what was measured on other data may speak of this: alike in kind, and in size roughly."""
    if row.modality != data.modality or bool(row.levels) != bool(data.levels):
        return False
    if (row.levels == 2) != (data.levels == 2):
        return False
    size, count = math.prod(row.shape) / data.size, row.train / max(len(data.train), 1)
    return 1 / SIZES <= size <= SIZES and 1 / COUNTS <= count <= COUNTS
