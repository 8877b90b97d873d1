"""How long work takes, for benchmarks that let two sides take turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple


def clock(work: Callable[[], object], times: int = 1) -> float:
    """Seconds of one call, the mean over `times`."""
    began = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - began) / times


class Turns(NamedTuple):
    """The other's time over ours in each pair, and the median seconds of both."""

    ratios: list[float]
    ours: float
    theirs: float


def take_turns(ours: Callable[[], object], theirs: Callable[[], object], pairs: int, times: int = 1) -> Turns:
    """Each warmed up by one turn, then clocked one after the other, so that both meet the same machine."""
    both = (ours, theirs)
    for work in both:
        clock(work, times)
    seconds = [[clock(work, times) for work in both] for _ in range(pairs)]
    return Turns([b / a for a, b in seconds], *map(statistics.median, zip(*seconds, strict=True)))
