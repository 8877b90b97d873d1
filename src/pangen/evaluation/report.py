"""The report of a comparison: one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from pangen.data.dataset import REAL, Data, written
from pangen.evaluation import figures
from pangen.evaluation.evidence import EVIDENCE
from pangen.evaluation.images import grid, picture, png, scatter
from pangen.evaluation.judge import pick
from pangen.evaluation.sound import spectrograms
from pangen.evaluation.summary import MEASURES, entry_of, number
from pangen.evaluation.table import (
    BEATEN,
    FURTHER,
    Column,
    caught,
    cell,
    code_facts,
    columns,
    is_beaten,
    mean_cell,
    with_ranks,
)
from pangen.evaluation.yardsticks import REAL_ROW
from pangen.files import write_bytes, write_text
from pangen.folder import METRICS
from pangen.recipes import RULE
from pangen.registry import TAXONOMY, get
from pangen.run import load_run

SHOWN = {"image": 40, "vector": 2000, "table": 10, "series": 15, "text": 4, "sound": 16}
"""Examples in a picture."""
FEW = 10
"""Classes that each have a column in a picture, at most."""
PICTURE = "samples.png"
HEADINGS = {
    "frechet": "Fréchet", "precision": "precision", "recall": "recall", "coverage": "coverage", "accuracy": "train on synthetic",
    "near_copies": "near copies", **{column.measure: column.heading for column in FURTHER},
}  # fmt: skip


def write_report(path: Path, result: dict[str, Any], data: Data, runs: Path) -> None:
    """Write the report of what `compare` returned; `runs` holds its run folders."""
    from jinja2 import Environment, StrictUndefined

    source = files("pangen.evaluation").joinpath("templates", "report.html.j2").read_text()
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    shown = columns(result)
    page = environment.from_string(source).render(
        result=result,
        facts=result["facts"],
        tables=[_table(result, shown), _table(result, FURTHER)],
        caught=caught(result),
        cheats=[
            {"model": row["model"], "by": _caught_by(row)}
            for row in result["baselines"]
            if "caught_by" in row
        ],
        copies=_copies(result, runs),
        beaten_sign=BEATEN,
        plots=_plots(result),
        cards=[_card(row, runs, data, result["seeds"] > 1) for row in _first_seeds(result)],
        real=[
            {"title": "real data, held out", **_real(data, "test")},
            {"title": "real data, training split", **_real(data, "train")},
        ],
        codes=_codes(result),
        taxonomy=_taxonomy(result),
        rule=result.get("rule", RULE),
        families={row["family"]: figures.colour(row["family"]) for row in result["rows"]},
        models=list(dict.fromkeys(row["model"] for row in result["rows"])),
        summary=_over_seeds(result, shown) if result["seeds"] > 1 else None,
    )
    write_text(path, page)


def _caught_by(row: dict[str, Any]) -> str:
    measures = ", ".join(HEADINGS[measure] for measure in row["caught_by"])
    return measures or (f"nothing: {row['no_cheat']}" if "no_cheat" in row else "nothing")


def _real(data: Data, split: str) -> dict[str, Any]:
    """Real examples, laid out like the samples: a picture or, of text, lines."""
    x, y = pick(data.split(split), len(data.split(split)) if data.labels else SHOWN[data.modality])
    classes = len(data.labels)
    if data.modality == "image" and y is not None and 1 < classes <= FEW:
        rows = [(y == c).nonzero()[:, 0][:4] for c in range(classes)]
        if all(len(row) == 4 for row in rows):
            return _shown(x[torch.stack(rows, 1).flatten()], data, columns=classes)
    return _shown(x[: SHOWN[data.modality]], data)


def _drawn(folder: Path, data: Data) -> dict[str, Any]:
    """The first samples of a run, those of a class in a column; its picture is kept beside it."""
    kept = folder / PICTURE
    if kept.exists():
        return {"image": _embed(kept.read_bytes()), "texts": None}
    run = load_run(folder)
    classes = len(run.codec.labels)
    if data.modality == "image" and 1 < classes <= FEW:
        given = torch.arange(4 * classes) % classes
        shown = _shown(run.sample(len(given), given, seed=0), data, columns=classes)
    else:
        shown = _shown(run.sample(SHOWN[data.modality], seed=0), data)
    if shown["image"]:
        write_bytes(kept, base64.b64decode(shown["image"].partition(",")[2]))
    return shown


def _shown(x: Any, data: Data, *, columns: int = 10) -> dict[str, Any]:
    if data.modality == "text":
        return {"image": None, "texts": list(x)}
    if data.modality == "table":
        rows = [[column.name for column in data.table], *written(data.table, x)]
        return {"image": None, "texts": [", ".join(row) for row in rows]}
    if data.modality == "sound":
        return {"image": _embed(png(spectrograms(x, data.rate))), "texts": None}
    if data.modality == "image":
        return {"image": _embed(png(grid(x, data.levels, columns=columns))), "texts": None}
    if data.modality == "series":
        return {"image": _embed(png(picture(x))), "texts": None}
    if data.shape[0] < 2:
        return {"image": _embed(png(scatter(x))), "texts": None}
    train = data.train.in_memory().x[:, :2]
    low, high = train.amin(0), train.amax(0)
    room = 0.1 * (high - low).clamp(min=1e-6)
    (left, bottom), (right, top) = (low - room).tolist(), (high + room).tolist()
    return {"image": _embed(png(scatter(x, limits=(left, right, bottom, top)))), "texts": None}


def _embed(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()


def _table(result: dict[str, Any], shown: Sequence[Column]) -> dict[str, Any]:
    """The rows of all trainings, and the yardsticks."""
    return {
        "columns": shown,
        "rows": [_table_row(row, shown, result["seeds"] > 1) for row in with_ranks(result)],
        "yardsticks": [
            {
                "model": row["model"],
                "cells": [{"text": cell(row, c), "title": _title(row, c.measure, [])} for c in shown],
            }
            for row in result["baselines"]
        ],
    }


def _table_row(row: dict[str, Any], shown: Sequence[Column], many: bool) -> dict[str, Any]:
    base = {
        "model": f"{row['model']} #{row['seed']}" if many else row["model"],
        "colour": figures.colour(row["family"]),
        "failed": row.get("failed"),
    }
    if base["failed"]:
        return {**base, "cells": []}
    cells = []
    for column in shown:
        beaten = row.get("beaten_by", {}).get("likelihood" if column.measure != "frechet" else "frechet", [])
        cells.append(
            {
                "text": cell(row, column),
                "beaten": is_beaten(row, column.measure),
                "title": _title(row, column.measure, beaten if is_beaten(row, column.measure) else []),
            }
        )
    return {**base, "cells": cells}


def _over_seeds(result: dict[str, Any], shown: Sequence[Column]) -> dict[str, Any]:
    """A row for each model: how many seeds succeeded, and means."""
    rows = []
    for entry in result["summary"]:
        good = [r for r in with_ranks(result) if r["model"] == entry["model"] and "failed" not in r]
        cells = [mean_cell(entry, good[0], c) for c in shown] if good else ["–"] * len(shown)
        rows.append({"model": entry["model"], "cells": [f"{entry['succeeded']} of {entry['seeds']}", *cells]})
    return {"columns": shown, "rows": rows}


def _first_seeds(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Of each model the row of the first seed that succeeded: those of all would be a wall of pictures."""
    found: dict[str, dict[str, Any]] = {}
    for row in result["rows"]:
        if "failed" not in row:
            found.setdefault(row["model"], row)
    return list(found.values())


def _copies(result: dict[str, Any], runs: Path) -> list[dict[str, Any]]:
    """For each model, the samples nearest to training examples: a picture, or words."""
    found = []
    for row in _first_seeds(result):
        entry = row.get("near_copies", {})
        if "value" not in entry:
            continue
        kept = runs / f"{row['model']}-{row['seed']}" / EVIDENCE
        shown = {"image": _embed(kept.read_bytes()) if kept.exists() else None}
        words = [[f"{e['ratio']:.2f}", *e["shown"][:2]] for e in entry["closest"] if "shown" in e]
        if shown["image"] or words:
            found.append(
                {
                    "title": f"{row['model']}, seed {row['seed']}" if result["seeds"] > 1 else row["model"],
                    "colour": figures.colour(row["family"]),
                    "share": f"{100 * entry['value']:.1f} % near copies",
                    "held_out": f"{100 * entry['held_out']:.1f} %",
                    "ratios": ", ".join(f"{e['ratio']:.2f}" for e in entry["closest"]),
                    "threshold": f"{entry['threshold']:.2f}",
                    "words": words,
                    **shown,
                }
            )
    return found


def _title(row: dict[str, Any], measure: str, beaten: list[str]) -> str:
    """What a cell says when it is pointed at: interval, features, counts."""
    if measure not in MEASURES:
        return ""
    entry = (
        row["fidelity"]
        if MEASURES[measure][0] == "fidelity" and "none" in row["fidelity"]
        else entry_of(row, measure)
    )
    parts = []
    if "interval" in entry:
        parts.append("95 % interval {:.3g} to {:.3g}".format(*entry["interval"]))
    parts += [entry[key] for key in ("features", "by") if key in entry]
    if "samples" in entry:
        parts.append(f"{entry['samples']} samples")
    if "none" in entry:
        parts.append(entry["none"])
    if measure in ("bits_per_dim", "nats") and "kind" in entry:
        parts.append(f"{entry['kind']}, {entry['nats']:.3f} nats an example")
    if beaten:
        parts.append(f"bettered by {', '.join(beaten)}")
    return "; ".join(parts)


def _plots(result: dict[str, Any]) -> list[dict[str, str]]:
    rows = [row for row in result["rows"] if "failed" not in row]
    discrete = result["facts"]["modality"] not in REAL
    measure, ylabel = (
        ("bits_per_dim", "bits/dim (lower is better)")
        if discrete
        else ("nats", "log p, nats (higher is better)")
    )
    entropy = result["facts"]["entropy"]
    plots = []
    for title, name, label in (
        ("Likelihood against sampling time", measure, ylabel),
        ("Fréchet distance against sampling time", "frechet", "Fréchet distance (lower is better)"),
    ):
        points, levels = [], []
        for row in rows:
            x, y = number(row, "sample_seconds_per_1000"), number(row, name)
            if x and y is not None:
                low, high = row["fidelity"]["frechet"]["interval"] if name == "frechet" else (y, y)
                points.append(figures.Point(row["model"], row["family"], x, y, low, high))
        if name == "frechet":
            levels = [
                figures.Level(row["model"], value)
                for row in result["baselines"]
                if row["model"] == REAL_ROW and (value := number(row, name)) is not None
            ]
        elif entropy is not None and not discrete:
            levels = [figures.Level("the truth (minus its entropy)", -entropy)]
        if points:
            svg = figures.trade_off(
                points, levels, "seconds for 1000 samples", label, log_y=name == "frechet"
            )
            plots.append({"title": title, "svg": svg})
    return plots


def _card(row: dict[str, Any], runs: Path, data: Data, many: bool) -> dict[str, Any]:
    folder = runs / f"{row['model']}-{row['seed']}"
    entry = get(row["model"])
    shown = _drawn(folder, data) if entry.samples else {"image": None, "texts": None}
    return {
        "title": f"{row['model']}, seed {row['seed']}" if many else row["model"],
        "family": row["family"],
        "colour": figures.colour(row["family"]),
        "summary": entry.summary,
        "paper": entry.paper,
        **shown,
        "none": row["fidelity"].get("none"),
        "curve": _curve(row, folder / METRICS),
        "divergence": _divergence(row),
        "sharpness": number(row, "sharpness"),
        "parameters": row["cost"]["parameters"],
        "steps": row["training"]["steps"],
        "best_step": row["training"]["best_step"],
        "warnings": row["training"]["warnings"],
    }


def _curve(row: dict[str, Any], log: Path) -> str | None:
    if not log.exists():
        return None
    steps, scores, label = [], [], ""
    for line in log.read_text().splitlines():
        found = json.loads(line)
        for key, value in found.items():
            if key.startswith("validation "):
                label = key
                steps.append(found["step"])
                scores.append(value)
    if len(steps) < 2:
        return None
    label = {"validation nats": "−log p, nats"}.get(label, label.removeprefix("validation "))
    return figures.curve(
        steps, scores, row["training"]["best_step"], label, row["family"], f"{row['model']}{row['seed']}"
    )


def _divergence(row: dict[str, Any]) -> str | None:
    """What each dimension of a code costs, where that is known."""
    each = row.get("latent", {}).get("kl_per_dim")
    if not each:
        return None
    name = f"{row['model']}{row['seed']}"
    return figures.bars(each, "KL, nats", "dimension of the code, sorted", row["family"], name)


def _codes(result: dict[str, Any]) -> dict[str, Any]:
    """A table of what is known of codes, for the models that have some."""
    found = {}
    for row in result["rows"]:
        if "latent" in row:
            name = f"{row['model']} #{row['seed']}" if result["seeds"] > 1 else row["model"]
            found[name] = {fact.name: fact for fact in code_facts(row["latent"])}
    return {"rows": found, "columns": list(dict.fromkeys(name for row in found.values() for name in row))}


def _taxonomy(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Groups by what the models themselves say of their density, and what was measured here."""
    groups: dict[str, list[dict[str, str]]] = {name: [] for name in dict.fromkeys(TAXONOMY.values())}
    for name in dict.fromkeys(row["model"] for row in result["rows"]):
        entry = get(name)
        row = next((r for r in result["rows"] if r["model"] == name and "failed" not in r), None)
        found = (row or {}).get("likelihood", {})
        here = f"measured here: {found['kind']}" if "kind" in found else found.get("none", "")
        reason = here if row else "failed here"
        groups[TAXONOMY[entry.density]].append({"model": name, "family": entry.family, "here": reason})
    return [{"title": title, "members": members} for title, members in groups.items() if members]
