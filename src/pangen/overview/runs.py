"""Run folders and how they stand, read without loading a model: no torch is needed."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pangen.errors import PangenError
from pangen.files import is_busy, read_object
from pangen.folder import BEFORE, CARD, CHECKPOINT, CODEC, METRICS, PARTS, PARTS_BEFORE, RECIPE, WEIGHTS

State = Literal["finished", "training", "interrupted", "killed", "failed", "damaged"]
DEPTH = 4
"""Folders within folders that are looked into."""
VALIDATION = "validation "
STATES: dict[str, State] = {
    "complete": "finished", "interrupted": "interrupted", "failed": "failed", "running": "killed",
}  # fmt: skip
"""Of a run in which nobody is training, by what its card says."""


def runs(folder: str | Path = "runs") -> list[dict[str, Any]]:
    """The run folders in a folder and those within it, the latest first, each as one JSON-able object.

    Its fields: `run`, the path; `state`: finished, training (now), interrupted, killed (what its checkpoint holds can be
    resumed), failed or damaged; `problem`, what is wrong; `step` of `total`; `model`; `data`; `score`, the best
    on the validation split, in `measure`; `bytes`; `changed`.

    Args:
        folder: in which they are looked for.

    Raises:
        PangenError: there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise PangenError(f"there is no folder '{folder}'; `pangen fit MODEL DATA` makes runs/MODEL-DATA.")
    found = [look(path) for path in _folders(root)]
    return sorted(found, key=lambda row: row["changed"], reverse=True)


def _folders(root: Path) -> Iterator[Path]:
    for place, inner, files in os.walk(root):
        depth = len(Path(place).relative_to(root).parts)
        inner[:] = [name for name in sorted(inner) if name[0] != "." and depth < DEPTH]
        if {RECIPE, CARD, WEIGHTS, CHECKPOINT} & set(files):
            yield Path(place)


def look(run: Path) -> dict[str, Any]:
    """How one run folder stands; see `runs`."""
    sizes, times = [0], [0.0]
    for path in run.iterdir():
        with suppress(OSError):  # one that is being written gets another name meanwhile
            about = path.stat()
            if path.is_file():
                sizes.append(about.st_size)
                times.append(about.st_mtime)
    facts: dict[str, Any] = {
        "run": str(run), "state": "damaged", "problem": "", "step": 0, "total": 0, "model": "", "data": "",
        "score": None, "measure": "", "bytes": sum(sizes),
        "changed": datetime.fromtimestamp(max(times)).isoformat(" ", "seconds"),
    }  # fmt: skip
    try:
        recipe, rows = read_object(run / RECIPE), metrics(run)
        facts |= {"model": str(recipe["model"]["name"]), "data": str(recipe["data"]["name"])}
        facts |= _score(rows) | {"total": int(recipe["training"]["steps"])}
        if is_busy(run):
            card = read_object(run / CARD) if (run / CARD).exists() else {}
            steps = [int(card.get("steps", 0)), *(row["step"] for row in rows[-1:])]
            return facts | {"state": "training", "step": max(steps)}
        return facts | _at_rest(run, facts["total"])
    except PangenError as error:
        return facts | {"problem": str(error)}
    except (KeyError, TypeError, ValueError):
        return facts | {"problem": f"{run / RECIPE} is no recipe: the run is damaged."}


def _at_rest(run: Path, total: int) -> dict[str, Any]:
    """State and steps of a run in which nobody is training."""
    if not (run / CARD).exists() and not (run / WEIGHTS).exists():
        return {"state": "killed", "problem": "it ended before its first checkpoint."}
    card = read_object(run / CARD)
    read_object(run / CODEC)
    check_whole(run / WEIGHTS)
    steps = int(card["steps"])
    if card["state"] not in STATES:
        raise PangenError(f"{run / CARD} names no state: the run is damaged.")
    state = STATES[card["state"]]
    if state != "finished" and not any(
        (run / name).exists() for name in (CHECKPOINT, BEFORE, PARTS, PARTS_BEFORE)
    ):
        return {"state": state, "step": steps, "problem": "it has no checkpoint to go on from."}
    return {"state": state, "step": steps, "total": total if card["total_steps"] else 0}


def metrics(run: Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics, without one that is still being written."""
    try:
        lines = (run / METRICS).read_text().splitlines()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise PangenError(f"{run / METRICS} cannot be read ({error}): the run is damaged.") from None
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows


def curve(rows: list[dict[str, Any]], name: str) -> list[tuple[int, float]]:
    """Step and value of a number among metrics, where it is finite."""
    return [
        (row["step"], row[name])
        for row in rows
        if isinstance(row.get(name), int | float) and math.isfinite(row[name])
    ]


def measure_of(rows: list[dict[str, Any]]) -> str:
    """What validation scores are called among metrics; empty where there are none."""
    names = (name for row in rows for name in row if name.startswith(VALIDATION))
    return next(names, "")


def _score(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The lowest validation score."""
    name = measure_of(rows)
    values = [value for _, value in curve(rows, name)]
    return {"score": min(values, default=None), "measure": name.removeprefix(VALIDATION)}


def check_whole(path: Path) -> None:
    """Raise where a file of tensors is missing or shorter than it says; its content is not read."""
    if not path.is_file():
        raise PangenError(f"{path} is missing: the folder is no complete run; train it again or resume it.")
    size = path.stat().st_size
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, size)))
        ends = [part["data_offsets"][1] for name, part in header.items() if name != "__metadata__"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise PangenError(f"{path} is no file of tensors: the run is damaged.") from None
    if size != 8 + length + max(ends, default=0):
        raise PangenError(f"{path} has {size} bytes and should have others: the run is damaged.")
