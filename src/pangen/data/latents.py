"""`latents:RUN`: the data that a run was trained on, for a model of that run's codes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pangen.data.dataset import Data
from pangen.errors import PangenError
from pangen.registry import entries, get

if TYPE_CHECKING:
    from pangen.recipes import DataSpec

PREFIX = "latents:"


def latent_data(run: str) -> Data:
    """The raw data of a run, with its folder as their encoder.

    Raises:
        PangenError: there is no such run, or its codes cannot stand for its data.
    """
    from pangen.data.load import load_data
    from pangen.recipes import read_recipe

    folder = Path(run).expanduser().resolve()
    if not run or not folder.is_dir():
        raise PangenError(
            f"there is no run folder '{run}' to take codes of; `pangen fit vae DATA --unconditional` makes one."
        )
    recipe = read_recipe(folder)
    entry = get(recipe.model["name"])
    if "latent" not in entry.capabilities:
        coders = ", ".join(
            name for name, e in entries().items() if e.family == "latent" and "latent" in e.capabilities
        )
        raise PangenError(f"the {entry.name} in {run} has no codes; give a run of {coders} or a flow.")
    if recipe.conditional:
        raise PangenError(
            f"the {entry.name} in {run} was trained with labels, and its codes mean nothing without them: "
            "fit it with --unconditional; the prior can learn the labels."
        )
    if recipe.data.name == "memory":
        raise PangenError(
            f"the {entry.name} in {run} was trained on data from memory, which is not kept; save the data to a "
            "file and train on that."
        )
    data = unchanged(load_data(recipe.data.name, **recipe.data.options), recipe.data)
    return replace(
        data, name=f"{PREFIX}{folder}", options={}, encoder=str(folder), raw_name=data.raw_name or data.name
    )


def check_place(data: Data, spec: DataSpec) -> None:
    """Raise where training examples were in memory and are on disk, or the other way round: the splits are others then."""
    was = bool(spec.options.get("stored"))
    if was != data.train.stored:
        then, now = ("on disk", "in memory") if was else ("in memory", "on disk")
        remedy = "add --stored (`stored=True`)" if was else "leave out --stored, or free some memory"
        raise PangenError(
            f"the examples of '{data.name}' were {then} when the run was trained and are {now} here, with other splits: {remedy}."
        )


def unchanged(data: Data, spec: DataSpec) -> Data:
    """The data, if it is still what a recipe recorded."""
    if spec.fingerprint and data.fingerprint != spec.fingerprint:
        check_place(data, spec)
        raise PangenError(
            f"the data '{spec.name}' has changed since the run was trained (fingerprint {data.fingerprint}, "
            f"then {spec.fingerprint}); restore it, or pass the data to evaluate on."
        )
    return data
