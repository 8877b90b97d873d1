"""Sines and cosines of random projections: what lets a perceptron bend quickly (Rahimi and Recht 2007)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pangen.networks.roles import Encoder
from pangen.space import Space

FREQUENCY = 2.0
"""Of the projections: radians a standard deviation of each coordinate, in the plane."""


class RandomFourier(nn.Module):
    """`(B, dims)` to `(B, dims + 2 projections)`: x, sin(x.A), cos(x.A), A fixed (Tancik et al. 2020).

    Angles of unit-variance x have standard deviation f sqrt(2), whatever the dimension; f runs from
    `lowest` to `highest` in equal ratios.
    """

    def __init__(
        self, dims: int, projections: int, lowest: float = FREQUENCY, highest: float = FREQUENCY
    ) -> None:
        super().__init__()
        self.outputs = dims + 2 * projections
        f = lowest * (highest / lowest) ** torch.linspace(0, 1, projections)
        self.A = nn.Buffer(torch.randn(dims, projections) * f * (2 / dims) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        angle = x @ self.A
        return torch.cat([x, angle.sin(), angle.cos()], 1)


def scores(space: Space, outputs: int, width: int) -> nn.Module:
    """A network from examples to `(B, outputs)` that knows no labels; vectors pass through waves first."""
    if space.is_image:
        return Encoder(Space("real", space.shape), outputs, width)
    waves = RandomFourier(space.dims, width // 2)
    return nn.Sequential(waves, Encoder(Space("real", (waves.outputs,)), outputs, width))
