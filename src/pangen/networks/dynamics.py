"""Vector fields that move with time, and the products of their Jacobian with given directions."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from pangen.networks.linear import Linear, linear
from pangen.networks.mlp import zeroed
from pangen.networks.modules import listed
from pangen.networks.roles import Condition, convolutional
from pangen.space import Space

TOLD = 32
"""Entries of what each layer is told of time and class."""


class Dynamics(nn.Module):
    """f(z, t, y) `(B, *shape)`, zero at first, and J v for directions v `(k, B, *shape)`, J = df/dz.

    Layers are scaled and shifted by time and class ("concatsquash", Grathwohl et al. 2019), with
    tanh between. Directions are carried forward beside the values, so that neither needs a graph.
    Vectors and small images go through linear layers `width` wide, larger images through
    convolutions with `width` / 16 channels, at least 8.
    """

    def __init__(self, space: Space, width: int, depth: int) -> None:
        super().__init__()
        self.flat = not convolutional(space)
        self.time, self.condition = Linear(1, TOLD), Condition(space, TOLD)
        ends, inside = (space.dims, width) if self.flat else (space.shape[0], max(width // 16, 8))
        sizes = [ends, *[inside] * depth, ends]
        self.layers = listed(
            Linear(a, b) if self.flat else nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(sizes)
        )
        self.outputs = sizes[1:]
        self.gates, self.shifts = (Linear(TOLD, sum(self.outputs)) for _ in range(2))
        zeroed(self.layers[-1])
        nn.init.zeros_(self.shifts.weight[-ends:])
        nn.init.zeros_(self.shifts.bias[-ends:])

    def forward(
        self, z: Tensor, t: Tensor, y: Tensor | None = None, v: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Times `t` `(B,)`; either result has the shape of its input."""
        told = torch.tanh(self.time(t[:, None]) + self.condition(y, len(z)))
        gates, shifts = self.gates(told).sigmoid(), self.shifts(told)
        if not self.flat:
            gates, shifts = gates[:, :, None, None], shifts[:, :, None, None]
        h, d = z, v
        if self.flat:
            h, d = z.flatten(1), None if v is None else v.flatten(2)
        parts = zip(self.layers, gates.split(self.outputs, 1), shifts.split(self.outputs, 1), strict=True)
        for i, (layer, gate, shift) in enumerate(parts):
            if i:
                h = torch.tanh(h)
            if d is not None:
                d = self._linear(layer, d * (1 - h**2) if i else d) * gate
            h = torch.addcmul(shift, layer(h), gate)
        return h.view_as(z), None if d is None or v is None else d.view_as(v)

    def _linear(self, layer: Linear | nn.Conv2d, d: Tensor) -> Tensor:
        """The layer without its bias, on directions `(k, B, ...)`."""
        if self.flat:
            return linear(d, layer.weight)
        return conv2d(d.flatten(0, 1), layer.weight, padding=1).unflatten(0, d.shape[:2])
