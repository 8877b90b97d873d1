"""Strided convolutions with batch normalisation, and their transposes (Radford et al. 2016, Section 3)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, relu

from pangen.networks.critic import Projection
from pangen.networks.modules import listed
from pangen.networks.roles import Condition
from pangen.space import Space

BOTTOM = 4
"""The side at which halving ends."""
LABEL = 16
"""Numbers that tell a generator its label."""

Side = tuple[int, int]


def halvings(shape: tuple[int, ...]) -> list[Side]:
    """Sides from full to at most 4, each half of the one before, rounded up."""
    sides = [(shape[1], shape[2])]
    while max(sides[-1]) > BOTTOM:
        sides.append(((sides[-1][0] + 1) // 2, (sides[-1][1] + 1) // 2))
    return sides


def kernel(side: Side) -> Side:
    """What halves a side with stride 2 and a margin of 1: 4 where it is even, 3 where it is odd."""
    return 3 + (side[0] + 1) % 2, 3 + (side[1] + 1) % 2


class Labelled(nn.Module):
    """Codes `(B, noise)` and labels to `(B, outputs)`: beside a code stand numbers that tell its label, if there are any."""

    def __init__(self, space: Space, noise: int) -> None:
        super().__init__()
        self.condition = Condition(space, LABEL) if space.condition else None
        self.outputs = noise + (LABEL if self.condition else 0)

    def forward(self, z: Tensor, y: Tensor | None) -> Tensor:
        return z if self.condition is None else torch.cat([z, self.condition(y, len(z))], 1)


class Deconvolution(nn.Module):
    """Codes `(B, noise)` and labels to images `(B, C, H, W)`, without a last activation."""

    def __init__(self, space: Space, noise: int, width: int) -> None:
        super().__init__()
        sides = halvings(space.shape)
        widths = [space.shape[0], *(width * 2**i for i in range(len(sides) - 1))]
        self.labelled = Labelled(space, noise)
        steps = [nn.ConvTranspose2d(self.labelled.outputs, widths[-1], sides[-1], bias=len(widths) == 1)]
        for (large, small), side in zip(pairwise(widths), sides, strict=False):
            last = large == widths[0] and side == sides[0]
            steps.insert(1, nn.ConvTranspose2d(small, large, kernel(side), 2, 1, bias=last))
        self.layers = listed(steps)
        self.norms = listed(nn.BatchNorm2d(layer.out_channels) for layer in steps[:-1])
        start(self)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        h = self.layers[0](self.labelled(z, y)[:, :, None, None])
        for norm, layer in zip(self.norms, self.layers[1:], strict=True):
            h = layer(relu(norm(h)))
        return h


class Convolution(nn.Module):
    """Images `(B, C, H, W)` and labels, by projection, to logits `(B,)`."""

    def __init__(self, space: Space, width: int) -> None:
        super().__init__()
        sides = halvings(space.shape)
        widths = [space.shape[0], *(width * 2**i for i in range(len(sides) - 1))]
        self.layers = listed(
            nn.Conv2d(a, b, kernel(side), 2, 1, bias=False)
            for (a, b), side in zip(pairwise(widths), sides, strict=False)
        )
        self.norms = listed(nn.BatchNorm2d(layer.out_channels) for layer in self.layers[1:])
        self.head = nn.Conv2d(widths[-1], 1, sides[-1], bias=False)
        self.told = Projection(space, widths[-1]) if space.condition else None
        start(self)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        h = x
        for i, layer in enumerate(self.layers):
            h = layer(h)
            h = leaky_relu(self.norms[i - 1](h) if i else h, 0.2)
        logit = self.head(h).flatten()
        return logit if self.told is None else logit + self.told(h.mean((2, 3)), y)


def start(network: nn.Module) -> None:
    """Weights from N(0, 0.02^2), scales of norms from N(1, 0.02^2)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, std=0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
