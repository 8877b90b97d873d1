"""The comparison as a table of short strings, for the terminal and the report alike."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from pangen.data.dataset import REAL
from pangen.evaluation.summary import MEASURES, number

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
    found.append(Column("rank nats", "rank"))
    if facts["entropy"] is not None:
        found += [Column("regret", "regret, nats", "↓"), Column("apart", "from the law, z", "↓")]
    found += [
        Column("frechet", "Fréchet", "↓"),
        Column("rank frechet", "rank"),
        Column("precision", "precision", "↑"),
        Column("recall", "recall", "↑"),
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
        Column("peak_megabytes", "peak MB"),
    ]


TELLING = (
    "bits_per_dim", "nats", "regret", "frechet", "coverage", "rank nats", "rank frechet", "accuracy", "train_seconds",
    "sample_seconds_per_1000", "near_copies", "apart", "precision", "recall", "evaluations", "peak_megabytes",
)  # fmt: skip
"""Measures, those that are missed most where there is no room for all first."""


def by_need(result: dict[str, Any]) -> list[int]:
    """The columns of `table_rows`, those that are missed most first: which model, how many of its seeds, numbers, its family."""
    start = 3 if result["seeds"] > 1 else 2
    measures = [column.measure for column in columns(result)]
    numbers = sorted(range(len(measures)), key=lambda i: TELLING.index(measures[i]))
    return [0, *range(2, start), *(start + i for i in numbers), 1]


FURTHER = (
    Column("frechet_extrapolated", "Fréchet, N → ∞", "↓"),
    Column("kernel_distance", "kernel distance", "↓"),
    Column("mmd", "MMD", "↓"),
    Column("sliced_wasserstein", "sliced Wasserstein", "↓"),
    Column("two_sample", "told from data", "→ .5"),
    Column("density", "density", "↑"),
    Column("membership", "members by samples", "→ .5"),
    Column("membership_by_likelihood", "members by log p", "→ .5"),
)
"""Columns of the report's second table."""


def table_rows(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of what `compare` returned, one a model, or one a yardstick.

    With several seeds a number is a mean, and ± half of its 95 % interval over seeds. The row of a
    model that always failed has its reason in the cell after the family and, of several, seeds.
    """
    shown, many = columns(result), result["seeds"] > 1
    header = [
        "model", "family", *(["seeds"] if many else []), *(f"{c.heading} {c.better}".strip() for c in shown),
    ]  # fmt: skip
    rows = []
    placed = with_ranks(result)
    for entry in result["summary"]:
        of = [row for row in placed if row["model"] == entry["model"]]
        good = [row for row in of if "failed" not in row]
        head = [entry["model"], entry["family"]]
        head += [f"{len(good)} of {len(of)}"] if many else []
        if not good:
            rows.append([*head, f"failed: {of[0]['failed']}", *[""] * (len(shown) - 1)])
        elif many:
            rows.append([*head, *(mean_cell(entry, good[0], column) for column in shown)])
        else:
            rows.append([*head, *(cell(good[0], column) for column in shown)])
    for row in result["baselines"]:
        blank = [""] if many else []
        rows.append([row["model"], "yardstick", *blank, *(cell(row, column) for column in shown)])
    return header, rows


def with_ranks(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows, each with the field `rank` of its model."""
    ranks = {entry["model"]: entry["rank"] for entry in result["summary"]}
    return [{**row, "rank": ranks[row["model"]]} for row in result["rows"]]


def cell(row: dict[str, Any], column: Column) -> str:
    """One number as it is printed."""
    if column.measure == "evaluations":
        value = row.get("cost", {}).get("network_evaluations")
        return "" if value is None else str(value)
    if column.measure.startswith("rank "):
        return places(row.get("rank", {}).get(column.measure.removeprefix("rank ")))
    value = number(row, column.measure)
    if value is None:
        return _reason(row, column.measure)
    return _text(row, column.measure, value) + (f" {BEATEN}" if is_beaten(row, column.measure) else "")


def mean_cell(entry: dict[str, Any], row: dict[str, Any], column: Column) -> str:
    """A mean over seeds as it is printed; `row`: that of one of the seeds."""
    found = entry.get(column.measure)
    if found is None or found["interval"] is None:
        return cell(row, column)
    mean, half = found["mean"], found["interval"][1] - found["mean"]
    if MEASURES[column.measure][0] == "cost" or half == 0:
        return _text(row, column.measure, mean)
    sign = _sign(row, column.measure)
    if column.measure in ("accuracy", "near_copies"):
        return f"{100 * mean:.1f} ± {100 * half:.1f} %"
    if column.measure in ("bits_per_dim", "nats", "regret"):
        return f"{sign}{mean:.3f} ± {half:.3f}"
    return f"{mean:.3g} ± {half:.1g}"


def places(found: list[int] | None) -> str:
    """A rank interval."""
    if found is None:
        return "–"
    best, worst = found
    return str(best) if best == worst else f"{best}–{worst}"


def caught(result: dict[str, Any]) -> str:
    """How many of the cheats in the table a metric gave away, as a sentence."""
    rows = [row for row in result["baselines"] if "caught_by" in row]
    honest = [row for row in rows if "no_cheat" in row]
    free = [row["model"] for row in rows if not row["caught_by"] and row not in honest]
    of = len(rows) - len(honest)
    told = f"{of - len(free)} of {of} cheats are told from real data by at least one measure"
    told += f"; not: {', '.join(free)}" if free else ""
    told += "".join(f"; {row['model']} are no cheat here: {row['no_cheat']}" for row in honest)
    return f"{told}."


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


def _sign(row: dict[str, Any], measure: str) -> str:
    """What stands before a log-probability that is not exact."""
    if measure not in ("bits_per_dim", "nats"):
        return ""
    return (SIGNS if measure == "bits_per_dim" else SIGNS_OF_NATS)[row["likelihood"]["kind"]]


def _text(row: dict[str, Any], measure: str, value: float) -> str:
    match measure:
        case "bits_per_dim":
            error = row["likelihood"]["stderr"] / (math.log(2) * row["likelihood"]["dims"])
            return f"{_sign(row, measure)}{value:.3f} ± {error:.3f}"
        case "nats":
            return f"{_sign(row, measure)}{value:.3f} ± {row['likelihood']['stderr']:.3f}"
        case "regret":
            return f"{SIGNS[row['regret']['kind']]}{value:.4f} ± {row['regret']['stderr']:.4f}"
        case "apart":
            return f"{value:.1f}"
        case "accuracy" | "near_copies":
            return f"{100 * value:.1f} %"
        case "kernel_distance" | "mmd":
            return f"{value:.4f}"
        case "frechet" | "frechet_extrapolated" | "sliced_wasserstein":
            return f"{value:.3g}"
        case "train_seconds" | "sample_seconds_per_1000":
            return f"{value:.2g}" if value < 10 else f"{value:.0f}"
        case "peak_megabytes":
            return f"{value:.0f}"
        case _:
            return f"{value:.2f}"


def _reason(row: dict[str, Any], measure: str) -> str:
    if measure == "accuracy" and row.get("classification", {}).get("none") == "not conditional":
        return "not conditional"
    if measure in ("bits_per_dim", "nats") and "none" in row.get("likelihood", {}):
        return "none"
    return "–"
