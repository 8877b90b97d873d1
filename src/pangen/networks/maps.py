"""Networks from examples to maps of vectors and back: images keep their layout, four times as coarse.

Small images and vectors go through perceptrons, as in `networks.roles`.
"""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, silu

from pangen.networks.conv import ConvBlock
from pangen.networks.mlp import ResidualMLP
from pangen.networks.roles import convolutional
from pangen.space import Space

HALVINGS = 2
"""Of each side of an image, rounding up."""


def grid_of(space: Space, slots: int) -> tuple[int, ...]:
    """The layout of the map of an example: `(h, w)` of an image, `(slots,)` of a vector."""
    return _sizes(space)[-1] if space.is_image else (slots,)


class MapEncoder(nn.Module):
    """Examples `(B, *shape)` to maps `(B, outputs, *grid)`; `width` / 8 channels at the coarsest size."""

    def __init__(self, space: Space, outputs: int, grid: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.space, self.map = space, (outputs, *grid)
        self.net: nn.Module
        if convolutional(space):
            widths = [space.shape[0], *_widths(width)]
            layers: list[nn.Module] = []
            for a, b in pairwise(widths):
                layers += [nn.Conv2d(a, b, 3, stride=2, padding=1), ConvBlock(b, b)]
            self.net = nn.Sequential(
                *layers, ConvBlock(b, b), nn.GroupNorm(1, b), nn.SiLU(), nn.Conv2d(b, outputs, 1)
            )
        else:
            self.net = ResidualMLP(space.dims, math.prod(self.map), width)

    def forward(self, x: Tensor) -> Tensor:
        x = 2 * x - 1 if self.space.kind == "binary" else x
        return self.net(x if convolutional(self.space) else x.flatten(1)).reshape(-1, *self.map)


class MapDecoder(nn.Module):
    """The mirror of `MapEncoder`: `(B, inputs, *grid)` to `(B, channels, *shape)`."""

    def __init__(self, space: Space, inputs: int, grid: tuple[int, ...], channels: int, width: int) -> None:
        super().__init__()
        self.out = (channels, *space.shape)
        if convolutional(space):
            self.net: nn.Module = _Upward(space, inputs, channels * space.shape[0], width)
        else:
            perceptron = ResidualMLP(inputs * math.prod(grid), channels * space.dims, width)
            self.net = nn.Sequential(nn.Flatten(1), perceptron)

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z).reshape(-1, *self.out)


class _Upward(nn.Module):
    """Twice as large again and again, each pixel becoming four (Shi et al. 2016), cut to the sizes halved."""

    def __init__(self, space: Space, inputs: int, outputs: int, width: int) -> None:
        super().__init__()
        widths = [*_widths(width)[::-1], max(width // 16, 8)]
        self.sizes = _sizes(space)[-2::-1]
        self.stem = nn.Sequential(nn.Conv2d(inputs, widths[0], 3, padding=1), ConvBlock(widths[0], widths[0]))
        self.blocks = nn.ModuleList(ConvBlock(a, a) for a in widths[:-1])
        self.up = nn.ModuleList(nn.Conv2d(a, 4 * b, 1) for a, b in pairwise(widths))
        self.head = nn.Conv2d(widths[-1], outputs, 3, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        h = self.stem(h)
        for (rows, columns), block, up in zip(self.sizes, self.blocks, self.up, strict=True):
            h = pixel_shuffle(up(block(h)), 2)[:, :, :rows, :columns]
        return self.head(silu(h))


def _sizes(space: Space) -> list[tuple[int, int]]:
    """From full size to the coarsest."""
    sizes = [(space.shape[1], space.shape[2])]
    for _ in range(HALVINGS):
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return sizes


def _widths(width: int) -> list[int]:
    """Channels at each size but the full one."""
    return [max(width // 8 // 2**i, 8) for i in reversed(range(HALVINGS))]
