"""Tokens as vectors, together with those next to them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from pangen.networks.modules import listed
from pangen.space import Space


class Neighbours(nn.Module):
    """The sum of embeddings of a token and of those around it, one table for each offset.

    In text two on either side, in images the eight around it and the same place in the channels next to
    it, in raster order. Where there is none stands a token of its own. The index `levels` is a mask.
    """

    def __init__(self, space: Space, width: int) -> None:
        super().__init__()
        W = space.shape[-1]
        near = {1, W - 1, W, W + 1, W * space.shape[-2]} if space.is_image else {1, 2}
        near = {b for b in near if 0 < b < space.dims}
        self.offsets, self.none = [0, *sorted(near | {-b for b in near})], space.levels + 1
        self.embed = listed(nn.Embedding(space.levels + 2, width) for _ in self.offsets)
        for table in self.embed:
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """`(B, L)` to `(B, L, width)`."""
        L, most = tokens.shape[1], max(self.offsets)
        padded = pad(tokens, (most, most), value=self.none)
        return torch.stack(
            [
                embed(padded[:, most + b : most + b + L])
                for b, embed in zip(self.offsets, self.embed, strict=True)
            ]
        ).sum(0)
