"""The diffusion Transformer: attention between places of a map, each block told the condition by its norms.

Peebles and Xie 2023. What a norm lets through is shifted and scaled, and what a block adds is gated, by linear maps of the
condition that are zero at first (adaLN-Zero): each block starts as the identity. The wider the layers, the slower each
weight moves what they put out, so that one learning rate suits all widths (Yang et al. 2021).
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm

from pangen.networks.linear import Linear
from pangen.networks.mlp import zeroed
from pangen.networks.positions import sinusoids
from pangen.networks.transformer import Attention

HEAD, BASE = 32, 128
"""Width of a head, and that up to which weights move as they are."""


class DiT(nn.Module):
    """`(B, inputs, *grid)`, one side or two, and a condition `(B, condition)` to `(B, outputs, *grid)`, zero at first.

    Each place of the map is a token.
    """

    def __init__(
        self, grid: tuple[int, ...], inputs: int, outputs: int, width: int, depth: int = 6, *, condition: int
    ) -> None:
        super().__init__()
        self.grid, heads = grid, math.gcd(width, max(width // HEAD, 1))
        self.embed = Linear(inputs, width)
        self.places = nn.Buffer(places(grid, width), persistent=False)
        self.blocks = nn.ModuleList(DiTBlock(width, heads, condition) for _ in range(depth))
        self.told, self.slow = zeroed(Linear(condition, 2 * width)), slowness(width)
        self.head = zeroed(Linear(width, outputs))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = self.embed(x.flatten(2).mT.contiguous()) + self.places
        for block in self.blocks:
            h = block(h, condition)
        shift, scale = self.told(self.slow * condition)[:, None].chunk(2, -1)
        return self.head(self.slow * modulated(h, shift, scale)).mT.unflatten(2, self.grid)


class DiTBlock(nn.Module):
    """Attention, then an MLP; shift, scale and gate of each come from the condition (Figure 3)."""

    block: ClassVar[bool] = True

    def __init__(self, width: int, heads: int, condition: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.widen, self.narrow = Linear(width, 4 * width), Linear(4 * width, width)
        self.told, self.slow = zeroed(Linear(condition, 6 * width)), slowness(width)
        for layer in (self.attention.qkv, self.attention.project, self.widen, self.narrow):
            layer.weight.data.div_(self.slow)  # which the factors below make up for

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        told = self.told(self.slow * condition)[:, None]
        shift, scale, gate, shift2, scale2, gate2 = told.chunk(6, -1)
        h = h + self.slow * gate * self.attention(self.slow * modulated(h, shift, scale))
        inner = gelu(self.widen(self.slow * modulated(h, shift2, scale2)))
        return h + self.slow * gate2 * self.narrow(inner)


def slowness(width: int) -> float:
    """What products of so many numbers are multiplied by."""
    return min(BASE / width, 1.0)


def modulated(h: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Each token to mean 0 and variance 1, then as the condition says."""
    return layer_norm(h, h.shape[-1:]) * (1 + scale) + shift


def places(grid: tuple[int, ...], width: int) -> Tensor:
    """Sinusoids of each coordinate side by side `(places, width)`."""
    at = torch.cartesian_prod(*map(torch.arange, grid)).view(-1, len(grid))
    shares = [len(part) for part in torch.arange(width).tensor_split(len(grid))]
    parts = zip(grid, shares, at.T, strict=True)
    return torch.cat([sinusoids(side, share)[i] for side, share, i in parts], 1)
