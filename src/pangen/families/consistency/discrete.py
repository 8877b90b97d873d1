"""Consistency in discrete time: f agrees at two noise levels of one path, the lower of which is the target.

Song et al. 2023. The distance is pseudo-Huber and the target the model itself, not an average of its
past (Song and Dhariwal 2024, Sections 3.2 and 3.3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pangen.families.consistency.distillation import Estimate, heun
from pangen.families.consistency.levels import (
    Pairs,
    log_normal_gaps,
    log_normal_neighbours,
    uniform_neighbours,
)
from pangen.networks.preconditioning import column
from pangen.space import Progress


@dataclass(frozen=True)
class Discrete:
    """How pairs of levels are drawn, and into how many intervals the path is cut at first and at the end."""

    pairs: Pairs
    coarsest: int
    finest: int

    def intervals(self, progress: Progress) -> int:
        """N(k) - 1, Song and Dhariwal 2024, Section 3.4; q^a of Geng et al. 2024 with q = 2."""
        stages = math.log2(self.finest / self.coarsest) + 1
        return min(self.coarsest * 2 ** int(progress.fraction * stages), self.finest)

    def __call__(
        self, f: Estimate, x0: Tensor, e: Tensor, teacher: Estimate | None, progress: Progress
    ) -> Tensor:
        lower, upper = self.pairs(self.intervals(progress), x0)
        x = x0 + column(upper, x0) * e
        with torch.no_grad():
            below = heun(teacher, x, upper, lower) if teacher else x0 + column(lower, x0) * e
            target = f(below, lower)
        c = 0.00054 * math.sqrt(x0[0].numel())
        distance = ((f(x, upper) - target).square().flatten(1).sum(1) + c**2).sqrt() - c  # Eq. 8
        return (distance / (upper - lower)).mean()


DISCRETE = {
    "scratch": Discrete(log_normal_neighbours, 10, 160),
    "distil": Discrete(uniform_neighbours, 18, 18),
    "tune": Discrete(log_normal_gaps, 2, 256),
}
"""By method."""
