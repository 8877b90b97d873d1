"""What rows say together: means over seeds, and which deep models simple baselines beat."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pangen.evaluation.intervals import seeds_interval

MEASURES: dict[str, tuple[str, ...]] = {
    "nats": ("likelihood", "nats"),
    "bits_per_dim": ("likelihood", "bits_per_dim"),
    "regret": ("regret", "nats"),
    "frechet": ("fidelity", "frechet", "value"),
    "precision": ("fidelity", "precision", "value"),
    "recall": ("fidelity", "recall", "value"),
    "density": ("fidelity", "density", "value"),
    "coverage": ("fidelity", "coverage", "value"),
    "accuracy": ("classification", "value"),
    "near_copies": ("near_copies", "value"),
    "sharpness": ("sharpness", "value"),
    "reconstruction": ("latent", "reconstruction", "value"),
    "kl": ("latent", "kl", "value"),
    "active_units": ("latent", "active_units", "value"),
    "mutual_information": ("latent", "mutual_information", "value"),
    "codebook_perplexity": ("latent", "codebook", "perplexity"),
    "reconstruction_error": ("latent", "error", "value"),
    "reconstruction_sharpness": ("latent", "sharpness", "value"),
    "train_seconds": ("cost", "train_seconds"),
    "sample_seconds_per_1000": ("cost", "sample_seconds_per_1000"),
}
"""Every number of a row that is averaged over seeds, by the way to it."""


def number(row: dict[str, Any], measure: str) -> float | None:
    """A measure of a row; None where the row has none."""
    value: Any = row
    for key in MEASURES[measure]:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def mark_beaten(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, each deep model's with `beaten_by`: the classical models of its seed that do better.

    A deterministic comparison of the two numbers, without allowance for their intervals.
    """
    for row in rows:
        if "failed" in row or row["family"] == "classical":
            continue
        rivals = [r for r in rows if r.get("family") == "classical" and r["seed"] == row["seed"]]
        row["beaten_by"] = {
            "likelihood": _better(row, rivals, "nats", sign=1),
            "frechet": _better(row, rivals, "frechet", sign=-1),
        }
    return rows


def summarise(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry for each model: seeds that succeeded, and mean and 95 % interval of every measure."""
    rows = list(rows)
    summary = []
    for name in dict.fromkeys(row["model"] for row in rows):
        mine = [row for row in rows if row["model"] == name]
        good = [row for row in mine if "failed" not in row]
        entry: dict[str, Any] = {
            "model": name,
            "family": mine[0]["family"],
            "seeds": len(mine),
            "succeeded": len(good),
        }
        for measure in MEASURES:
            values = [v for row in good if (v := number(row, measure)) is not None]
            if values:
                entry[measure] = {"mean": sum(values) / len(values), "interval": seeds_interval(values)}
        summary.append(entry)
    return summary


def _better(row: dict[str, Any], rivals: list[dict[str, Any]], measure: str, *, sign: int) -> list[str]:
    mine = number(row, measure)
    if mine is None:
        return []
    return [r["model"] for r in rivals if (v := number(r, measure)) is not None and sign * (v - mine) > 0]
