"""What `pangen advise` rests on: `src/pangen/advice/evidence.jsonl`, from results and from ledgers of comparisons.

    python benchmarks/evidence.py
    python benchmarks/evidence.py runs/compare-digits runs/compare-gym/*/

A line is one model on one data set: a number for each seed, and the command that gives it again. Data that are looked for and
not found are left out, as are results of models with other settings than their own.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from ledger import RESULTS

import pangen
from pangen.advice.evidence import SHIPPED, measured_here
from pangen.data import Data
from pangen.errors import PangenError
from pangen.registry import entries

RENAMED = {
    "train_on_synthetic_accuracy": "accuracy",
    "mean log p_true - log p_model, nats, 10k fresh points": "regret",
    "mean log p_true - log p_model, nats, 10k held-out points": "regret",
    "KL(data || model), nats, by quadrature": "regret",
    "test bits/dim": "bits_per_dim",
    "test bits/dim, at most": "bits_per_dim",
}
"""Metrics of benchmarks that are measures of comparisons."""
KEPT = {"bits_per_dim", "frechet", "accuracy", "regret", "nats"}


@cache
def facts(name: str) -> dict[str, Any] | None:
    """What a data set is; None where it is not here."""
    try:
        data: Data = pangen.load_data(name)
    except PangenError:
        return None
    return {
        "data": name, "fingerprint": data.fingerprint, "modality": data.modality, "shape": list(data.shape),
        "levels": data.levels, "train": len(data.train),
    }  # fmt: skip


def of_results() -> Iterator[dict[str, Any]]:
    """Results of benchmarks on data that models were compared on."""
    for path in sorted(RESULTS.glob("*.jsonl")):
        for row in map(json.loads, path.read_text().splitlines()):
            name = row.get("data", row["benchmark"])
            about = facts(name) if isinstance(name, str) else None
            if about is None or row.get("model") not in entries() or row.get("changed"):
                continue
            measure, values = RENAMED.get(row["metric"], row["metric"]), row["values"]
            if measure.startswith("test nats"):
                measure = "bits_per_dim"
                values = [v / (math.log(2) * math.prod(about["shape"])) for v in values]
            if measure in KEPT:
                yield {
                    **about, "model": row["model"], "measure": measure, "values": [round(v, 5) for v in values],
                    "budget": row.get("budget"), "command": row["command"], "date": row["date"],
                }  # fmt: skip


def of_ledgers(paths: list[Path]) -> Iterator[dict[str, Any]]:
    """Comparisons."""
    for row in measured_here(paths):
        about = facts(row.data)
        if about is None or about["fingerprint"] != row.fingerprint or row.measure not in KEPT:
            continue
        command, date = row.source.partition(": ")[2].removesuffix(")").rsplit(" (", 1)
        yield {
            **about, "model": row.model, "measure": row.measure, "values": [round(v, 5) for v in row.values],
            "budget": row.budget, "command": command, "date": date,
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ledgers", nargs="*", type=Path, metavar="DIR")
    lines: dict[str, dict[str, Any]] = {}
    for row in (*of_results(), *of_ledgers(parser.parse_args().ledgers)):
        key = json.dumps([row["fingerprint"], row["model"], row["measure"], row["budget"]])
        if key not in lines or len(row["values"]) >= len(
            lines[key]["values"]
        ):  # the later, unless it has fewer seeds
            lines[key] = row
    SHIPPED.write_text("".join(json.dumps(row) + "\n" for row in lines.values()))
    print(f"{SHIPPED}: {len(lines)} lines on {len({row['data'] for row in lines.values()})} data sets")


if __name__ == "__main__":
    main()
