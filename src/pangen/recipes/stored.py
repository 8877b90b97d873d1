"""The recipe in a run's folder, with the version it was written in: what any version wrote, all later ones read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pangen.errors import PangenError
from pangen.files import read_object, write_json
from pangen.folder import RECIPE
from pangen.recipes.recipe import Recipe

STEPS: tuple[Callable[[dict[str, Any]], dict[str, Any]], ...] = ()
"""The first makes the fields of version 1 those of version 2, and so on. A change that would leave older recipes unread adds
its step here, and today's run to `tests/stored` before that."""


def write_recipe(folder: Path, recipe: Recipe) -> None:
    """Into a run's folder."""
    write_json(folder / RECIPE, {"version": len(STEPS) + 1, **recipe.to_json()})


def read_recipe(folder: Path) -> Recipe:
    """Of a run's folder, brought to today's version."""
    path = folder / RECIPE
    fields = dict(read_object(path))
    version = fields.pop("version", 1)  # the first said none
    if type(version) is not int or version < 1:
        raise PangenError(f"{path} is of no version that there is: the run is damaged.")
    if version > len(STEPS) + 1:
        raise PangenError(
            f"{path} is of version {version}, and this Pangen reads up to {len(STEPS) + 1}: bring it up to date with "
            "`pip install --upgrade pangen`."
        )
    for step in STEPS[version - 1 :]:
        fields = step(fields)
    return Recipe.from_json(fields)
