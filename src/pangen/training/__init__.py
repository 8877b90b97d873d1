"""One training loop for every family."""

from pangen.training.fit import Event, fit_recipe

__all__ = ["Event", "fit_recipe"]
