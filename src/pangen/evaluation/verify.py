"""`pangen verify`: trains and measures rows of a comparison again, and says which of its numbers hold."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pangen.data import load_data
from pangen.data.dataset import Data
from pangen.errors import PangenError, unknown
from pangen.evaluation.comparison import REPORT, RESULT, RUNS, is_complete, machine, retrain
from pangen.evaluation.judge import Judge
from pangen.evaluation.ledger import COSTS, LEDGER, ORDER, agree, entries_of, merged, write_ledger
from pangen.evaluation.stage import Report, Stage
from pangen.files import make_folder, read_json

AGAIN = "verified.jsonl"
"""In the comparison's folder: what was measured anew, as lines of a ledger."""


def verify(
    path: str | Path,
    rows: Sequence[str] | None = None,
    *,
    data: Data | None = None,
    device: str = "auto",
    report: Report | None = None,
) -> dict[str, Any]:
    """Train rows of a comparison again by their recorded steps, measure them, and set both beside each other.

    Args:
        path: the folder of a comparison, or a file in it, such as its report.
        rows: models ("vae"), trainings ("vae-1") or yardsticks ("noise"); None: everything that did not fail.
        data: what it was trained on; None: the recorded data, loaded again.
        device: auto, cpu, cuda or mps.
        report: called with a `Stage` after every step and at every stage.

    Returns:
        `{data, rows, holds, changed, ...}`: of each row how many numbers are identical, within the interval
        of either measurement, or apart, these one by one. `holds`: none is apart. `changed`: what is
        different in the way of measuring, such as the version.

    Raises:
        PangenError: when there is no comparison, no such row, or other data.
    """
    folder = _folder(Path(path))
    recorded = read_json(folder / RESULT)
    chosen = _chosen(recorded, rows, folder)
    data = data or load_data(recorded["data"], **recorded["facts"]["options"])
    if data.fingerprint != recorded["facts"]["fingerprint"]:
        raise PangenError(
            f"'{data.name}' has changed since {folder} was made (fingerprint {data.fingerprint}, then "
            f"{recorded['facts']['fingerprint']}): restore it."
        )
    tell = report or (lambda stage: None)
    tell(Stage("yardsticks", 0, len(chosen), "evaluating"))
    judge = Judge(data, samples=recorded["protocol"]["samples"], features=recorded["features"])
    names = {row["model"] for row in recorded["baselines"]}
    yardsticks = judge.yardsticks() if any(row["model"] in names for row in chosen) else []
    again: list[dict[str, Any]] = []
    for i, row in enumerate(chosen):
        if row["model"] in names:
            again.append(next(r for r in yardsticks if r["model"] == row["model"]))
            continue
        name = _name(row)
        again.append(_measured(folder / RUNS / name, judge, device, _about(tell, name, i, len(chosen))))
    words = ["pangen", "verify", str(folder), *(["--rows", ",".join(rows)] if rows else [])]
    shared = {
        **recorded,
        "machine": machine(),
        "protocol": judge.protocol(),
        "command": shlex.join(words),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    before, now = (
        entries_of({**facts, "rows": found, "baselines": []})
        for facts, found in ((recorded, chosen), (shared, again))
    )
    write_ledger(folder / AGAIN, now)
    verdicts = [_verdict(row, before, now) for row in chosen]
    return {
        "data": recorded["data"],
        "rows": verdicts,
        "holds": not any(found["apart"] for found in verdicts),
        "changed": {
            key: [was, judge.protocol().get(key)]
            for key, was in recorded["protocol"].items()
            if was != judge.protocol().get(key)
        },
        "machine": {"then": recorded["machine"], "now": machine()},
        "ledger": str(folder / AGAIN),
    }


def merge_ledgers(paths: Sequence[str | Path], out: str | Path) -> dict[str, Any]:
    """The ledgers of several comparisons, from one machine or many, as one file: and whether they agree.

    Args:
        paths: folders of comparisons, or their `ledger.jsonl`.
        out: the file to write, or a folder for it.

    Returns:
        `{lines, repeated, identical, within, apart}`, as `ledger.merged` says.

    Raises:
        PangenError: a ledger cannot be read, or the file not be written.
    """
    lines, found = merged([Path(p) for p in paths])
    target = Path(out)
    if target.is_dir():
        target = target / LEDGER
    make_folder(target.parent)
    write_ledger(target, lines)
    return {**found, "out": str(target)}


def _folder(path: Path) -> Path:
    folder = path if path.is_dir() else path.parent
    if not path.exists() or not (folder / RESULT).exists():
        raise PangenError(
            f"{path} is no comparison; name the folder that `pangen compare -o` made, or its {REPORT}."
        )
    return folder


def _name(row: dict[str, Any]) -> str:
    return f"{row['model']}-{row['seed']}" if row.get("seed") is not None else row["model"]


def _chosen(recorded: dict[str, Any], rows: Sequence[str] | None, folder: Path) -> list[dict[str, Any]]:
    good = [row for row in (*recorded["rows"], *recorded["baselines"]) if "failed" not in row]
    if rows is not None:
        known = dict.fromkeys(name for row in good for name in (row["model"], _name(row)))
        for name in rows:
            if name not in known:
                raise unknown("row", name, known)
        good = [row for row in good if row["model"] in rows or _name(row) in rows]
    for row in good:
        path = folder / RUNS / _name(row)
        if row.get("seed") is not None and not is_complete(path):
            raise PangenError(f"{path} is missing or not complete: its row cannot be trained again.")
    return good


def _about(tell: Report, name: str, index: int, count: int) -> Callable[[Any], None]:
    return lambda what: tell(Stage(name, index, count, what))


def _measured(path: Path, judge: Judge, device: str, tell: Callable[[Any], None]) -> dict[str, Any]:
    tell("loading")
    with tempfile.TemporaryDirectory() as scratch:
        run = retrain(path, judge.data, Path(scratch) / path.name, device, tell)
        tell("evaluating")
        row = judge.judge(run)
    tell("done")
    return row


def _verdict(row: dict[str, Any], before: list[dict[str, Any]], now: list[dict[str, Any]]) -> dict[str, Any]:
    """Of one row, how many of its numbers came out again."""

    def mine(lines: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return {
            line["measure"]: line
            for line in lines
            if line["model"] == row["model"]
            and line["seed"] == row.get("seed")
            and line["measure"] not in COSTS
        }

    then, found = mine(before), mine(now)
    verdicts = {m: agree(then[m], found[m]) if m in found else "apart" for m in then}
    return {
        "row": _name(row),
        **{word: sum(v == word for v in verdicts.values()) for word in ORDER if word != "apart"},
        "apart": [
            {"measure": m, "then": then[m]["value"], "now": found.get(m, {}).get("value")}
            for m, v in verdicts.items()
            if v == "apart"
        ],
    }
