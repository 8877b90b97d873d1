"""Rank intervals: the places that a model can have, given how many test examples and seeds there were."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import permutations
from typing import Any

import torch
from torch import Tensor

from pangen.evaluation.intervals import LEVEL, RESAMPLES, resampling_weights
from pangen.evaluation.summary import number

RANKED = {"nats": 1, "frechet": -1}
"""Measures that models are ranked by, and the sign of what is better."""
DRAWS = 100


def rank_intervals(rows: Iterable[dict[str, Any]]) -> dict[str, dict[str, list[int]]]:
    """`{measure: {model: [best place, worst place]}}` from rows with `draws`.

    A place is lost to each model that is better beyond doubt, and the last places to those that are
    worse. Doubt is that of the paired difference: its variance over resampled test points, the same
    for both models, plus that over seeds, by Welch's t; at 95 % for all rivals of a model together
    (Bonferroni), so that the true place is inside with that probability (Mogstad et al. 2024).
    """
    good = [row for row in rows if "failed" not in row]
    found: dict[str, dict[str, list[int]]] = {}
    for measure, sign in RANKED.items():
        models: dict[str, dict[int, tuple[float, Tensor]]] = {}
        for row in good:
            value, drawn = number(row, measure), row["draws"].get(measure)
            if value is not None and drawn:
                models.setdefault(row["model"], {})[row["seed"]] = (
                    sign * value,
                    sign * _replicates(drawn, measure),
                )
        if models:
            found[measure] = _places(models)
    return found


def _replicates(drawn: list[float], measure: str) -> Tensor:
    """The measure over resampled test points; of likelihoods from one value a point."""
    values = torch.tensor(drawn, dtype=torch.float64)
    if measure != "nats":
        return values
    parts = [resampling_weights(len(values), DRAWS, "ranks", i) @ values for i in range(RESAMPLES // DRAWS)]
    return torch.cat(parts)


def _places(models: dict[str, dict[int, tuple[float, Tensor]]]) -> dict[str, list[int]]:
    better = dict.fromkeys(models, 0)
    worse = dict(better)
    for a, b in permutations(models, 2):
        if _surely_better(models[a], models[b], rivals=len(models) - 1):
            worse[a] += 1
            better[b] += 1
    return {name: [1 + better[name], len(models) - worse[name]] for name in models}


def _surely_better(
    a: dict[int, tuple[float, Tensor]], b: dict[int, tuple[float, Tensor]], *, rivals: int
) -> bool:
    from scipy.stats import norm, t

    seeds = sorted(set(a) & set(b))
    if not seeds:
        return False
    gaps = torch.tensor([a[s][0] - b[s][0] for s in seeds], dtype=torch.float64)
    of_points = float(torch.stack([a[s][1] - b[s][1] for s in seeds]).mean(0).var())
    n, level = len(seeds), 1 - (1 - LEVEL) / (2 * rivals)
    of_seeds = float(gaps.var()) / n if n > 1 else 0.0
    error = math.sqrt(of_points + of_seeds)
    if error == 0 or of_seeds == 0:
        quantile = norm.ppf(level)
    else:
        quantile = t.ppf(level, (n - 1) * ((of_points + of_seeds) / of_seeds) ** 2)
    return float(gaps.mean()) > quantile * error
