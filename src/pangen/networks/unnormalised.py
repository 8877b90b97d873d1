"""Networks without normalisation, of one shape for a generator and its critic.

Of images: residual blocks that start as the identity (Zhang et al. 2019; Huang et al. 2024, Section 3.5).
Of vectors: perceptrons behind waves.
"""

from __future__ import annotations

import math
from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu

from pangen.networks.critic import Projection
from pangen.networks.deconvolution import Labelled, Side, halvings
from pangen.networks.fourier import RandomFourier
from pangen.networks.linear import Linear
from pangen.space import Space

FEWEST = 8
"""Channels of images at any size, where there are as many."""
UNITS = 2
"""Units of a network of vectors over `channels`."""
GROUP = 16
"""Channels of a group of a grouped convolution."""
STAGES = 2
"""Hidden layers of a network of vectors, but for its first, over `blocks`."""
CODES, EXAMPLES = (2.0, 2.0), (3.0, 30.0)
"""Lowest and highest frequency of waves: in codes modes are wide, in examples they may be narrow."""
EXPANSION = 2
"""Channels within a block over those between blocks."""
GAIN = math.sqrt(2 / (1 + 0.2**2))
"""Of weights before a leaky rectifier of slope 0.2 (He et al. 2015)."""


Layer = TypeVar("Layer", nn.Conv2d, Linear)


def scaled(layer: Layer, gain: float) -> Layer:
    """The layer with weights N(0, gain^2 / inputs of a unit) and no bias yet."""
    nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class Block(nn.Module):
    """x + three convolutions of it, 1x1, grouped 3x3 and 1x1; the last starts at zero."""

    block: ClassVar[bool] = True

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        inside = EXPANSION * width
        gain = GAIN * depth ** (-1 / 4)  # what depth residual blocks add keeps the size of one
        groups = max(inside // GROUP, 1) if inside % GROUP == 0 else 1
        layers = (
            nn.Conv2d(width, inside, 1),
            nn.Conv2d(inside, inside, 3, padding=1, groups=groups),
            nn.Conv2d(inside, width, 1, bias=False),
        )
        self.layers = nn.ModuleList(
            scaled(layer, g) for layer, g in zip(layers, (gain, gain, 0.0), strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        a, b, c = self.layers
        return x + c(leaky_relu(b(leaky_relu(a(x), 0.2)), 0.2))


class Resampled(nn.Module):
    """To another size, bilinearly, and to another number of channels."""

    def __init__(self, inputs: int, outputs: int, side: Side) -> None:
        super().__init__()
        self.side = side
        self.mix = (
            scaled(nn.Conv2d(inputs, outputs, 1, bias=False), 1.0) if inputs != outputs else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.side[0] * self.side[1] < x.shape[2] * x.shape[3]:
            return self.mix(resized(x, self.side))
        return resized(self.mix(x), self.side)


def resized(x: Tensor, side: Side) -> Tensor:
    """Bilinear, never in half precision; for factors of 2 the filter [1, 3, 3, 1] (Karras et al. 2020b)."""
    if side == tuple(x.shape[2:]):
        return x
    shrinks = side[0] * side[1] < x.shape[2] * x.shape[3]
    exact = x.to(torch.promote_types(x.dtype, torch.float32))
    return interpolate(exact, side, mode="bilinear", align_corners=False, antialias=shrinks).to(x.dtype)


class Grown(nn.Module):
    """Vectors `(B, inputs)` to small images `(B, channels, *side)`: learnt ones, weighed."""

    def __init__(self, inputs: int, channels: int, side: Side) -> None:
        super().__init__()
        self.weigh = scaled(Linear(inputs, channels), 1.0)
        self.basis = nn.Parameter(torch.randn(channels, *side))

    def forward(self, z: Tensor) -> Tensor:
        return self.weigh(z)[:, :, None, None] * self.basis


class UnnormalisedGenerator(nn.Module):
    """Codes `(B, noise)` and labels to `(B, *shape)`.

    Those of vectors pass through waves first: modes lie apart, and the way between two has to be short.
    """

    def __init__(self, space: Space, noise: int, channels: int, blocks: int) -> None:
        super().__init__()
        self.shape = space.shape
        self.labelled = Labelled(space, noise)
        inputs = self.labelled.outputs
        if space.is_image:
            sides, widths = stages(space, channels)
            layers: list[nn.Module] = [Grown(inputs, widths[-1], sides[-1])]
            for i in reversed(range(len(sides))):
                layers += _blocks(widths[i], blocks, len(sides))
                layers += [Resampled(widths[i], widths[i - 1], sides[i - 1])] if i else []
            head: nn.Module = scaled(nn.Conv2d(widths[0], space.shape[0], 1), 1.0)
        else:
            width = UNITS * channels
            layers = _perceptron(inputs, width, STAGES * blocks, CODES)
            head = scaled(Linear(width, space.dims), 1.0)
        self.net = nn.Sequential(*layers, head)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.net(self.labelled(z, y)).view(len(z), *self.shape)


class UnnormalisedCritic(nn.Module):
    """Examples and labels, by projection, to logits `(B,)`, of which only differences count.

    Vectors pass through waves first: a perceptron alone is slow to see what lies close together.
    """

    def __init__(self, space: Space, channels: int, blocks: int) -> None:
        super().__init__()
        self.binary = space.kind == "binary"
        if space.is_image:
            sides, widths = stages(space, channels)
            layers: list[nn.Module] = [scaled(nn.Conv2d(space.shape[0], widths[0], 1), 1.0)]
            for i, side in enumerate(sides):
                layers += [Resampled(widths[i - 1], widths[i], side)] if i else []
                layers += _blocks(widths[i], blocks, len(sides))
            width = widths[-1]
            end = nn.Conv2d(width, width, sides[-1], groups=width, bias=False)  # one sum for each channel
            layers += [scaled(end, 1.0)]
        else:
            width = UNITS * channels
            layers = [nn.Flatten(), *_perceptron(space.dims, width, STAGES * blocks, EXAMPLES)]
        self.net, self.head = nn.Sequential(*layers, nn.Flatten()), Projection(space, width, bias=False)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.head(self.net(2 * x - 1 if self.binary else x), y)


def _blocks(width: int, each: int, stages: int) -> list[nn.Module]:
    return [Block(width, each * stages) for _ in range(each)]


def _perceptron(inputs: int, width: int, depth: int, frequencies: tuple[float, float]) -> list[nn.Module]:
    """Vectors to units `(B, width)`: waves, and `depth` hidden layers behind the first."""
    waves = RandomFourier(inputs, width // 2, *frequencies)
    layers: list[nn.Module] = [waves]
    for units in [waves.outputs] + [width] * depth:
        layers += [Linear(units, width), nn.SiLU()]  # smooth, as penalties differentiate it twice
    return layers


def stages(space: Space, channels: int) -> tuple[list[Side], list[int]]:
    """Sizes, full size first, and their channels: `channels` at the smallest, and half as many at each above it."""
    sides = halvings(space.shape)
    return sides, [max(channels // 2**i, min(FEWEST, channels)) for i in reversed(range(len(sides)))]
