"""What a data set turns out to hold, as plain values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pangen.codecs import accepts
from pangen.data.dataset import Column, Data
from pangen.data.load import load_data
from pangen.data.trouble import find_trouble
from pangen.registry import entries

MOST = 8
"""Words of a column that are written out."""


def describe_data(name: str | Path | Data, **options: Any) -> dict[str, Any]:
    """Modality, shape, splits, labels, range, truth, notes, trouble, and the models that accept it: JSON-able."""
    data = name if isinstance(name, Data) else load_data(name, **options)
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    trouble = find_trouble(data)
    facts: dict[str, Any] = {
        "name": data.name,
        "modality": data.modality,
        "shape": list(data.shape),
        "levels": data.levels,
        "splits": {split: len(part) for split, part in splits.items()},
        "labels": _label_counts(data),
        "options": dict(data.options),
        "fingerprint": data.fingerprint,
        "notes": list(data.notes),
        "trouble": dict(trouble.counts),
        "warnings": list(trouble.warnings),
        "models": [entry.name for entry in entries().values() if accepts(entry, data)],
    }
    parts = [part.in_memory().x for part in splits.values()]
    if data.captioned:
        captions = [text for part in splits.values() for text in part.y or ()]
        facts["captions"] = f"{len(set(captions))} different ones, such as '{captions[0]}'"
    if data.modality == "text":
        facts |= _text_facts(data, parts)
    elif data.modality == "sound":
        facts |= _sound_facts(data, parts)
    elif data.table:
        cells = torch.cat(parts).T
        facts["columns"] = {
            column.name: _cells(column, x) for column, x in zip(data.table, cells, strict=True)
        }
    else:
        facts["range"] = [min(_number(x.min()) for x in parts), max(_number(x.max()) for x in parts)]
    if data.series is not None:
        steps, clock = data.series.values.shape[1], data.series.clock
        facts["columns"] = list(data.series.columns)
        facts["steps"] = f"{steps}, from {clock.at(0)} to {clock.at(steps - 1)}"
    if data.train.redraw:
        facts["range"] = [0, 1]
        facts["redraw"] = "each reading of train draws its pixels anew"
    if data.truth is not None:
        facts["entropy"] = float(data.truth.entropy)
    return facts


def _label_counts(data: Data) -> dict[str, int]:
    if not data.labels:
        return {}
    ys = [part.y for part in (data.train, data.validation, data.test) if isinstance(part.y, Tensor)]
    counts = torch.bincount(torch.cat(ys), minlength=len(data.labels))
    return dict(zip(data.labels, counts.tolist(), strict=True))


def _cells(column: Column, cells: Tensor) -> str:
    """What a table's column holds, in a line."""
    seen = cells[~cells.isnan()]
    if column.words or column.points:
        values = column.words or [f"{point:g}" for point in column.points]
        shown = ", ".join(values[:MOST]) + (", ..." if len(values) > MOST else "")
        what = f"{len(values)} {'words' if column.words else 'values'}: {shown}"
    else:
        what = f"numbers from {_number(seen.min()):g} to {_number(seen.max()):g}"
    missing = 100 * (1 - len(seen) / len(cells))
    return what + (f"; {missing:.1f} % missing" if missing else "")


def _text_facts(data: Data, parts: list[tuple[str, ...]]) -> dict[str, Any]:
    lengths = [len(text) for part in parts for text in part]
    characters = set("".join(parts[0]))
    sources = [len(text) for split in (data.train, data.validation, data.test) for text in split.y or ()]
    return {
        **({"source lengths": [min(sources), max(sources)]} if data.pairs else {}),
        "lengths": [min(lengths), max(lengths)],
        "characters": sum(lengths),
        "alphabet": len(data.alphabet) if data.alphabet else len(characters),
    }


def _sound_facts(data: Data, parts: list[tuple[Tensor, ...]]) -> dict[str, Any]:
    lengths = [len(clip) for part in parts for clip in part]
    return {
        "rate": data.rate,
        "seconds": [min(lengths) / data.rate, max(lengths) / data.rate],
        "samples": sum(lengths),
        "loudest": max(_number(clip.abs().max()) for part in parts for clip in part),
    }


def _number(value: Tensor) -> int | float:
    return value.item()
