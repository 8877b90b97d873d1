"""Texts as vectors: a small Transformer that reads them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pangen.networks.linear import Linear
from pangen.networks.positions import sinusoids
from pangen.networks.transformer import Block, start
from pangen.space import Space

WIDEST, DEPTH, HEADS = 64, 2, 4


class TextEncoder(nn.Module):
    """Texts `(B, S)` of a space of tokens to vectors `(B, width)`: the mean of what their tokens have read.

    A text is read up to its end, the end with it: of an empty one, the null condition, that is all there is.
    """

    def __init__(self, space: Space, width: int) -> None:
        super().__init__()
        inner = HEADS * max(min(width, WIDEST) // HEADS, 1)
        self.end = space.levels if space.end is None else space.end
        self.embed = nn.Embedding(max(space.levels, self.end + 1), inner)
        self.places = nn.Buffer(sinusoids(space.shape[0], inner), persistent=False)
        self.blocks = nn.ModuleList(Block(inner, HEADS, 0.0) for _ in range(DEPTH))
        self.norm, self.out = nn.LayerNorm(inner), Linear(inner, width)
        start(self.blocks, DEPTH)

    def forward(self, y: Tensor) -> Tensor:
        """Each text once, in training; else all at full length, so that no row depends on others to the last bit."""
        if not self.training:
            return self.read(y)
        longest = int((y != self.end).sum(1).max()) + 1
        texts, which = y[:, :longest].unique(dim=0, return_inverse=True)
        return self.read(texts)[which]

    def read(self, y: Tensor) -> Tensor:
        """Every row by itself."""
        ended = y == self.end
        read = ended.cumsum(1) - ended.long() == 0  # nothing behind the first end
        x = self.embed(y) + self.places[: y.shape[1]]
        for block in self.blocks:
            x = block(x, read[:, None, None])
        x = torch.where(read[..., None], self.norm(x), 0.0)
        return self.out(x.sum(1) / read.sum(1, keepdim=True))
