"""What is told of a comparison while it goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pangen.training.fit import Event


@dataclass(frozen=True)
class Stage:
    """What a progress bar is told: which model of how many, and what happens to it."""

    model: str
    index: int
    """From 0."""
    count: int
    what: Event | str
    """A training event, or the name of another stage: "loading", "evaluating", "done" or "failed: ..."."""


Report = Callable[[Stage], None]
