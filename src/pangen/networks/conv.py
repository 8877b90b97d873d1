"""Residual convolutional networks for images of any size, odd and non-square ones too; a U-Net for rows as well.

Sizes are halved rounding up and restored by interpolation to the size that was halved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, silu

from pangen.networks.linear import Linear
from pangen.networks.mlp import zeroed
from pangen.networks.modules import listed

CONVOLUTION: dict[int, type[nn.Conv1d | nn.Conv2d]] = {1: nn.Conv1d, 2: nn.Conv2d}
"""By the number of sides: of rows `(C, L)` and of images `(C, H, W)`."""


class ConvBlock(nn.Module):
    """Pre-norm residual block of two convolutions of size 3, told the condition `(B, condition)` or `(1, condition)`."""

    block: ClassVar[bool] = True

    def __init__(
        self, inputs: int, outputs: int, condition: int = 0, *, sides: int = 2, dropout: float = 0.0
    ) -> None:
        super().__init__()
        conv = CONVOLUTION[sides]
        self.norm1, self.conv1 = _norm(inputs), conv(inputs, outputs, 3, padding=1)
        self.norm2, self.conv2 = _norm(outputs), conv(outputs, outputs, 3, padding=1)
        self.condition = Linear(condition, outputs) if condition else None
        self.dropout = nn.Dropout(dropout)
        self.skip = conv(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        h = self.conv1(silu(self.norm1(x)))
        if self.condition is not None:
            h = h + self.condition(condition).view(-1, h.shape[1], *[1] * (h.ndim - 2))
        return self.skip(x) + self.conv2(self.dropout(silu(self.norm2(h))))


class ResNet(nn.Module):
    """Residual blocks at full size: `(B, inputs, H, W)` to `(B, outputs, H, W)`."""

    def __init__(
        self, inputs: int, outputs: int, width: int, depth: int = 2, *, condition: int = 0, zero: bool = False
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(inputs, width, 3, padding=1)
        self.blocks = listed(ConvBlock(width, width, condition) for _ in range(depth))
        self.norm, self.head = _norm(width), nn.Conv2d(width, outputs, 3, padding=1)
        if zero:
            zeroed(self.head)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        h = self.stem(x)
        for block in self.blocks:
            h = block(h, condition)
        return self.head(silu(self.norm(h)))


class ConvEncoder(nn.Module):
    """Halve down to about 4 x 4, then one linear layer: `(B, C, H, W)` to `(B, outputs)`."""

    def __init__(
        self, shape: tuple[int, ...], outputs: int, width: int, *, condition: int = 0, dropout: float = 0.0
    ) -> None:
        super().__init__()
        sizes, widths = _pyramid(shape[1:], width)
        self.stem = nn.Conv2d(shape[0], widths[0], 3, padding=1)
        self.blocks = listed(
            ConvBlock(a, b, condition, dropout=dropout)
            for a, b in zip([widths[0], *widths], widths, strict=False)
        )
        self.down = listed(nn.Conv2d(w, w, 3, stride=2, padding=1) for w in widths[:-1])
        self.norm, self.head = _norm(widths[-1]), Linear(widths[-1] * math.prod(sizes[-1]), outputs)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        h = self.stem(x)
        for i, block in enumerate(self.blocks):
            h = block(self.down[i - 1](h) if i else h, condition)
        return self.head(silu(self.norm(h)).flatten(1))


class ConvDecoder(nn.Module):
    """The mirror of `ConvEncoder`: `(B, inputs)` to `(B, outputs, H, W)`."""

    def __init__(
        self, shape: tuple[int, ...], inputs: int, outputs: int, width: int, *, condition: int = 0
    ) -> None:
        super().__init__()
        self.sizes, widths = _pyramid(shape[1:], width)
        self.stem = Linear(inputs, widths[-1] * math.prod(self.sizes[-1]))
        self.blocks = listed(
            ConvBlock(a, b, condition)
            for a, b in zip([widths[-1], *widths[::-1]], widths[::-1], strict=False)
        )
        self.norm, self.head = _norm(widths[0]), nn.Conv2d(widths[0], outputs, 3, padding=1)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        h = self.stem(z).unflatten(1, (-1, *self.sizes[-1]))
        for size, block in zip(self.sizes[::-1], self.blocks, strict=True):
            h = block(interpolate(h, size=size) if h.shape[2:] != size else h, condition)
        return self.head(silu(self.norm(h)))


class UNet(nn.Module):
    """Encoder and decoder with a skip at every size (Ronneberger et al. 2015), output at zero first.

    `(B, inputs, *sides)`, one side or two, and a condition `(B, condition)` to `(B, outputs, *sides)`.
    """

    def __init__(
        self,
        sides: tuple[int, ...],
        inputs: int,
        outputs: int,
        width: int,
        depth: int = 1,
        *,
        condition: int,
    ) -> None:
        super().__init__()
        conv = CONVOLUTION[len(sides)]

        def blocks(a: int, b: int) -> Sequence[ConvBlock]:
            widths = [a, *[b] * depth]
            return listed(ConvBlock(*ends, condition, sides=len(sides)) for ends in pairwise(widths))

        widths = _pyramid(sides, width)[1]
        self.stem = conv(inputs, widths[0], 3, padding=1)
        self.downward = listed(map(blocks, [widths[0], *widths[:-1]], widths))
        self.down = listed(conv(w, w, 3, stride=2, padding=1) for w in widths[:-1])
        self.middle = blocks(widths[-1], widths[-1])
        above = [*widths[1:], widths[-1]]
        self.upward = listed(blocks(a + b, b) for a, b in zip(above, widths, strict=True))
        self.norm, self.head = _norm(widths[0]), zeroed(conv(widths[0], outputs, 3, padding=1))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        def through(blocks: Sequence[ConvBlock], h: Tensor) -> Tensor:
            for block in blocks:
                h = block(h, condition)
            return h

        h, skips = self.stem(x), []
        for i, blocks in enumerate(self.downward):
            h = through(blocks, self.down[i - 1](h) if i else h)
            skips.append(h)
        h = through(self.middle, h)
        for blocks, skip in zip(reversed(self.upward), reversed(skips), strict=True):
            h = interpolate(h, size=skip.shape[2:]) if h.shape[2:] != skip.shape[2:] else h
            h = through(blocks, torch.cat([h, skip], 1))
        return self.head(silu(self.norm(h)))


def _norm(channels: int) -> nn.GroupNorm:
    groups = math.gcd(
        8, max(channels // 4, 1), channels
    )  # alone in its group, a channel forgets what was added to it
    return nn.GroupNorm(groups, channels)


def _pyramid(sides: tuple[int, ...], width: int) -> tuple[list[tuple[int, ...]], list[int]]:
    """Sizes from full to about 4 on each side, and channels that double with each halving, up to fourfold."""
    sizes = [sides]
    while max(sizes[-1]) > 5 and min(sizes[-1]) > 1:
        sizes.append(tuple((side + 1) // 2 for side in sizes[-1]))
    return sizes, [width * min(2**i, 4) for i in range(len(sizes))]
