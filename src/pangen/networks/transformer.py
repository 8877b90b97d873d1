"""Transformers: attention, pre-norm blocks, positions left to their user, a cache as an argument."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import dropout, gelu, scaled_dot_product_attention

from pangen.errors import PangenError
from pangen.networks.linear import Linear, linear
from pangen.networks.modules import listed
from pangen.networks.positions import Rotary


@dataclass
class Cache:
    """Keys and values `(depth, B, heads, length, head)` of which the first `seen` are filled.

    It belongs to one growing sequence: whoever continues two ways keeps two caches.
    """

    keys: Tensor
    values: Tensor
    seen: int = 0

    def add(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values of a layer, these being the next."""
        now = self.seen + k.shape[-2]
        self.keys[layer, :, :, self.seen : now], self.values[layer, :, :, self.seen : now] = k, v
        return self.keys[layer, :, :, :now], self.values[layer, :, :, :now]


Remembered = tuple[Tensor, Tensor]
"""Keys and values `(B, heads, S, head)` of a memory."""


def check_heads(width: int, heads: int, name: str = "model.width") -> None:
    """Raise where a stream cannot be shared out evenly to heads."""
    if width % heads:
        raise PangenError(f"{name} = {width} is no multiple of model.heads = {heads}; change one.")


class Attention(nn.Module):
    """Scaled dot-product attention of several heads (Vaswani et al. 2017, Eq. 1 and Section 3.2.2)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.width, self.heads = width, heads
        self.qkv, self.project = Linear(width, 3 * width), Linear(width, width)

    def forward(
        self,
        x: Tensor,
        memory: Tensor | Remembered | None = None,
        mask: Tensor | None = None,
        *,
        causal: bool = False,
        cache: Cache | None = None,
        layer: int = 0,
        rotary: Rotary | None = None,
    ) -> Tensor:
        """What each of `x` `(B, T, width)` reads from `memory` `(B, S, width)`, or from `x` itself.

        `mask` `(B or 1, 1, T, S)` is true where it may look. `causal`: x sees itself and what is before it;
        with a cache these are the T tokens after those it has seen. `rotary` turns queries and keys of x.
        """
        if memory is None:
            q, k, v = parts = self.split(self.qkv(x), 3)
            if rotary is not None:
                q, k = rotary(parts[:2], cache.seen if cache else 0)
        else:
            (q,) = self.split(linear(x, self.qkv.weight[: self.width], self.qkv.bias[: self.width]), 1)
            k, v = memory if isinstance(memory, tuple) else self.remember(memory)
        if cache is not None:
            k, v = cache.add(layer, k, v)
            T, S = q.shape[-2], k.shape[-2]
            causal = T == S  # a single token sees all
            mask = torch.ones(T, S, dtype=torch.bool, device=x.device).tril(S - T) if 1 < T < S else None
        a = attend(q, k, v, mask, causal=causal and mask is None)
        return self.project(rearrange(a, "b h t d -> b t (h d)"))

    def remember(self, memory: Tensor) -> Remembered:
        """What stands for a memory that is read more than once."""
        k, v = self.split(linear(memory, self.qkv.weight[self.width :], self.qkv.bias[self.width :]), 2)
        return k, v

    def split(self, x: Tensor, n: int) -> Tensor:
        """`n` tensors `(B, heads, T, head)` side by side."""
        return rearrange(x, "b t (n h d) -> n b h t d", n=n, h=self.heads)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, causal: bool) -> Tensor:
    """What queries `(B, heads, T, head)` read; never of half precision on a processor, where its gradient is slow."""
    if q.is_cpu and q.dtype.itemsize == 2:
        with torch.autocast("cpu", enabled=False):
            return attend(q.float(), k.float(), v.float(), mask, causal=causal)
    return scaled_dot_product_attention(q, k, v, mask, is_causal=causal)


class Block(nn.Module):
    """Self-attention, then an MLP, each added to what it read (Radford et al. 2019, Section 2.3)."""

    block: ClassVar[bool] = True

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.widen, self.narrow = Linear(width, 4 * width), Linear(4 * width, width)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        *,
        causal: bool = False,
        cache: Cache | None = None,
        layer: int = 0,
        rotary: Rotary | None = None,
    ) -> Tensor:
        """`x` `(B, T, width)`; the rest as in `Attention`."""
        a = self.attention(self.norm1(x), None, mask, causal=causal, cache=cache, layer=layer, rotary=rotary)
        x = x + dropout(a, self.dropout, self.training)
        h = self.narrow(gelu(self.widen(self.norm2(x))))
        return x + dropout(h, self.dropout, self.training)


def start(blocks: nn.Module, depth: int) -> None:
    """Weights from N(0, 0.02^2), those that write into the residual stream from a 1 / sqrt(2 depth) part
    of that (Radford et al. 2019, Section 2.3)."""
    for name, parameter in blocks.named_parameters():
        if name.endswith(("project.weight", "narrow.weight")):
            nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * depth))
        elif parameter.dim() == 2:
            nn.init.normal_(parameter, std=0.02)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)


class CausalTransformer(nn.Module):
    """Vectors `(B, T, width)` to vectors `(B, T, width)`; output t sees inputs 0 .. t.

    `rotary`: places for which attention knows how far apart two tokens stand; 0: it does not.
    """

    def __init__(self, width: int, depth: int, heads: int, dropout: float = 0.0, *, rotary: int = 0) -> None:
        super().__init__()
        self.rotary = Rotary(rotary, width // heads) if rotary else None
        self.blocks = listed(Block(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        start(self, depth)

    def new_cache(self, batch: int, length: int) -> Cache:
        """An empty cache for `length` tokens."""
        scale, heads = self.norm.weight, self.blocks[0].attention.heads
        shape = (len(self.blocks), batch, heads, length, len(scale) // heads)
        return Cache(scale.new_zeros(shape), scale.new_zeros(shape))

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """With a cache, `x` holds only the inputs it has not seen, and it is advanced in place."""
        for layer, block in enumerate(self.blocks):
            x = block(x, causal=True, cache=cache, layer=layer, rotary=self.rotary)
        if cache is not None:
            cache.seen += x.shape[1]
        return self.norm(x)
