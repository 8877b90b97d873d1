"""Recipes: everything that decides a run, as Python values."""

from pangen.recipes.defaults import RULE, default_recipe
from pangen.recipes.recipe import DataSpec, Recipe, Training, build_model, settings_of

__all__ = ["RULE", "DataSpec", "Recipe", "Training", "build_model", "default_recipe", "settings_of"]
