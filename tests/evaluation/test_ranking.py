"""Rank intervals: open where the data leave it open, shut where they do not, and right as often as promised."""

from __future__ import annotations

from typing import Any

import torch

from pangen.evaluation.ranking import rank_intervals
from pangen.rng import generator


def row(model: str, nats: torch.Tensor, seed: int = 0) -> dict[str, Any]:
    return {
        "model": model,
        "seed": seed,
        "likelihood": {"nats": float(nats.mean())},
        "draws": {"nats": nats.tolist()},
    }


def noise(n: int, *keys: int | str) -> torch.Tensor:
    return torch.randn(n, generator=generator("cpu", "rank", *keys), dtype=torch.float64)


def test_a_small_gap_on_every_point_decides_and_the_same_gap_amid_noise_does_not() -> None:
    """Pairing: models agree on which points are hard, so their difference is far surer than either number."""
    hard = 5 * noise(200, "hard")
    paired = [row("a", hard), row("b", hard - 0.1 + 0.01 * noise(200, "b"))]
    assert rank_intervals(paired)["nats"] == {"a": [1, 1], "b": [2, 2]}
    other = 5 * noise(200, "other")
    loose = [row("a", hard), row("b", other - other.mean() + hard.mean() - 0.1)]
    assert rank_intervals(loose)["nats"] == {"a": [1, 2], "b": [1, 2]}


def test_seeds_that_disagree_leave_the_places_open() -> None:
    hard = noise(200, "points")
    shifts = {"a": (0.0, 0.0, 0.0), "b": (-0.5, 0.6, -0.4), "c": (-9.0, -9.1, -9.05)}
    rows = [row(m, hard + s, i) for m, of in shifts.items() for i, s in enumerate(of)]
    found = rank_intervals(rows)["nats"]
    assert found == {"a": [1, 2], "b": [1, 2], "c": [3, 3]}
    alone = [r for r in rows if r["seed"] == 0]
    assert rank_intervals(alone)["nats"]["a"] == [1, 1]  # of these trainings, not of their like


def test_lower_is_better_of_distances_and_failures_have_no_place() -> None:
    rows = [
        {"model": m, "seed": 0, "fidelity": {"frechet": {"value": v}}, "draws": {"frechet": [v - 0.1, v, v + 0.1]}}
        for m, v in (("far", 9.0), ("near", 1.0))
    ]  # fmt: skip
    rows += [{"model": "gone", "seed": 0, "failed": "x"}]
    assert rank_intervals(rows) == {"frechet": {"far": [2, 2], "near": [1, 1]}}


def test_the_true_place_is_inside_as_often_as_promised() -> None:
    """Five models 0.05 nat apart on 100 points of deviation 0.3: at least 90 of 100 intervals hold the place."""
    hits = total = 0
    for trial in range(20):
        rows = [row(str(i), 0.3 * noise(100, trial, i) - 0.05 * i) for i in range(5)]
        for i, (best, worst) in enumerate(rank_intervals(rows)["nats"].values(), 1):
            hits += best <= i <= worst
            total += 1
    assert hits >= 0.9 * total
