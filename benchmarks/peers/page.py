"""The table of docs/cost.md: the last result of each pair, told by model, work and peer."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from typing import Any

from ledger import RESULTS

from peers.pair import OURS

FACTS = ("batch", "window", "texts", "tokens", "images", "steps", "chains", "points", "columns")
"""What tells two pairs of one model, work, peer and precision apart."""


def table() -> str:
    """In Markdown: medians of their time over ours, from the smallest to the largest of the pairs of a line."""
    lines = (RESULTS / "peers.jsonl").read_text().splitlines()
    last = {pair(row): row for row in map(json.loads, lines)}
    cells: dict[tuple[str, str, str], dict[bool, list[float]]] = defaultdict(lambda: {False: [], True: []})
    for row in last.values():
        peer = row["peer"].rpartition(" ")[0] if row["peer"][-1].isdigit() else row["peer"]
        cells[row["model"], row["work"], peer][row["precision"] == OURS].append(row["median"])
    head = (
        "| model | work | beside | equal precision | ours bfloat16, theirs float32 |\n|---|---|---|---|---|\n"
    )
    body = "".join(
        f"| {' | '.join((f'`{model}`', *where))} | {told(found[False])} | {told(found[True])} |\n"
        for (model, *where), found in sorted(cells.items())
    )
    return f"{head}{body}\n{verdict(list(last.values()))}\n"


def pair(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(key) for key in ("model", "work", "peer", "precision", *FACTS))


def told(ratios: list[float]) -> str:
    ends = list(dict.fromkeys(f"{end:.2f}" for end in (min(ratios), max(ratios)))) if ratios else []
    return " to ".join(ends)


def verdict(rows: list[dict[str, Any]]) -> str:
    """How many pairs, their median, and where Pangen is slower."""
    equal = [row for row in rows if row["precision"] != OURS]
    below = [row for row in equal if row["median"] < 1]
    sure = [row for row in below if row["median_high"] < 1]
    count = f"{len(equal)} pairs at equal precision, of a median of {statistics.median(r['median'] for r in equal):.2f}"
    where = "; ".join(sorted({f"{row['work']} of `{row['model']}`" for row in below}))
    slower = (
        f"{len(below)} below 1 ({where}), {len(sure)} of them beyond the interval"
        if below
        else "none is below 1"
    )
    return f"{count}: {slower}."
