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


COLUMNS = {
    "equal precision, two threads": lambda row: row["precision"] != OURS and row["threads"] == 2,
    "equal precision, one thread": lambda row: row["precision"] != OURS and row["threads"] == 1,
    "ours bfloat16, theirs float32, two threads": lambda row: (
        row["precision"] == OURS and row["threads"] == 2
    ),
}
"""What is told of a model, work and peer, and which results it is."""


def table() -> str:
    """In Markdown: medians of their time over ours, from the smallest to the largest of the pairs of a line."""
    lines = (RESULTS / "peers.jsonl").read_text().splitlines()
    last = {pair(row): row for row in map(json.loads, lines)}
    cells: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in last.values():
        peer = row["peer"].rpartition(" ")[0] if row["peer"][-1].isdigit() else row["peer"]
        cells[row["model"], row["work"], peer].append(row)
    head = f"| model | work | beside | {' | '.join(COLUMNS)} |\n|{'---|' * (3 + len(COLUMNS))}\n"
    body = ""
    for (model, *where), rows in sorted(cells.items()):
        ratios = (told([row["median"] for row in rows if chosen(row)]) for chosen in COLUMNS.values())
        body += f"| {' | '.join((f'`{model}`', *where, *ratios))} |\n"
    verdicts = (
        f"{name[0].upper()}{name[1:]}: {verdict([row for row in last.values() if chosen(row)])}"
        for name, chosen in COLUMNS.items()
        if name.startswith("equal")
    )
    return f"{head}{body}\n{' '.join(verdicts)}\n"


def pair(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(key) for key in ("model", "work", "peer", "precision", "threads", *FACTS))


def told(ratios: list[float]) -> str:
    ends = list(dict.fromkeys(f"{end:.2f}" for end in (min(ratios), max(ratios)))) if ratios else []
    return " to ".join(ends)


def verdict(rows: list[dict[str, Any]]) -> str:
    """How many pairs, their median, and where Pangen is slower."""
    below = [row for row in rows if row["median"] < 1]
    sure = [row for row in below if row["median_high"] < 1]
    count = f"{len(rows)} pairs, of a median of {statistics.median(row['median'] for row in rows):.2f}"
    where = "; ".join(sorted({f"{row['work']} of `{row['model']}`" for row in below}))
    slower = (
        f"{len(below)} below 1 ({where}), {len(sure)} of them beyond the interval"
        if below
        else "none is below 1"
    )
    return f"{count}: {slower}."
