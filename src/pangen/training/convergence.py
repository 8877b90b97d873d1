"""Whether a training was long enough, by its scores on the validation split, of which less is better."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import median

FEWEST = 8
"""Scores without which nothing is said."""
FALLING = 0.05
"""Share of all that was gained since the first score which, gained in the last quarter, is much: most schedules let the
rate fall to nothing there."""
SURE = 5.0
"""Spreads of the scores' noise that a gain must have."""
LAG = 0.1
"""Share of all that was gained which weights may lose by being averaged."""

Scores = Sequence[tuple[int, float]]
"""Steps and scores, in order."""


def falling_warnings(scores: Scores, name: str) -> list[str]:
    """Whether the score was still falling at the end."""
    if not _tell(scores):
        return []
    values, end = [value for _, value in scores], scores[-1][0]
    before = next(value for step, value in reversed(scores) if step <= 0.75 * end)
    gain, all_gain = before - values[-1], values[0] - values[-1]
    if values[-1] > min(values) or gain <= max(FALLING * all_gain, SURE * noise(values)):
        return []
    return [
        f"the training has not converged: its last quarter brought {gain / all_gain:.0%} of all that the validation "
        f"{name} has fallen by: raise --budget or --steps."
    ]


def _tell(scores: Scores) -> bool:
    return len(scores) >= FEWEST and all(math.isfinite(value) for _, value in scores)


def noise(values: Sequence[float]) -> float:
    """The standard deviation of scores about a smooth curve, from second differences of the later half."""
    late = values[len(values) // 2 :]
    bends = [abs(a - 2 * b + c) for a, b, c in zip(late, late[1:], late[2:], strict=False)]
    return median(bends) / (
        0.6745 * 6**0.5
    )  # of a Gaussian, whose second difference has six times the variance


def lag_warnings(scores: Scores, of_weights: Callable[[], float], name: str) -> list[str]:
    """Whether the average of the weights, which has the scores, is far behind the weights themselves."""
    if not _tell(scores):
        return []
    first, last, plain = scores[0][1], scores[-1][1], of_weights()
    if last - plain <= max(LAG * (first - plain), SURE * noise([value for _, value in scores])):
        return []
    return [
        f"the average of the weights lags behind them: with it the validation {name} is {last:.4g}, and without it "
        f"{plain:.4g}: lower training.ema, or raise --budget."
    ]
