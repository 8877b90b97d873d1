"""Results as JSON lines in `benchmarks/results/`: the value, its interval, and how to get it again."""

from __future__ import annotations

import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch

import pangen
from pangen.training.record import processor

RESULTS = Path(__file__).parent / "results"


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean over seeds and its 95 % interval by Student's t."""
    from scipy.stats import t

    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, mean, mean
    half = t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return mean, mean - half, mean + half


def verdict(metric: str, values: Mapping[str, Sequence[float]], *, less: bool) -> str:
    """Who won among models, one value a seed: within the intervals of seeds nobody does, and one seed has none."""
    sign = 1 if less else -1
    first, second = sorted(values, key=lambda name: sign * interval(values[name])[0])[:2]
    (a, *ends), (b, *others) = interval(values[first]), interval(values[second])
    apart = min(len(values[first]), len(values[second])) > 1 and max(sign * e for e in ends) < min(
        sign * e for e in others
    )
    told = f"{a:.3f} [{ends[0]:.3f}, {ends[1]:.3f}] against {b:.3f} [{others[0]:.3f}, {others[1]:.3f}]"
    return f"{metric}: {first} {'wins' if apart else 'is first, not beyond the intervals,'} over {second}, {told}."


def record(
    benchmark: str, values: Sequence[float], *, metric: str, seconds: float, **facts: Any
) -> dict[str, Any]:
    """Append one result, one value a seed, to `results/BENCHMARK.jsonl`, print it and return it."""
    mean, low, high = interval(values)
    row = {
        "benchmark": benchmark,
        **facts,
        "metric": metric,
        "mean": round(mean, 5),
        "low": round(low, 5),
        "high": round(high, 5),
        "values": [round(v, 5) for v in values],
        "seeds": len(values),
        "seconds": round(seconds, 1),
        "command": shlex.join(["python", os.path.relpath(sys.argv[0], RESULTS.parents[1]), *sys.argv[1:]]),
        **machine(),
    }
    RESULTS.mkdir(exist_ok=True)
    with open(RESULTS / f"{benchmark}.jsonl", "a") as file:
        file.write(json.dumps(row) + "\n")
    what = " ".join(str(v) for v in facts.values())
    print(
        f"{benchmark}: {what}: {metric} {mean:.4f} [{low:.4f}, {high:.4f}] over {len(values)} seeds",
        flush=True,
    )
    return row


def machine() -> dict[str, Any]:
    """Where and with what a result was measured."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else processor()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "hardware": f"{device}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "wait_policy": os.environ.get("OMP_WAIT_POLICY", "active"),
        "spins": os.environ.get("GOMP_SPINCOUNT"),
        "versions": f"pangen {pangen.__version__} ({commit.stdout.strip()}), torch {torch.__version__}, Python {platform.python_version()}",
        "date": date.today().isoformat(),
    }
