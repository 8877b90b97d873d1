"""The verbs: the same from Python as from the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pangen.codecs import choose_codec
from pangen.data import load_data, memory_data
from pangen.data.dataset import Data
from pangen.errors import PangenError
from pangen.evaluation import compare, evaluate
from pangen.files import read_json
from pangen.recipes import Recipe, default_recipe
from pangen.registry import get
from pangen.run import CARD, RECIPE, Run, load_run, pick_device
from pangen.training import fit_recipe
from pangen.training.fit import Report


def fit(
    model: str,
    data: Any,
    y: Any = None,
    *,
    out: str | Path | None = None,
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
    """Train a model and return its run.

    Args:
        model: a name from `pangen models`.
        data: the name of a data set, a path, a `Data`, or an array or tensor: images of integers
            `(N, H, W)`, `(N, C, H, W)` or `(N, H, W, C)`, or vectors `(N, D)`; or a list of strings.
        y: labels `(N,)` for data from memory.
        out: the run's folder; None keeps the run in memory.
        steps: optimizer steps; or
        budget: seconds, turned into steps by timing the first ones. Neither: 1000 steps.
        seed: decides initial weights, the order of the data, and all noise.
        conditional: give the model the labels; None: when it can take them and there are some.
        codec: a codec's name, where a model works behind several.
        device: auto, cpu, cuda or mps.
        resume: go on where the run in `out` stopped.
        report: called with an `Event` after every step.
        recipe: dotted fields to set, such as `{"model.latent": 8, "training.lr": 1e-3}`.

    Raises:
        PangenError: for any mistake in the above, before anything is written.
    """
    if steps is not None and steps < 1:
        raise PangenError(f"cannot train for {steps} steps; ask for at least 1.")
    if budget is not None and budget <= 0:
        raise PangenError(f"a budget of {budget} seconds is too short; give a positive one such as 60s.")
    if steps is not None and budget is not None:
        raise PangenError("give either steps or a budget, not both.")
    entry = get(model)
    where = pick_device(device)
    path = Path(out) if out is not None else None
    found = as_data(data, y)
    chosen = choose_codec(entry, found, conditional=conditional, name=codec)
    if resume:
        plan = _recipe_to_resume(path, model, found)
    else:
        if path is not None and path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise PangenError(f"{path} already exists; choose another -o, or go on with --resume.")
        plan = default_recipe(entry, found, chosen, steps=steps, budget=budget, seed=seed)
        plan = plan.override(recipe) if recipe else plan
    return fit_recipe(
        plan, found, chosen, path=path, device=where, resume=resume, report=report or (lambda event: None)
    )


def as_data(data: Any, y: Any = None) -> Data:
    """A `Data` from a name, a path, or what is in memory."""
    if isinstance(data, Data):
        return data
    if isinstance(data, str | Path):
        if y is not None:
            raise PangenError("labels come with a data set by name; give y only with data from memory.")
        return load_data(str(data))
    return memory_data(data, y)


def sample(
    run: Run | str | Path,
    n: int = 16,
    given: int | str | Sequence[int] | None = None,
    *,
    seed: int = 0,
    **how: Any,
) -> Any:
    """Draw `n` raw examples from a run; see `Run.sample`."""
    return (run if isinstance(run, Run) else load_run(run)).sample(n, given, seed=seed, **how)


def _recipe_to_resume(path: Path | None, model: str, data: Data) -> Recipe:
    if path is None or not (path / RECIPE).exists():
        raise PangenError(f"there is no run to resume in {path}; leave out --resume to start one.")
    recipe = Recipe.from_json(read_json(path / RECIPE))
    if recipe.model["name"] != model:
        raise PangenError(f"{path} holds a {recipe.model['name']}, not a {model}; choose another -o.")
    if recipe.data.fingerprint != data.fingerprint:
        raise PangenError(f"{path} was trained on other data than '{data.name}' holds now; start a new run.")
    if (path / CARD).exists() and read_json(path / CARD)["state"] == "complete":
        raise PangenError(f"{path} is complete; start a new run with more steps.")
    return recipe


__all__ = ["as_data", "compare", "evaluate", "fit", "load_data", "load_run", "sample"]
