"""A causal Transformer: pre-norm blocks, learned positions left to its user, a cache as an argument."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import dropout, gelu, scaled_dot_product_attention


@dataclass
class Cache:
    """Keys and values `(depth, B, heads, length, head)` of which the first `seen` are filled.

    It belongs to one growing sequence: whoever continues two ways keeps two caches.
    """

    keys: Tensor
    values: Tensor
    seen: int = 0


class Block(nn.Module):
    """Causal self-attention, then an MLP, each added to what it read (Radford et al. 2019, Section 2.3)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, cache: Cache | None = None, layer: int = 0) -> Tensor:
        """`x` `(B, T, width)`; with a cache these are the T tokens after those it has seen."""
        q, k, v = rearrange(
            self.qkv(self.norm1(x)), "b t (three h d) -> three b h t d", three=3, h=self.heads
        )
        mask = None
        if cache is not None:
            past, now = cache.seen, cache.seen + x.shape[1]
            cache.keys[layer, :, :, past:now], cache.values[layer, :, :, past:now] = k, v
            k, v = cache.keys[layer, :, :, :now], cache.values[layer, :, :, :now]
            mask = torch.ones(x.shape[1], now, dtype=torch.bool, device=x.device).tril(past)
        a = scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None)
        x = x + dropout(self.project(rearrange(a, "b h t d -> b t (h d)")), self.dropout, self.training)
        h = self.narrow(gelu(self.widen(self.norm2(x))))
        return x + dropout(h, self.dropout, self.training)


class CausalTransformer(nn.Module):
    """Vectors `(B, T, width)` to vectors `(B, T, width)`; output t sees inputs 0 .. t.

    Weights start from N(0, 0.02^2), those that write into the residual stream from a
    1 / sqrt(2 depth) part of that (Radford et al. 2019, Section 2.3).
    """

    def __init__(self, width: int, depth: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        for name, parameter in self.named_parameters():
            if name.endswith(("project.weight", "narrow.weight")):
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * depth))
            elif parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def new_cache(self, batch: int, length: int) -> Cache:
        """An empty cache for `length` tokens."""
        scale, heads = self.norm.weight, self.blocks[0].heads
        shape = (len(self.blocks), batch, heads, length, len(scale) // heads)
        return Cache(scale.new_zeros(shape), scale.new_zeros(shape))

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """With a cache, `x` holds only the inputs it has not seen, and it is advanced in place."""
        for layer, block in enumerate(self.blocks):
            x = block(x, cache, layer)
        if cache is not None:
            cache.seen += x.shape[1]
        return self.norm(x)
