"""From a model's name and a data set to a recipe, and on to a run: the one path of every verb."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pangen import parallel
from pangen.codecs import choose_codec
from pangen.data.dataset import Data
from pangen.data.latents import check_place
from pangen.errors import PangenError
from pangen.files import read_object
from pangen.folder import CARD, RECIPE
from pangen.recipes import Recipe, default_recipe, read_recipe
from pangen.registry import get
from pangen.run import Run, pick_device
from pangen.training.fit import Report, fit_recipe


def check_length(steps: int | None, budget: float | None) -> None:
    """A training lasts for steps or for seconds, of which there are some."""
    if steps is not None and steps < 1:
        raise PangenError(f"cannot train for {steps} steps; ask for at least 1.")
    if budget is not None and budget <= 0:
        raise PangenError(f"a budget of {budget} seconds is too short; give a positive one such as 60s.")
    if steps is not None and budget is not None:
        raise PangenError("give either steps or a budget, not both.")


def fit_model(
    model: str,
    data: Data,
    *,
    path: Path | None = None,
    steps: int | None = None,
    budget: float | None = None,
    seed: int = 0,
    conditional: bool | None = None,
    codec: str | None = None,
    device: str = "auto",
    resume: bool = False,
    report: Report | None = None,
    recipe: Mapping[str, Any] | None = None,
) -> Run:
    """Plan and train, with the other processes that `torchrun` started; see `pangen.fit`."""
    parallel.join()
    resume = resume or (parallel.restarted() and path is not None and (path / RECIPE).exists())
    check_length(steps, budget)
    entry = get(model)
    where = pick_device(device)
    if resume:
        plan = _recipe_to_resume(path, model, data)
        conditional, told = plan.conditional, dict(plan.codec)
    else:
        fields = {"codec.name": codec, **(recipe or {})}
        told = {k.removeprefix("codec."): v for k, v in fields.items() if k.startswith("codec.")}
    chosen = choose_codec(entry, data, conditional=conditional, name=told.pop("name"), settings=told)
    if not resume:
        if path is not None and _is_taken(path):
            raise PangenError(f"{path} already exists; choose another -o, or go on with --resume.")
        plan = default_recipe(entry, data, chosen, steps=steps, budget=budget, seed=seed)
        plan = plan.override(recipe) if recipe else plan
        parallel.wait()  # all have seen that there is nothing before one writes
    return fit_recipe(
        plan, data, chosen, path=path, device=where, resume=resume, report=report or (lambda event: None)
    )


def _is_taken(path: Path) -> bool:
    """Whether something is there; hidden files are what a killed training left."""
    return path.exists() and (not path.is_dir() or any(f.name[0] != "." for f in path.iterdir()))


def _recipe_to_resume(path: Path | None, model: str, data: Data) -> Recipe:
    if path is None or not (path / RECIPE).exists():
        raise PangenError(f"there is no run to resume in {path}; leave out --resume to start one.")
    recipe = read_recipe(path)
    if recipe.model["name"] != model:
        raise PangenError(f"{path} holds a {recipe.model['name']}, not a {model}; choose another -o.")
    if recipe.data.fingerprint != data.fingerprint:
        check_place(data, recipe.data)
        raise PangenError(f"{path} was trained on other data than '{data.name}' holds now; start a new run.")
    if (path / CARD).exists() and read_object(path / CARD).get("state") == "complete":
        raise PangenError(f"{path} is complete; start a new run with more steps.")
    return recipe
