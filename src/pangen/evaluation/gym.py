"""The gym: models on every source whose law is known, graded by their regret."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from pangen.codecs import accepts
from pangen.data import load_data
from pangen.data.dataset import Data, Truth
from pangen.data.known import KNOWN
from pangen.errors import PangenError, unknown
from pangen.evaluation.comparison import RUNS, compare, machine
from pangen.evaluation.intervals import seeds_interval
from pangen.evaluation.known_truth import LAW_ROW
from pangen.evaluation.stage import Report
from pangen.evaluation.table import SIGNS
from pangen.files import make_folder, write_json
from pangen.registry import entries, get
from pangen.training.plan import check_length

RESULT = "gym.json"
SOURCES = tuple(known.name for known in KNOWN.values() if known.source == "known truth")
MODELS = (
    "independent", "mixture", "kde", "ngram", "arima", "rbm", "vae", "gan", "nsf", "made", "pixelcnn", "rnn", "gpt",
    "wavenet", "ddpm",
)  # fmt: skip
"""Those that are taken unasked, on the sources they accept: one or two of a family."""
SAMPLES = 1000
"""Drawn of each model where nobody says how many: half of what a comparison of one source would draw, which sees
distances from a law a third less sharply, and a regret alike."""
SHORT = 5.0
"""Seconds of training where nobody says how many, but for the model that comes nearest to a source's law."""
LONG: dict[str, dict[str, float]] = {
    "moons": {"nsf": 30.0},
    "gaussians8": {"nsf": 30.0},
    "gaussians25": {"nsf": 100.0},
    "checkerboard": {"nsf": 100.0},
    **{
        name: {"rnn": 30.0}
        for name, known in KNOWN.items()
        if known.source == "known truth" and known.kind in ("binary images", "text", "tables")
    },
    "markov-text": {"rnn": 60.0},
    "brackets": {"rnn": 60.0},
    "tones": {"wavenet": 20.0},
    "coloured-noise": {"wavenet": 20.0},
}
"""Seconds of these: one has edges, and one 25 narrow modes, that take a flow long to learn."""
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {"gaussians25": {"nsf": {"model.bins": 40}}}
"""Fields of recipes: five modes in a row take more knots than a spline has by itself."""
OWN_FORM = {
    "gaussians8": ("mixture",),
    "gaussians25": ("mixture",),
    "ising4x4": ("boltzmann",),
    "markov-text": ("ngram",),
    "ar2": ("arima",),
    "arma": ("arima",),
}
"""Models that have the source's own parametric form: they show what is possible, and win nothing."""


def gym(
    sources: str | Sequence[str] | None = None,
    models: str | Sequence[str] | None = None,
    *,
    budget: float | None = None,
    steps: int | None = None,
    seeds: int = 1,
    out: str | Path | None = None,
    redo: bool = False,
    device: str = "auto",
    samples: int | None = None,
    report: Report | None = None,
) -> dict[str, Any]:
    """Compare models on every source whose law is known.

    Args:
        sources: names of sources or of their kinds, in a list or with commas; None: all.
        models: names, in a list or with commas; "all"; None: one or two of each family. Each source has those
            that accept it.
        budget: seconds of training for each model, source and seed, or
        steps: optimizer steps. Neither: 5 seconds, and 30 to 100 for the model that comes nearest to a source's law.
        seeds: trainings of each model, with seeds 0, 1, ...
        out: a folder that keeps the comparison of each source, and `gym.json`. A gym that was
            interrupted goes on there.
        redo: train every run in `out` again with its recorded steps, and say what differs.
        device: auto, cpu, cuda or mps.
        samples: how many are drawn of each model; None: 1000, or with `redo` as many as before.
        report: called with a `Stage` after every step and at every stage.

    Returns:
        `{sources, ...}`: of each source its kind, its entropy, how far the test examples' mean surprise lies from that, a
        row for each model, and the `best` one whose form is not the source's own. With `redo`, the runs that came out
        `identical` and those that are `different`.

    Raises:
        PangenError: for any mistake in the above, before anything is trained.
    """
    check_length(steps, budget)
    names, wanted = _sources(_listed(sources)), _models(_listed(models))
    longer = {} if budget or steps else LONG
    budget, samples = budget if budget or steps else SHORT, samples or (None if redo else SAMPLES)
    folder = make_folder(Path(out)) if out is not None else None
    if redo:
        names = _recorded(folder, names)
    found: list[dict[str, Any]] = []
    redone: dict[str, list[str]] = {"identical": [], "different": []}
    for name in names:
        data = load_data(name)
        takers = [model for model in wanted if accepts(get(model), data)]
        if not takers:
            continue
        place = folder / name if folder is not None else None
        compared = compare(
            data, None if redo and models is None else takers, budget=budget, steps=steps, budgets=longer.get(name), settings=SETTINGS.get(name), seeds=seeds,
            out=place, redo=redo, device=device, samples=samples, report=_of(report, name),
        )  # fmt: skip
        found.append(_graded(data, compared))
        for verdict, runs in compared.get("redo", {}).items():
            redone[verdict] += [f"{name}/{run}" for run in runs]
    if not found:
        raise PangenError(f"no source among {', '.join(names)} is accepted by {', '.join(wanted)}.")
    result = {
        "sources": found,
        "budget": budget,
        "budgets": longer,
        "settings": SETTINGS,
        "steps": steps,
        "seeds": seeds,
        "machine": machine(),
        "command": _command(sources, models, budget, steps, seeds, out, redo, samples, plain=bool(longer)),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **({"redo": redone} if redo else {}),
    }
    if folder is not None:
        write_json(folder / RESULT, result)
    return result


def best_rows(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """A table of the sources: entropy, and the best model with its regret."""
    rows = []
    for source in result["sources"]:
        best = source["best"]
        share = (
            f"{100 * best['regret'] / source['entropy']:.2f} %"
            if best and KNOWN[source["name"]].kind not in ("vectors", "tables", "series")
            else ""
        )
        surprise = source["surprise"]
        trained = "" if not best or best["train_seconds"] is None else f"{best['train_seconds']:.0f} s"
        rows.append([
            source["name"],
            source["kind"],
            f"{source['entropy']:.3f}",
            f"{surprise['nats']:+.3f} ± {surprise['stderr']:.3f}",
            best["model"] if best else "–",
            trained,
            _regret(best) if best else "–",
            share,
        ])  # fmt: skip
    return ["source", "kind", "entropy", "test data", "best", "trained", "its regret", "of entropy"], rows


def regret_rows(result: dict[str, Any]) -> list[tuple[list[str], list[list[str]]]]:
    """For each kind of source a table of its models, a column a source."""
    tables = []
    for kind in dict.fromkeys(source["kind"] for source in result["sources"]):
        mine = [source for source in result["sources"] if source["kind"] == kind]
        names = dict.fromkeys(row["model"] for source in mine for row in source["rows"])
        rows = []
        for name in names:
            each = [next((r for r in s["rows"] if r["model"] == name), None) for s in mine]
            cells = [_cell(row) + _form(row, s["name"]) for row, s in zip(each, mine, strict=True)]
            rows.append([name, *cells])
        rows.append([LAW_ROW, *(f"0, z {s['law_z']:.1f}" for s in mine)])
        tables.append(([kind, *(source["name"] for source in mine)], rows))
    return tables


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    if "failed" in row:
        return "failed"
    told = [] if row["regret"] is None else [_regret(row)]
    told += ["not finite"] if row["none"] else []
    if row["regret"] is None and row["z"] is not None:
        told.append(f"z {row['z']:.1f} ± {row['z_interval'][1] - row['z']:.1f}")
        told += ["{found}/{of} modes".format(**row["modes"])] if row["modes"]["of"] > 1 else []
    return ", ".join(told) or "–"


def _form(row: dict[str, Any] | None, source: str) -> str:
    return " *" if row and row["own_form"] else ""


def _regret(row: dict[str, Any]) -> str:
    return f"{SIGNS[row['kind']]}{row['regret']:.4f} ± {row['stderr']:.4f}"


def _graded(data: Data, compared: dict[str, Any]) -> dict[str, Any]:
    """What a comparison says of the models against the law."""
    rows = []
    for name in dict.fromkeys(row["model"] for row in compared["rows"]):
        mine = [row for row in compared["rows"] if row["model"] == name]
        rows.append(
            {
                "model": name,
                "family": mine[0]["family"],
                "own_form": name in OWN_FORM.get(data.name, ()),
                **_grade(mine),
            }
        )
    law = next(row for row in compared["baselines"] if row["model"] == LAW_ROW)
    rivals = [
        r for r in rows if r.get("regret") is not None and not r["own_form"] and r["kind"] != "estimate"
    ]
    return {
        "name": data.name,
        "kind": KNOWN[data.name].kind,
        "entropy": float(cast("Truth", data.truth).entropy),
        "surprise": law["surprise"],
        "law_z": law["against_law"]["apart"]["z"],
        "rows": rows,
        "best": min(rivals, key=lambda row: row["regret"], default=None),
    }


def _grade(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Of one model, over its seeds: regret with its error, and z and modes of its samples."""
    good = [row for row in rows if "failed" not in row]
    if not good:
        return {"failed": rows[0]["failed"]}
    regrets = [row["regret"]["nats"] for row in good if "nats" in row.get("regret", {})]
    samples = [row["against_law"] for row in good if "against_law" in row]
    z = [s["apart"]["z"] for s in samples]
    whole = bool(regrets) and len(regrets) == len(good)
    mean = sum(regrets) / len(regrets) if whole else None
    error = good[0]["regret"]["stderr"] if whole else None
    if whole and len(good) > 1:
        error = math.sqrt(sum((r - mean) ** 2 for r in regrets) / (len(good) - 1) / len(good))
    return {
        "seeds": len(good),
        "train_seconds": good[0]["cost"]["train_seconds"],
        "regrets": regrets if whole else [],
        "regret": mean,
        "stderr": error,
        "kind": good[0]["regret"]["kind"] if whole else None,
        "none": next((r["regret"]["none"] for r in good if "none" in r.get("regret", {})), None),
        "z": sum(z) / len(z) if z else None,
        "z_interval": seeds_interval(z) if len(z) > 1 else samples[0]["apart"]["interval"] if z else None,
        "modes": samples[0]["modes"] if samples else None,
    }


def _listed(names: str | Sequence[str] | None) -> list[str] | None:
    if isinstance(names, str):
        return [name.strip() for name in names.split(",") if name.strip()]
    return None if names is None else list(names)


def _sources(names: list[str] | None) -> list[str]:
    """Sources by their names or kinds, in the order of the gym."""
    if names is None:
        return list(SOURCES)
    kinds = {KNOWN[source].kind for source in SOURCES}
    for name in names:
        if name not in SOURCES and name not in kinds:
            raise unknown("source", name, [*SOURCES, *kinds])
    return [source for source in SOURCES if source in names or KNOWN[source].kind in names]


def _models(names: list[str] | None) -> list[str]:
    if names == ["all"]:
        return list(entries())
    chosen = list(MODELS) if names is None else names
    if not chosen:
        raise PangenError("there is no model to compare; `pangen models` lists them.")
    return [get(name).name for name in dict.fromkeys(chosen)]


def _recorded(folder: Path | None, names: list[str]) -> list[str]:
    """The sources of which a folder keeps runs."""
    if folder is None:
        raise PangenError("there is nothing to redo without a folder; name that of the gym with -o.")
    found = [name for name in names if (folder / name / RUNS).is_dir()]
    if not found:
        raise PangenError(f"{folder} holds no runs of {', '.join(names)}; leave out --redo.")
    return found


def _of(report: Report | None, source: str) -> Report | None:
    if report is None:
        return None
    return lambda stage: report(replace(stage, model=f"{source} {stage.model}"))


def _command(
    sources: str | Sequence[str] | None,
    models: str | Sequence[str] | None,
    budget: float | None,
    steps: int | None,
    seeds: int,
    out: str | Path | None,
    redo: bool,
    samples: int | None,
    *,
    plain: bool,
) -> str:
    """`plain`: nobody said how long."""
    asked, of = _listed(sources), _listed(models)
    words = ["pangen", "compare", f"gym:{','.join(asked)}" if asked is not None else "gym"]
    words += ["--models", ",".join(of)] if of is not None else []
    if not redo and not plain:
        words += ["--steps", str(steps)] if steps else ["--budget", f"{budget:g}s"]
    words += ["--seeds", str(seeds)] if seeds > 1 else []
    words += ["--samples", str(samples)] if samples else []
    words += ["-o", str(out)] if out is not None else []
    words += ["--redo"] if redo else []
    return shlex.join(words)
