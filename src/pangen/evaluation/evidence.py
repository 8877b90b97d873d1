"""The samples nearest to training examples, set beside these: what a share of near-copies rests on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pangen.data.dataset import Data, written
from pangen.evaluation.images import grid, png
from pangen.evaluation.memorisation import CLOSEST, Nearest
from pangen.evaluation.sound import spectrograms
from pangen.files import write_bytes

EVIDENCE = "closest.png"
"""In a run's folder."""
WORDS = 8
"""Values of a vector that are written out, at most."""
LETTERS = 200


def evidence(data: Data, x: Any, train: Any, found: Nearest, picture: Path | None) -> list[dict[str, Any]]:
    """Of the `CLOSEST` samples: their ratio, and where they and the nearest training examples are.

    Texts and short vectors are written out. Images and clips go into `picture`, a sample in each
    column above its training examples.
    """
    order = found.ratio.argsort(stable=True)[:CLOSEST]
    rows = []
    for i in order.tolist():
        near = found.index[i].tolist()
        row: dict[str, Any] = {"sample": i, "ratio": float(found.ratio[i])}
        row["training"] = data.train.places(near)
        if data.modality in ("text", "table") or (data.modality == "vector" and data.size <= WORDS):
            row["shown"] = [_written(data, x[i]), *(_written(data, train[j]) for j in near)]
        rows.append(row)
    if picture is not None and data.modality in ("image", "sound"):
        below = found.index[order].T.flatten().tolist()
        shown = [*(x[i] for i in order.tolist()), *(train[j] for j in below)]
        columns = len(order)
        sheet = (
            grid(torch.stack(shown), data.levels, columns=columns)
            if data.modality == "image"
            else spectrograms(shown, data.rate, columns=columns)
        )
        write_bytes(picture, png(sheet))
    return rows


def _written(data: Data, value: str | Tensor) -> str:
    if data.table and isinstance(value, Tensor):
        value = ", ".join(written(data.table, value[None])[0])
    if isinstance(value, str):
        return value if len(value) <= LETTERS else value[:LETTERS] + "…"
    return ", ".join(f"{v:.4g}" for v in value.flatten().tolist())
