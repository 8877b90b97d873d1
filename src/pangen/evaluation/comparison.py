"""Several models on the same data, with the same budget, under the same judge."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import pangen
from pangen.codecs import accepts, choose_codec
from pangen.data.dataset import Data
from pangen.data.given import as_data
from pangen.errors import PangenError
from pangen.evaluation.cost import PeakMemory
from pangen.evaluation.evidence import EVIDENCE
from pangen.evaluation.features import Lent
from pangen.evaluation.judge import Judge, without_cost, without_draws
from pangen.evaluation.ledger import LEDGER, entries_of, write_ledger
from pangen.evaluation.ranking import rank_intervals
from pangen.evaluation.stage import Report, Stage
from pangen.evaluation.summary import mark_beaten, summarise
from pangen.files import make_folder, read_json, read_object, write_json
from pangen.folder import CARD, CODEC, RECIPE, WEIGHTS
from pangen.recipes import RULE, read_recipe
from pangen.registry import entries, get
from pangen.run import Run, load_run, pick_device
from pangen.training.fit import Event, fit_recipe
from pangen.training.plan import check_length, fit_model
from pangen.training.record import processor

BUDGET = 12.0
SHOWCASE = 16
RESULT, REPORT, RUNS = "compare.json", "report.html", "runs"


Lengths = tuple[float | None, Mapping[str, float], int | None]
"""Seconds of training, those of models that have others, and steps."""


def compare(
    data: Any,
    models: str | Sequence[str] | None = None,
    *,
    budget: float | None = None,
    steps: int | None = None,
    budgets: Mapping[str, float] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    seeds: int = 1,
    out: str | Path | None = None,
    redo: bool = False,
    device: str = "auto",
    samples: int | None = None,
    features: Lent | None = None,
    report: Report | None = None,
) -> dict[str, Any]:
    """Train and evaluate models side by side.

    Args:
        data: a data set's name, a path, a `Data`, or an array.
        models: names, in a list or with commas; "all" that accept the data; None: the showcase.
        budget: seconds of training for each model and seed, or
        steps: optimizer steps. Neither: 12 seconds.
        budgets: seconds of those models that have others than `budget`.
        settings: fields of recipes, of those models that have others than their own.
        seeds: trainings of each model, with seeds 0, 1, ...
        out: a folder that keeps runs, evaluations, `compare.json`, `ledger.jsonl` and `report.html`. A
            comparison that was interrupted goes on there: complete runs are not trained again.
        redo: train every run in `out` again with its recorded steps, and say what differs; samples and features are those
            recorded where none are named.
        device: auto, cpu, cuda or mps.
        samples: how many are drawn of each model, as in `evaluate`.
        features: what lends the features in which samples are set against real data, as in `evaluate`.
        report: called with a `Stage` after every step and at every stage.

    Returns:
        `{data, rows, baselines, ...}`: a row is what `evaluate` returns, or `{model, family, seed,
        failed}`; `summary` has for each model the seeds that succeeded, means with intervals over seeds, and ranks.

    Raises:
        PangenError: for any mistake in the above, before anything is trained.
    """
    check_length(steps, budget)
    if seeds < 1:
        raise PangenError(f"cannot compare over {seeds} seeds; ask for at least 1.")
    pick_device(device)
    found = as_data(data)
    folder = Path(out) if out is not None else None
    if redo:
        recorded, before = _recorded(folder)
        samples, features = samples or before.get("samples"), features or before.get("features")
        wanted = None if models is None else _named(models, found)
        plan = [(name, seed) for name, seed in recorded if wanted is None or name in wanted]
        if not plan:
            raise PangenError(f"{folder} holds no run of {', '.join(wanted or [])}; leave out --models.")
    else:
        plan = [(name, seed) for name in _named(models, found) for seed in range(seeds)]
    budget, budgets = budget if budget or steps else BUDGET, dict(budgets or {})
    if folder is not None:
        _check_folder(folder, plan, found, lengths=(budget, budgets, steps), redo=redo)
        make_folder(folder / RUNS)
    tell = report or (lambda stage: None)
    tell(Stage("yardsticks", 0, len(plan), "evaluating"))
    judge = Judge(found, samples=samples, features=features)
    work = _Work(
        found, judge, folder, (budget, budgets, steps), settings or {}, device, redo, tell, len(plan)
    )
    rows = [work.row(name, seed, index) for index, (name, seed) in enumerate(plan)]
    result: dict[str, Any] = {
        "data": found.name,
        "rows": [without_draws(row) for row in mark_beaten(rows)],
        "baselines": work.judge.yardsticks(),
        "summary": summarise(rows, rank_intervals(rows)),
        "facts": _facts(found),
        "budget": budget,
        "budgets": budgets,
        "settings": settings or {},
        "steps": steps,
        "samples": samples,
        "seeds": len({seed for _, seed in plan}),
        "protocol": work.judge.protocol(),
        "features": _folder_of(features),
        "machine": machine(),
        "rule": RULE,
        "command": _command(
            found.name, models, budget, steps, seeds, folder, redo, samples, features, bool(budgets)
        ),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if redo:
        result["redo"] = work.redone
    if folder is not None:
        from pangen.evaluation.report import write_report

        write_json(folder / RESULT, result)
        write_ledger(folder / LEDGER, entries_of(result))
        tell(Stage("report", len(plan), len(plan), "writing"))
        write_report(folder / REPORT, result, found, folder / RUNS)
    return result


class _Work:
    """One comparison under way."""

    def __init__(
        self,
        data: Data,
        judge: Judge,
        folder: Path | None,
        lengths: Lengths,
        settings: Mapping[str, Mapping[str, Any]],
        device: str,
        redo: bool,
        tell: Report,
        count: int,
    ) -> None:
        self.data, self.judge, self.folder, self.count, self.tell = data, judge, folder, count, tell
        self.lengths, self.settings, self.device, self.redo = lengths, settings, device, redo
        self.redone: dict[str, list[str]] = {"identical": [], "different": []}

    def row(self, name: str, seed: int, index: int) -> dict[str, Any]:
        """The evaluation of one model and seed, or why there is none."""

        def tell(what: Event | str) -> None:
            self.tell(Stage(name, index, self.count, what))

        tell("loading")
        try:
            row = self._row(name, seed, tell)
        except Exception as error:
            reason = str(error) if isinstance(error, PangenError) else f"{type(error).__name__}: {error}"
            tell(f"failed: {reason}")
            return {"model": name, "family": get(name).family, "seed": seed, "failed": reason}
        tell("done")
        return row

    def _row(self, name: str, seed: int, tell: Callable[[Event | str], None]) -> dict[str, Any]:
        peak = PeakMemory(pick_device(self.device))
        if self.folder is None:
            return self._judged(self._fit(name, seed, None, tell), tell, peak)
        path = self.folder / RUNS / f"{name}-{seed}"
        kept = evaluation_path(path)
        before = read_json(kept) if kept.exists() else None
        if self.redo:
            row = self._judged(self._again(path, tell), tell, peak)
            same = before is not None and without_cost(before) == without_cost(_plain(row))
            self.redone["identical" if same else "different"].append(path.name)
        elif is_complete(path):
            if before is not None and before["protocol"] == self.judge.protocol():
                return before
            row = self._judged(load_run(path, device=self.device), tell)
        else:
            kept.unlink(missing_ok=True)
            shutil.rmtree(path, ignore_errors=True)
            row = self._judged(self._fit(name, seed, path, tell), tell, peak)
        write_json(kept, row)
        return row

    def _fit(self, name: str, seed: int, path: Path | None, tell: Callable[[Event | str], None]) -> Run:
        budget, budgets, steps = self.lengths
        run = fit_model(
            name, self.data, path=path, steps=steps, budget=budgets.get(name, budget), seed=seed, device=self.device,
            report=tell, recipe=self.settings.get(name),
        )  # fmt: skip
        return _whole(run)

    def _again(self, path: Path, tell: Callable[[Event | str], None]) -> Run:
        """The recorded recipe trained anew beside the old run, which it then replaces."""
        scratch = path.with_name(f".{path.name}")
        shutil.rmtree(scratch, ignore_errors=True)
        run = retrain(path, self.data, scratch, self.device, tell)
        shutil.rmtree(path)
        scratch.rename(path)
        run.path = path
        return run

    def _judged(
        self, run: Run, tell: Callable[[Event | str], None], peak: PeakMemory | None = None
    ) -> dict[str, Any]:
        """`peak`: of the memory that training took as well, where the run was trained just now."""
        tell("evaluating")
        row = self.judge.judge(run, run.path / EVIDENCE if run.path else None)
        row["cost"]["peak_megabytes"] = peak.megabytes() if peak else None
        return row


def retrain(
    path: Path,
    data: Data,
    scratch: Path,
    device: str,
    tell: Callable[[Event | str], None] = lambda what: None,
) -> Run:
    """The recorded recipe of the run in `path`, trained anew for its recorded steps in `scratch`."""
    recipe = read_recipe(path)
    told = dict(recipe.codec)
    name = told.pop("name")
    codec = choose_codec(
        get(recipe.model["name"]), data, conditional=recipe.conditional, name=name, settings=told
    )
    # to resume from nothing is to start with the recorded steps, the budget being spent already
    return _whole(
        fit_recipe(recipe, data, codec, path=scratch, device=pick_device(device), resume=True, report=tell)
    )


def evaluation_path(run: Path) -> Path:
    """Where the evaluation of a run is kept: beside it."""
    return run.with_name(f"{run.name}.json")


def is_complete(path: Path) -> bool:
    """Whether a folder holds a run that was trained to its end."""
    if not all((path / name).exists() for name in (RECIPE, CODEC, WEIGHTS, CARD)):
        return False
    return read_json(path / CARD).get("state") == "complete"


def machine() -> dict[str, Any]:
    """What the comparison ran on."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pangen": pangen.__version__,
    }


def _named(models: str | Sequence[str] | None, data: Data) -> list[str]:
    if isinstance(models, str):
        models = [name.strip() for name in models.split(",") if name.strip()]
    if models is None or list(models) == ["all"]:
        fits = [entry for entry in entries().values() if accepts(entry, data)]
        shown = [entry for entry in fits if entry.showcase][:SHOWCASE] if models is None else fits
        if not shown:
            raise PangenError(f"no model accepts '{data.name}'; `pangen models` lists what each accepts.")
        return [entry.name for entry in shown]
    if not models:
        raise PangenError("there is no model to compare; `pangen models` lists them.")
    chosen = list(dict.fromkeys(models))
    for name in chosen:
        if not accepts(get(name), data):
            choose_codec(get(name), data)  # raises, and says what the model accepts
    return chosen


def _recorded(folder: Path | None) -> tuple[list[tuple[str, int]], dict[str, Any]]:
    """Models and seeds of the complete runs in a folder, in the registry's order; and its result, once there is one."""
    if folder is None:
        raise PangenError("there is nothing to redo without a folder; name that of the comparison with -o.")
    found = []
    for path in (folder / RUNS).glob("*-*"):
        name, _, seed = path.name.rpartition("-")
        if name in entries() and seed.isdigit() and is_complete(path):
            found.append((name, int(seed)))
    if not found:
        raise PangenError(f"{folder} holds no complete runs to redo; leave out --redo.")
    order = list(entries())
    before = read_object(folder / RESULT) if (folder / RESULT).exists() else {}
    return sorted(found, key=lambda run: (order.index(run[0]), run[1])), before


def _check_folder(
    folder: Path,
    plan: Iterable[tuple[str, int]],
    data: Data,
    *,
    lengths: Lengths,
    redo: bool,
) -> None:
    """What is in the folder already must be of this data and, unless redone, of this length."""
    if folder.exists() and not folder.is_dir():
        raise PangenError(f"{folder} is a file; choose another folder with -o.")
    for name, seed in plan:
        path = folder / RUNS / f"{name}-{seed}"
        if not is_complete(path):
            continue
        recipe = read_json(path / RECIPE)
        if recipe["data"]["fingerprint"] != data.fingerprint:
            raise PangenError(
                f"{path} was trained on other data than '{data.name}' holds now; choose another folder with -o."
            )
        if redo or "closed_form" in get(name).capabilities:
            continue
        training, steps, budget = recipe["training"], lengths[2], lengths[1].get(name, lengths[0])
        if training["budget"] != budget or (steps is not None and training["steps"] != steps):
            had = f"{training['budget']:g} s" if training["budget"] else f"{training['steps']} steps"
            asks = f"{budget:g} s" if budget else f"{steps} steps"
            raise PangenError(
                f"{path} was trained for {had} and this comparison asks for {asks}; choose another folder with -o."
            )


def _whole(run: Run) -> Run:
    if run.card["state"] == "interrupted":
        raise KeyboardInterrupt  # what is complete is kept; the same command goes on from here
    return run


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row as it reads after a round trip through JSON."""
    import json

    return json.loads(json.dumps(row))


def _folder_of(lent: Lent | None) -> str | None:
    """What a command names: a run's folder, a file, or a function's name."""
    named = lent.path if isinstance(lent, Run) else getattr(lent, "__name__", lent)
    return None if named is None else str(named)


def _facts(data: Data) -> dict[str, Any]:
    return {
        "modality": data.modality,
        "shape": list(data.shape),
        "levels": data.levels,
        "labels": list(data.labels),
        "splits": [len(data.train), len(data.validation), len(data.test)],
        "fingerprint": data.fingerprint,
        "options": dict(data.options),
        "entropy": float(data.truth.entropy) if data.truth is not None else None,
    }


def _command(
    name: str,
    models: str | Sequence[str] | None,
    budget: float | None,
    steps: int | None,
    seeds: int,
    out: Path | None,
    redo: bool,
    samples: int | None,
    features: Lent | None,
    gym: bool,
) -> str:
    """`gym`: budgets are those of the gym, whose folder holds this one."""
    words = ["pangen", "compare", f"gym:{name}" if gym else name]
    if models is not None:
        words += ["--models", models if isinstance(models, str) else ",".join(models)]
    if not redo and not gym:
        words += ["--steps", str(steps)] if steps else ["--budget", f"{budget:g}s"]
    if not redo:
        words += ["--seeds", str(seeds)] if seeds > 1 else []
    words += ["--samples", str(samples)] if samples else []
    words += ["--features", path] if (path := _folder_of(features)) is not None else []
    words += ["-o", str(out.parent if gym else out)] if out is not None else []
    return shlex.join([*words, "--redo"] if redo else words)
