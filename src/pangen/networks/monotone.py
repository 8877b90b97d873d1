"""A function of a number that rises."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus


class Monotone(nn.Module):
    """s(t) from s(0) = 0 to s(1) = 1: a line and steps of a sigmoid, all rising (Kingma et al. 2021).

    A line at first, but for a little.
    """

    def __init__(self, units: int = 16) -> None:
        super().__init__()
        self.height = nn.Parameter(torch.full((units,), -5.0))
        self.steepness = nn.Parameter(torch.full((units,), 8.0))
        self.place = nn.Parameter(torch.linspace(0, 1, units))

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """s and its slope, both shaped as `t`."""
        a, w = softplus(self.height), softplus(self.steepness)

        def steps(t: Tensor) -> Tensor:
            return torch.sigmoid(w * (t[..., None] - self.place))

        ends = steps(torch.tensor([0.0, 1.0], device=a.device)) @ a
        at = steps(t)
        total = 1 + ends[1] - ends[0]
        return (t + (at * a).sum(-1) - ends[0]) / total, (1 + (at * (1 - at) * w * a).sum(-1)) / total
