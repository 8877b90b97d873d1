"""How long work takes, for benchmarks that let two sides take turns."""

from __future__ import annotations

import time
from collections.abc import Callable


def clock(work: Callable[[], object], times: int = 1) -> float:
    """Seconds of one call, the mean over `times`."""
    began = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - began) / times
