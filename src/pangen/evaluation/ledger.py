"""The ledger: every number of a comparison as one JSON line that says how to get it again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pangen.errors import PangenError
from pangen.evaluation.likelihood import bits_per_dim
from pangen.evaluation.summary import MEASURES, entry_of, number
from pangen.files import write_text

LEDGER = "ledger.jsonl"
SAME = ("fingerprint", "model", "seed", "measure", "training_steps", "protocol")
"""What two lines agree in that are two measurements of one number."""
KEPT = ("interval", "stderr", "kind", "features", "by", "samples", "reference", "reference_hash", "examples")
"""What a line says of its value beside it."""
COSTS = ("train_seconds", "sample_seconds_per_1000", "peak_megabytes")
"""Measures that another machine need not give again."""


def entries_of(result: dict[str, Any]) -> list[dict[str, Any]]:
    """What `compare` returned, a line for each model, seed and measure; the yardsticks' too, and failures."""
    facts = {
        "data": result["data"],
        "modality": result["facts"]["modality"],
        "size": result["facts"]["splits"],
        "fingerprint": result["facts"]["fingerprint"],
        "steps": result["steps"],
        "protocol": result["protocol"],
        "machine": result["machine"],
        "command": result["command"],
        "date": result["date"],
    }
    lines = []
    for row in (*result["rows"], *result["baselines"]):
        who = {"model": row["model"], "family": row.get("family", "yardstick"), "seed": row.get("seed")}
        who["budget"] = result.get("budgets", {}).get(row["model"], result["budget"])
        if changed := result.get("settings", {}).get(row["model"]):
            who["settings"] = changed
        if "failed" in row:
            lines.append({**who, "failed": row["failed"], **facts})
            continue
        who["training_steps"] = row.get("training", {}).get("steps")
        for measure in MEASURES:
            if (value := number(row, measure)) is not None:
                lines.append({**who, "measure": measure, "value": value, **_about(row, measure), **facts})
    return lines


def _about(row: dict[str, Any], measure: str) -> dict[str, Any]:
    """Interval or standard error, kind, features and counts."""
    if MEASURES[measure][0] == "cost":
        return {}
    found = entry_of(row, measure)
    about = {key: found[key] for key in KEPT if key in found}
    if measure == "bits_per_dim":
        about["stderr"] = abs(bits_per_dim(found["stderr"], found["dims"]))
    return about


def write_ledger(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    """One JSON object a line."""
    write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def read_ledger(path: Path) -> list[dict[str, Any]]:
    """The lines of a ledger, or of that in a comparison's folder."""
    path = path / LEDGER if path.is_dir() else path
    try:
        lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    except FileNotFoundError:
        raise PangenError(f"{path} is missing; name the folder of a comparison, or its {LEDGER}.") from None
    except (OSError, ValueError) as error:
        raise PangenError(f"{path} is no ledger ({error}); name the folder of a comparison.") from None
    if not all(isinstance(line, dict) and "model" in line and "fingerprint" in line for line in lines):
        raise PangenError(f"{path} is no ledger: a line of it names no model or no data.")
    return lines


def merged(paths: Iterable[Path]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """All different lines of several ledgers, and how far numbers that were measured more than once agree.

    The second is `{lines, repeated, identical, within, apart}`: of the numbers that several ledgers
    have, how many are the same to the last digit, how many inside each other's interval, and which
    are not.
    """
    every = {json.dumps(line, sort_keys=True): line for path in paths for line in read_ledger(path)}
    groups: dict[str, list[dict[str, Any]]] = {}
    for line in every.values():
        if "value" in line and line["measure"] not in COSTS:
            groups.setdefault(json.dumps([line[key] for key in SAME], sort_keys=True), []).append(line)
    repeated = [lines for lines in groups.values() if len(lines) > 1]
    verdicts = [
        (lines, min((agree(lines[0], line) for line in lines[1:]), key=ORDER.index)) for lines in repeated
    ]
    counts = {word: sum(found == word for _, found in verdicts) for word in ORDER}
    return list(every.values()), {
        "lines": len(every),
        "repeated": len(repeated),
        "identical": counts["identical"],
        "within": counts["within"],
        "apart": [
            {
                "data": lines[0]["data"],
                "model": lines[0]["model"],
                "seed": lines[0]["seed"],
                "measure": lines[0]["measure"],
                "values": [line["value"] for line in lines],
            }
            for lines, found in verdicts
            if found == "apart"
        ],
    }


ORDER = ("apart", "within", "identical")


def agree(one: dict[str, Any], two: dict[str, Any]) -> str:
    """Of two measurements of a number: "identical", "within" the interval of either, or "apart".

    A number without an interval is within where it differs by rounding alone.
    """
    a, b = one["value"], two["value"]
    if a == b:
        return "identical"
    for line, other in ((one, b), (two, a)):
        if "interval" in line:
            low, high = line["interval"]
        else:
            reach = 1.96 * line.get("stderr", 0.0) + 1e-6 * abs(line["value"])
            low, high = line["value"] - reach, line["value"] + reach
        if low <= other <= high:
            return "within"
    return "apart"
