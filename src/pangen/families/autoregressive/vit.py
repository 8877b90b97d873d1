"""The vision Transformer (Dosovitskiy et al. 2021): an image as a sequence of patches, with a token for its class."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pangen.families.autoregressive.classifier import Classifier
from pangen.networks.patches import Patches, even_patch
from pangen.networks.rounding import Precision, rounded
from pangen.networks.transformer import Block, check_heads, start
from pangen.settings import Count, Natural, Share
from pangen.space import Space


class ViT(Classifier):
    """An encoder of patches, each of which looks at all; the class is read from a token beside them.

    Images that are no multiple of the patch are filled up with zeros below and to the right.

    Args:
        patch: pixels along a patch's side; 0: the root of the shorter side, so that patches are as many as pixels in one.
        width: of the residual stream, a multiple of `heads`.
        depth: blocks.
        heads: of attention.
        dropout: of the embeddings and of what each block adds.
        precision: bfloat16 or float16 rounds the factors of the layers' products in training.
        smoothing: share of a label's probability that is given to all classes alike.
    """

    training_defaults: ClassVar[dict[str, Any]] = {**Classifier.training_defaults, "lr": 3e-3}

    def __init__(
        self,
        space: Space,
        *,
        patch: Natural = 0,
        width: Count = 64,
        depth: Count = 4,
        heads: Count = 4,
        dropout: Share = 0.1,
        precision: Precision = "full",
        smoothing: Share = 0.0,
    ) -> None:
        super().__init__(space, features=width, smoothing=smoothing)
        check_heads(width, heads)
        self.cut = Patches(space.shape, patch or even_patch(space.shape))
        self.embed = nn.Linear(self.cut.size, width)  # E of Eq. 1
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.position = nn.Parameter(0.02 * torch.randn(1 + math.prod(self.cut.grid), width))
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(depth))
        self.norm, self.dropout = nn.LayerNorm(width), nn.Dropout(dropout)
        self.precision = precision
        start(self.blocks, depth)

    def patches(self, x: Tensor) -> Tensor:
        """`(B, rows columns, C P P)`, row after row."""
        return self.cut(x).flatten(2).mT

    def features(self, x: Tensor) -> Tensor:
        h = self.embed(self.patches(self.pixels(x)))
        h = self.dropout(torch.cat([self.token.expand(len(x), -1, -1), h], 1) + self.position)  # Eq. 1
        with rounded(self, h):
            for block in self.blocks:  # Eqs. 2 and 3
                h = block(h)
        return self.norm(h[:, 0])  # Eq. 4
