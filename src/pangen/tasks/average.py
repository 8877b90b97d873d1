"""Another average of the weights than the one a run was trained with, found when its training has ended."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pangen.data.batches import Batches
from pangen.data.dataset import Data
from pangen.data.given import as_data
from pangen.errors import PangenError
from pangen.evaluation.kind import data_of
from pangen.model import GenerativeModel
from pangen.recipes import build_model
from pangen.rng import generator
from pangen.run import Run, as_run, load_weights
from pangen.space import Progress
from pangen.training.alarm import collapse_warnings, held_out_warnings
from pangen.training.averages import SNAPSHOTS, TOLERANCE, Average
from pangen.training.selection import Score, validation_score
from pangen.training.teacher import teach

SEARCHED = (0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25)
"""Lengths among which the best is looked for, as far as a run's snapshots can tell them."""


def average(
    run: Run | str | Path,
    sigma_rel: float | None = None,
    *,
    data: Any = None,
    out: str | Path | None = None,
) -> Run:
    """A run with another average of the weights, made from the snapshots of its training.

    Args:
        run: trained with `training.snapshots`, or its folder.
        sigma_rel: length of the average: the standard deviation of its profile, as a share of the training; None: the
            one of a few that scores best on the validation split.
        data: what the run was trained on, where that came from memory.
        out: the new run's folder; None keeps it in memory.

    Raises:
        PangenError: there are no snapshots, or too few for that length; or any mistake in the above.
    """
    run = as_run(run)
    if run.path is None:
        raise PangenError("a run in memory keeps no snapshots of its averages; train it with `out`.")
    if out is not None and Path(out).exists():
        raise PangenError(f"{out} already exists; choose another -o.")
    found = [Average.of(run.path, s) for s in ((sigma_rel,) if sigma_rel is not None else SEARCHED)]
    if sigma_rel is not None:
        found[0].check()
    with run.computing():
        train, validation = _splits(run, data_of(run) if data is None else as_data(data))
        settings = run.recipe.training
        end, examples = Progress(settings.steps, settings.steps), settings.validation_examples

        def score(model: GenerativeModel) -> Score:
            return validation_score(model, train, validation, end, examples)

        own = score(run.model)
        told = [a for a in found if a.error <= TOLERANCE]
        scores = {a.sigma_rel: score(_model(run, a)).value for a in told}
        best = min(told, key=lambda a: _worst_if_nan(scores[a.sigma_rel]))
        model = _model(run, best)
        model.calibrate(generator(model.device, "calibrate"))
        warnings = [
            *held_out_warnings(model, train, validation, examples=examples, rise=0.0),
            *collapse_warnings(model, validation, examples=examples),
        ]
    facts = {
        "run": str(run.path),
        "sigma_rel": best.sigma_rel,
        "distance": best.error,
        "measure": own.name,
        "own_score": own.value,
        "scores": [{"sigma_rel": s, "score": value} for s, value in scores.items()],
    }
    kept = {"step": best.step, "score": scores[best.sigma_rel]}
    card = run.card | {
        "state": "complete",
        "steps": best.step,
        "best": kept,
        "warnings": warnings,
        "average": facts,
    }
    new = Run(run.recipe, run.codec, model, card)
    return new.save(out) if out is not None else new


def _splits(run: Run, data: Data) -> tuple[Batches, Batches]:
    """Training and validation examples, in batches as they were trained on."""
    size, seed, device = run.recipe.training.batch, run.recipe.seed, run.model.device
    train, validation = (
        Batches(split, run.codec, size, seed, device) for split in (data.train, data.validation)
    )
    return train, validation


def _model(run: Run, average: Average) -> GenerativeModel:
    model = build_model(run.recipe, run.codec.space).to(run.model.device).requires_grad_(False).eval()
    load_weights(model, average.weights(), average.run / SNAPSHOTS)
    teach(model, run.codec, run.recipe.dtype)
    return model


def _worst_if_nan(score: float) -> float:
    return score if math.isfinite(score) else math.inf
