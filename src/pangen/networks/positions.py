"""Where a token stands: sinusoids to add (Vaswani et al. 2017), rotations of queries and keys (Su et al. 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

BASE = 10_000.0


def angles(length: int, width: int) -> Tensor:
    """Place times frequency `(length, width / 2)`, frequencies BASE^(-2i / width)."""
    place = torch.arange(length, dtype=torch.float64)
    frequency = BASE ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    return place[:, None] * frequency


def sinusoids(length: int, width: int) -> Tensor:
    """PE `(length, width)`: sin at even entries, cos at odd (Vaswani et al. 2017, Section 3.5).

    PE(t + k) is a rotation of PE(t) that depends on k alone.
    """
    a = angles(length, width)
    pairs = torch.stack([a.sin(), a.cos()], -1)
    return pairs.flatten(1)[:, :width].to(torch.get_default_dtype())


class Rotary(nn.Module):
    """Turns each pair of entries by its place times its frequency (Su et al. 2021, Eqs. 14 and 15).

    A product of two turned vectors depends on how far apart they stand, and not on where.
    """

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        a = angles(length, width)
        turn = torch.stack([a.cos(), a.sin()], -1).to(torch.get_default_dtype())
        self.turn = nn.Buffer(turn, persistent=False)

    def forward(self, x: Tensor, first: int = 0) -> Tensor:
        """`x` `(..., T, width)` stands at places first .. first + T - 1."""
        turn = torch.view_as_complex(self.turn[first : first + x.shape[-2]])
        pairs = torch.view_as_complex(x.to(self.turn.dtype).unflatten(-1, (-1, 2)))
        return torch.view_as_real(pairs * turn).flatten(-2).to(x.dtype)
