"""A U-Net as textbooks print it, after Ho et al. 2020, without attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, silu


class Residual(nn.Module):
    """Two convolutions of size 3, the time added between them."""

    def __init__(self, a: int, b: int, time: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, a), nn.Conv2d(a, b, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(8, b), nn.Conv2d(b, b, 3, padding=1)
        self.time, self.skip = nn.Linear(time, b), nn.Conv2d(a, b, 1) if a != b else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.conv1(silu(self.norm1(x))) + self.time(silu(time))[:, :, None, None]
        return self.skip(x) + self.conv2(silu(self.norm2(h)))


class Textbook(nn.Module):
    """Two blocks at each of three sizes on the way down, three on the way up, each with a skip (Ho et al. 2020)."""

    def __init__(self, colours: int, widths: tuple[int, int, int]) -> None:
        super().__init__()
        first, time = widths[0], 4 * widths[0]
        self.time = nn.Sequential(nn.Linear(first, time), nn.SiLU(), nn.Linear(time, time))
        self.stem = nn.Conv2d(colours, first, 3, padding=1)
        kept, at = [first], first
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for i, width in enumerate(widths):
            for _ in range(2):
                self.down.append(Residual(at, width, time))
                kept.append(at := width)
            if i < 2:
                self.down.append(nn.Conv2d(at, at, 3, stride=2, padding=1))
                kept.append(at)
        self.middle = nn.ModuleList(Residual(at, at, time) for _ in range(2))
        for i, width in reversed(list(enumerate(widths))):
            for _ in range(3):
                self.up.append(Residual(at + kept.pop(), width, time))
                at = width
            if i:
                self.up.append(nn.Conv2d(at, at, 3, padding=1))
        self.norm, self.head = nn.GroupNorm(8, at), nn.Conv2d(at, colours, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        half = self.stem.out_channels // 2
        angle = t[:, None] * 10_000.0 ** (-torch.arange(half) / half)
        time = self.time(torch.cat([angle.sin(), angle.cos()], 1))
        h = self.stem(x)
        kept = [h]
        for layer in self.down:
            h = layer(h, time) if isinstance(layer, Residual) else layer(h)
            kept.append(h)
        for layer in self.middle:
            h = layer(h, time)
        for layer in self.up:
            if isinstance(layer, Residual):
                h = layer(torch.cat([h, kept.pop()], 1), time)
            else:
                h = layer(interpolate(h, scale_factor=2.0))
        return self.head(silu(self.norm(h)))
