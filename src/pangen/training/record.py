"""What a training writes about itself: its metrics as they come, and its card."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

import pangen
from pangen import parallel
from pangen.files import append_line, write_text
from pangen.folder import METRICS
from pangen.model import GenerativeModel
from pangen.recipes.recipe import Recipe
from pangen.registry import get
from pangen.training.loop import Best


class Metrics:
    """`metrics.jsonl`: about 200 training rows a run, and every validation."""

    def __init__(self, path: Path | None, step: int) -> None:
        """Those of a training that stands at `step`; rows of steps beyond, lost with their process, are taken back."""
        self._file = path / METRICS if path else None
        if self._file:
            text = self._file.read_text(errors="replace") if self._file.exists() else ""
            rows = text.splitlines(keepends=True)
            write_text(self._file, "".join(row for row in rows if _step(row) <= step))

    def write(self, step: int, total: int, seconds: float, numbers: dict[str, Any]) -> None:
        if self._file and is_kept(step, total, numbers):
            row = {"step": step, "seconds": round(seconds, 3), **numbers}
            append_line(self._file, json.dumps(row))


def is_kept(step: int, total: int, numbers: Mapping[str, Any]) -> bool:
    """Whether the numbers of a step are among those that are written down."""
    return step % max(total // 200, 1) == 0 or any(k.startswith(("validation", "warn")) for k in numbers)


def _step(row: str) -> float:
    """Of a row of metrics; infinite where the row was cut off."""
    try:
        return json.loads(row)["step"] if row.endswith("\n") else math.inf
    except (ValueError, KeyError, TypeError):
        return math.inf


def make_card(
    recipe: Recipe,
    model: GenerativeModel,
    state: str,
    *,
    seconds: float,
    steps: int,
    device: torch.device,
    best: Best | None = None,
    warnings: Sequence[str] = (),
    looks: dict[str, Any] | None = None,
    trouble: Sequence[str] = (),
    saving: float = 0.0,
    compiling: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What happened to a run, and what it ran on."""
    entry = get(recipe.model["name"])
    return {
        "state": state,
        "model": entry.name,
        "family": entry.family,
        "data": recipe.data.name,
        "seed": recipe.seed,
        "steps": steps,
        "total_steps": recipe.training.steps if best else 0,
        "seconds": round(seconds, 3),
        "checkpoint_seconds": round(saving, 3),
        "best": {"step": best.step, "score": best.score} if best and best.weights else None,
        "trouble": list(trouble),
        "warnings": list(warnings),
        "looks": looks,
        "compiling": compiling,
        "parameters": sum(p.numel() for p in model.parameters()),
        "device": str(device),
        "processes": parallel.size(),
        "threads": torch.get_num_threads(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "versions": {
            "pangen": pangen.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }


@cache
def processor() -> str:
    """The name of the machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
