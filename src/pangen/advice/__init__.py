"""Which models to take for some data, from what comparisons have measured."""

from pangen.advice.advise import advise

__all__ = ["advise"]
