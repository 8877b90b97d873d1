"""What rows say together: which cheats were caught, which deep models simple baselines beat, means over seeds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pangen.evaluation.intervals import seeds_interval
from pangen.evaluation.yardsticks import INDEPENDENT

MEASURES: dict[str, tuple[str, ...]] = {
    "nats": ("likelihood", "nats"),
    "bits_per_dim": ("likelihood", "bits_per_dim"),
    "regret": ("regret", "nats"),
    "apart": ("against_law", "apart", "z"),
    "frechet": ("fidelity", "frechet", "value"),
    "frechet_extrapolated": ("fidelity", "frechet_extrapolated", "value"),
    "kernel_distance": ("fidelity", "kernel_distance", "value"),
    "mmd": ("fidelity", "mmd", "value"),
    "sliced_wasserstein": ("fidelity", "sliced_wasserstein", "value"),
    "two_sample": ("fidelity", "two_sample", "value"),
    "precision": ("fidelity", "precision", "value"),
    "recall": ("fidelity", "recall", "value"),
    "density": ("fidelity", "density", "value"),
    "coverage": ("fidelity", "coverage", "value"),
    "accuracy": ("classification", "value"),
    "near_copies": ("near_copies", "value"),
    "membership": ("membership", "value"),
    "membership_by_likelihood": ("membership_by_likelihood", "value"),
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
    "peak_megabytes": ("cost", "peak_megabytes"),
}
"""Every number of a row that is averaged over seeds, by the way to it."""
SIGNS = {
    "frechet": 1, "kernel_distance": 1, "mmd": 1, "sliced_wasserstein": 1, "two_sample": 1, "precision": -1, "recall": -1,
    "density": -1, "coverage": -1, "accuracy": -1, "near_copies": 1, "membership": 1,
}  # fmt: skip
"""Measures of samples that have an interval, and the sign of what is worse."""


def entry_of(row: dict[str, Any], measure: str) -> dict[str, Any]:
    """What a row says of a measure beside its number: interval, features, counts."""
    value: Any = row
    for key in MEASURES[measure][:-1]:
        value = value.get(key, {}) if isinstance(value, dict) else {}
    return value if isinstance(value, dict) else {}


def number(row: dict[str, Any], measure: str) -> float | None:
    """A measure of a row; None where the row has none."""
    return entry_of(row, measure).get(MEASURES[measure][-1])


def mark_caught(rows: list[dict[str, Any]], *, product: bool = False) -> list[dict[str, Any]]:
    """The yardsticks, each cheat with `caught_by`: the measures by which it is worse than the first row, real data.

    Worse is beyond the 95 % intervals of both. The second row, copies, is `no_cheat` where all real data repeats the training
    split: a law of so few examples is known by heart. So are `INDEPENDENT` values where the law is a `product` of its values'.
    """
    real, copies, *others = rows
    for row in (copies, *others):
        row["caught_by"] = [measure for measure in SIGNS if _worse(row, real, measure)]
    if number(real, "near_copies") == 1:
        copies["no_cheat"] = "unseen real data repeats the training set as well"
    for row in others:
        if product and row["model"] == INDEPENDENT:
            row["no_cheat"] = "so are those of the law"
    return rows


def _worse(row: dict[str, Any], real: dict[str, Any], measure: str) -> bool:
    mine, theirs = (entry_of(r, measure).get("interval") for r in (row, real))
    if mine is None or theirs is None:
        return False
    return mine[0] > theirs[1] if SIGNS[measure] > 0 else mine[1] < theirs[0]


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


def summarise(rows: Iterable[dict[str, Any]], ranks: dict[str, Any]) -> list[dict[str, Any]]:
    """One entry for each model: seeds that succeeded, mean and 95 % interval of every measure, and its ranks."""
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
        entry["rank"] = {measure: found[name] for measure, found in ranks.items() if name in found}
        summary.append(entry)
    return summary


def _better(row: dict[str, Any], rivals: list[dict[str, Any]], measure: str, *, sign: int) -> list[str]:
    mine = number(row, measure)
    if mine is None:
        return []
    return [r["model"] for r in rivals if (v := number(r, measure)) is not None and sign * (v - mine) > 0]
