"""The last season over again: x_t = x_{t-s} + e_t, e_t ~ N(0, sigma^2) (Hyndman and Athanasopoulos 2021, Section 5.2)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pangen.families.classical.series import GaussianSeries, differences, exact, filtered, season, stitched
from pangen.settings import Natural
from pangen.space import Batch, Space


class SeasonalNaive(GaussianSeries):
    """What any forecast of a series has to beat: an hour ahead, the same hour of the day before.

    Args:
        period: s, steps of a season; 1: the last value over again; 0: found by `fit_exactly`.
    """

    def __init__(self, space: Space, *, period: Natural = 0) -> None:
        super().__init__(space, period)
        self.period = period
        self.sigma: Tensor = nn.Buffer(torch.ones(()))

    def delta(self) -> Tensor:
        return differences(self.period, 1, 0)

    def stationary(self, n: int) -> tuple[Tensor, Tensor]:
        return torch.zeros(1, dtype=torch.float64), exact(self.sigma) * torch.eye(n, dtype=torch.float64)

    def fit_exactly(self, train: Batch, validation: Batch) -> dict[str, Any]:
        x = stitched(train.x)
        self.period = self.period or season(x, self.space.shape[1] // 2)
        self.sigma = filtered(x, self.delta()).square().mean().sqrt().clamp(min=1e-3).float()
        self.start_from(x, self.period, self.sigma)
        return {"period": self.period}
