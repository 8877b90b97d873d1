"""The comparison as a table of short strings, for the terminal and the report alike."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from pangen.data.dataset import REAL
from pangen.evaluation.summary import number

BEATEN = "▾"
"""Beside a deep model's number that a classical baseline betters."""
SIGNS = {"exact": "", "lower bound": "≤ ", "estimate": "≈ "}
"""Before bits/dim. A lower bound of log-probability is an upper bound of bits."""

SIGNS_OF_NATS = {"exact": "", "lower bound": "≥ ", "estimate": "≈ "}


class Column(NamedTuple):
    """A column: its measure, its heading, and which way is better."""

    measure: str
    heading: str
    better: str = ""


def columns(result: dict[str, Any]) -> list[Column]:
    """The columns that this data has."""
    facts = result["facts"]
    discrete = facts["modality"] not in REAL
    found = [Column("bits_per_dim", "bits/dim", "↓") if discrete else Column("nats", "log p, nats", "↑")]
    if facts["entropy"] is not None:
        found.append(Column("regret", "regret, nats", "↓"))
    found += [
        Column("frechet", "Fréchet", "↓"),
        Column("precision", "precision", "↑"),
        Column("recall", "recall", "↑"),
        Column("density", "density", "↑"),
        Column("coverage", "coverage", "↑"),
    ]
    if facts["labels"] and facts["modality"] != "text":
        found.append(Column("accuracy", "train on synthetic", "↑"))
    return [
        *found,
        Column("near_copies", "near copies", "↓"),
        Column("train_seconds", "train, s"),
        Column("sample_seconds_per_1000", "1000 samples, s"),
        Column("evaluations", "network calls"),
    ]


def table_rows(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of what `compare` returned; a failed model's row has its reason in the third cell."""
    shown = columns(result)
    many = result["seeds"] > 1
    header = ["model", "family", *(f"{c.heading} {c.better}".strip() for c in shown)]
    rows = []
    for row in result["rows"]:
        name = f"{row['model']} #{row['seed']}" if many else row["model"]
        if "failed" in row:
            rows.append([name, row["family"], f"failed: {row['failed']}", *[""] * (len(shown) - 1)])
        else:
            rows.append([name, row["family"], *(cell(row, column) for column in shown)])
    for row in result["baselines"]:
        rows.append([row["model"], "yardstick", *(cell(row, column) for column in shown)])
    return header, rows


def cell(row: dict[str, Any], column: Column) -> str:
    """One number as it is printed."""
    if column.measure == "evaluations":
        value = row.get("cost", {}).get("network_evaluations")
        return "" if value is None else str(value)
    value = number(row, column.measure)
    if value is None:
        return _reason(row, column.measure)
    return _text(row, column.measure, value) + (f" {BEATEN}" if is_beaten(row, column.measure) else "")


class Fact(NamedTuple):
    """What is said of a model's codes: in a word or two, and how sure that is."""

    name: str
    text: str
    detail: str


def code_facts(latent: dict[str, Any]) -> list[Fact]:
    """The field `latent` of a row, as it is printed."""
    facts = []
    for key, name, unit in (
        ("reconstruction", "reconstruction", " nats"),
        ("kl", "KL from the prior", " nats"),
        ("mutual_information", "information", " nats"),
        ("error", "round-trip error", ""),
        ("sharpness", "round-trip sharpness", ""),
    ):
        found = latent.get(key, {})
        if "value" in found:
            detail = "[{:.4g}, {:.4g}]".format(*found["interval"])
            more = found.get("by") or found.get("unit") or ""
            if "at_most" in found:
                more = f"a lower bound, which cannot exceed {found['at_most']:.2f}"
            sign = SIGNS_OF_NATS[found.get("kind", "exact")]
            facts.append(Fact(name, f"{sign}{found['value']:.4g}{unit}", detail + (more and f", {more}")))
    if found := latent.get("active_units"):
        detail = f"(variance of their mean over {found['threshold']:g})"
        facts.append(Fact("active units", f"{found['value']} of {found['of']}", detail))
    if found := latent.get("codebook"):
        text = f"perplexity {found['perplexity']:.4g} of {found['size']}"
        facts.append(Fact("codebook", text, f"({100 * found['used']:.0f} % of its entries occur)"))
    return facts


def is_beaten(row: dict[str, Any], measure: str) -> bool:
    """Whether a classical baseline does better."""
    beaten = row.get("beaten_by", {})
    kind = "likelihood" if measure in ("bits_per_dim", "nats") else measure
    return bool(beaten.get(kind))


def _text(row: dict[str, Any], measure: str, value: float) -> str:
    match measure:
        case "bits_per_dim":
            error = row["likelihood"]["stderr"] / (math.log(2) * row["likelihood"]["dims"])
            return f"{SIGNS[row['likelihood']['kind']]}{value:.3f} ± {error:.3f}"
        case "nats":
            sign = SIGNS_OF_NATS[row["likelihood"]["kind"]]
            return f"{sign}{value:.3f} ± {row['likelihood']['stderr']:.3f}"
        case "regret":
            return f"{value:.4f} ± {row['regret']['stderr']:.4f}"
        case "accuracy" | "near_copies":
            return f"{100 * value:.1f} %"
        case "frechet":
            return f"{value:.3g}"
        case "train_seconds" | "sample_seconds_per_1000":
            return f"{value:.2g}" if value < 10 else f"{value:.0f}"
        case _:
            return f"{value:.2f}"


def _reason(row: dict[str, Any], measure: str) -> str:
    if measure == "accuracy" and row.get("classification", {}).get("none") == "not conditional":
        return "not conditional"
    if measure in ("bits_per_dim", "nats") and "none" in row.get("likelihood", {}):
        return "none"
    return "–"
