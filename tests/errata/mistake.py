"""What a mistake is: a title, its explanation, and damage that is measured whenever it is shown."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, wraps
from typing import Any, NamedTuple

import torch


class Damage(NamedTuple):
    """One measure of a mistake: what the wrong way comes to, and what the right way does."""

    measure: str
    wrong: float | str
    right: float | str
    proven: bool
    """Whether the wrong way is as wrong, and the right way as right, as is said."""


@dataclass(frozen=True)
class Mistake:
    """A function that measures it; its docstring says what is wrong and what is right."""

    number: int
    title: str
    measure: Callable[[], list[Damage]]


MISTAKES: dict[int, Mistake] = {}
"""All of them by number, once their modules are imported."""


def mistake(number: int, title: str) -> Callable[[Callable[[], list[Damage]]], Callable[[], list[Damage]]]:
    """Enter a measuring function among the mistakes; it measures once a process."""

    def enter(measure: Callable[[], list[Damage]]) -> Callable[[], list[Damage]]:
        @cache
        @wraps(measure)
        def measured() -> list[Damage]:
            with torch.random.fork_rng():
                torch.manual_seed(0)
                return measure()

        MISTAKES[number] = Mistake(number, title, measured)
        return measured

    return enter


def outcome(action: Callable[[], Any]) -> str:
    """The name of the exception that an action ends in, or that it works."""
    try:
        action()
    except Exception as error:
        return type(error).__name__
    return "works"


def near(value: float, expected: float, share: float = 0.01) -> bool:
    return math.isclose(value, expected, rel_tol=share)
