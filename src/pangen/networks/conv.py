"""Residual convolutional networks for images of any size, odd and non-square ones too.

Sizes are halved rounding up and restored by interpolation to the size that was halved.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, silu

from pangen.networks.linear import Linear
from pangen.networks.mlp import zeroed


class ConvBlock(nn.Module):
    """Pre-norm residual block of two 3x3 convolutions, told the condition `(B, condition)`."""

    def __init__(self, inputs: int, outputs: int, condition: int = 0, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2, self.conv2 = _norm(outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.condition = Linear(condition, outputs) if condition else None
        self.dropout = nn.Dropout(dropout)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        h = self.conv1(silu(self.norm1(x)))
        if self.condition is not None:
            h = h + self.condition(condition)[:, :, None, None]
        return self.skip(x) + self.conv2(self.dropout(silu(self.norm2(h))))


class ResNet(nn.Module):
    """Residual blocks at full size: `(B, inputs, H, W)` to `(B, outputs, H, W)`."""

    def __init__(
        self, inputs: int, outputs: int, width: int, depth: int = 2, *, condition: int = 0, zero: bool = False
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(inputs, width, 3, padding=1)
        self.blocks = nn.ModuleList(ConvBlock(width, width, condition) for _ in range(depth))
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
        sizes, widths = _pyramid(shape, width)
        self.stem = nn.Conv2d(shape[0], widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(
            ConvBlock(a, b, condition, dropout=dropout)
            for a, b in zip([widths[0], *widths], widths, strict=False)
        )
        self.down = nn.ModuleList(nn.Conv2d(w, w, 3, stride=2, padding=1) for w in widths[:-1])
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
        self.sizes, widths = _pyramid(shape, width)
        self.stem = Linear(inputs, widths[-1] * math.prod(self.sizes[-1]))
        self.blocks = nn.ModuleList(
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

    `(B, inputs, H, W)` and a condition `(B, condition)` to `(B, outputs, H, W)`.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        inputs: int,
        outputs: int,
        width: int,
        *,
        condition: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        _, widths = _pyramid(shape, width)
        self.stem = nn.Conv2d(inputs, widths[0], 3, padding=1)
        self.downward = nn.ModuleList(
            ConvBlock(a, b, condition, dropout=dropout)
            for a, b in zip([widths[0], *widths], widths, strict=False)
        )
        self.down = nn.ModuleList(nn.Conv2d(w, w, 3, stride=2, padding=1) for w in widths[:-1])
        self.middle = ConvBlock(widths[-1], widths[-1], condition, dropout=dropout)
        above = [*widths[1:], widths[-1]]
        self.upward = nn.ModuleList(
            ConvBlock(a + b, b, condition, dropout=dropout) for a, b in zip(above, widths, strict=True)
        )
        self.norm, self.head = _norm(widths[0]), zeroed(nn.Conv2d(widths[0], outputs, 3, padding=1))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h, skips = self.stem(x), []
        for i, block in enumerate(self.downward):
            h = block(self.down[i - 1](h) if i else h, condition)
            skips.append(h)
        h = self.middle(h, condition)
        for block, skip in zip(reversed(self.upward), reversed(skips), strict=True):
            h = interpolate(h, size=skip.shape[2:]) if h.shape[2:] != skip.shape[2:] else h
            h = block(torch.cat([h, skip], 1), condition)
        return self.head(silu(self.norm(h)))


def _norm(channels: int) -> nn.GroupNorm:
    groups = math.gcd(
        8, max(channels // 4, 1), channels
    )  # alone in its group, a channel forgets what was added to it
    return nn.GroupNorm(groups, channels)


def _pyramid(shape: tuple[int, ...], width: int) -> tuple[list[tuple[int, int]], list[int]]:
    """Sizes from full to about 4 x 4, and channels that double with each halving, up to fourfold."""
    sizes = [(shape[1], shape[2])]
    while max(sizes[-1]) > 5 and min(sizes[-1]) > 1:
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return sizes, [width * min(2**i, 4) for i in range(len(sizes))]
