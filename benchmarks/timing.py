"""How long work takes, and between what the median of such times lies."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence


def clock(work: Callable[[], object], times: int = 1) -> float:
    """Seconds of one call, the mean over `times`."""
    began = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - began) / times


def around_the_median(values: Sequence[float]) -> tuple[float, float]:
    """The narrowest order statistics with the median between them with 95 % probability; of six values or more."""
    n, ordered, outside = len(values), sorted(values), 0.0
    for k in range(n):  # the probability that the median is beyond the k-th from either end, counted from 0
        outside += 2 * math.comb(n, k) / 2**n
        if outside > 0.05:
            break
    return ordered[k - 1], ordered[n - k]
