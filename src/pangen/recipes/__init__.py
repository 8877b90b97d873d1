"""Recipes: everything that decides a run, as Python values."""

from pangen.recipes.defaults import RULE, default_recipe
from pangen.recipes.recipe import DataSpec, Recipe, Training, build_model, settings_of
from pangen.recipes.stored import read_recipe, write_recipe

__all__ = [
    "RULE",
    "DataSpec",
    "Recipe",
    "Training",
    "build_model",
    "default_recipe",
    "read_recipe",
    "settings_of",
    "write_recipe",
]
