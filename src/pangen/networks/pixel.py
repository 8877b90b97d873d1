"""Convolutions over images whose output at a pixel sees the pixels before it in raster order, and only those.

Two stacks (van den Oord et al. 2016b, Section 2.1): a vertical one sees the rows above, to either side, and a
horizontal one the pixels to the left and the vertical one. Kernels have weights for what may be seen and no
others, and the image is padded and shifted to meet them (Salimans et al. 2017, Section 2.4). Square kernels
under a mask give the same functions, but multiply by zeros for half of their time, and would have to be cut
out again to compute one more row or pixel, which is how samples are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Protocol, TypeVar

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import glu, pad

from pangen.networks.linear import Linear, linear
from pangen.networks.modules import listed

FIRST = 7
"""Size of the first kernel (van den Oord et al. 2016a, Table 1)."""


class Growing(Protocol):
    """The cache: a batch of growing images, of which `seen` pixels are known; it goes on in one way only."""

    seen: int
    context: Tensor
    """`(B, channels, 1, 1)`, from which the next pixel is predicted."""


G = TypeVar("G", bound=Growing)


class Causal(Protocol[G]):
    """Layers by which a pixel's context knows earlier pixels and no others."""

    def __call__(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Features `(B, inputs, H, W)` to contexts `(B, channels, H, W)`; `y` `(B, condition)`."""
        ...

    def start(self, n: int, width: int, y: Tensor | None = None) -> G:
        """The cache of `n` images, `width` wide, of which nothing is known."""
        ...

    def advance(self, cache: G, x: Tensor) -> None:
        """One more pixel is known, `x` `(B, inputs, 1, 1)`: the context becomes that of the one after it."""
        ...


class Conv(nn.Conv2d):
    """A convolution; a window as small as the kernel is one product of matrices."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] == self.kernel_size:
            return linear(x.flatten(1), self.weight.flatten(1), self.bias)[..., None, None]
        return super().forward(x)


@dataclass
class Past:
    """What a layer keeps of a growing image: what its kernels cover, and what is known of the present row."""

    label: tuple[Tensor, Tensor]
    rows: Tensor
    pixels: Tensor
    told: Tensor = field(init=False)


@dataclass
class Cache:
    """A batch of growing images, of which `seen` pixels are known; it goes on in one way only.

    `context` `(B, channels, 1, 1)` is what the next pixel is predicted from, `row` `(B, inputs + 1, 1, W)` holds
    the present row as far as it is known.
    """

    layers: list[Past]
    row: Tensor
    context: Tensor = field(init=False)
    seen: int = 0


class GatedLayer(nn.Module):
    """One layer of both stacks, with residual and skip connections (van den Oord et al. 2016b, Figure 2).

    The `first` layer excludes the pixel itself. All others include it, because what stands there by then
    knows only what came before.
    """

    block: ClassVar[bool] = True

    def __init__(
        self, inputs: int, channels: int, kernel: int, *, first: bool, condition: int, dropout: float
    ) -> None:
        super().__init__()
        half, shift = kernel // 2, int(first)
        self.first, self.sides = first, (half, half)
        self.above, self.before = (half, half, half, -shift), (half, -shift, 0, 0)
        self.vertical = Conv(inputs, 2 * channels, (half + 1 - shift, kernel))
        self.horizontal = Conv(inputs, 2 * channels, (1, half + 1 - shift))
        self.link = Conv(2 * channels, 2 * channels, 1)
        self.leave = Conv(channels, 2 * channels, 1)
        self.label = Linear(condition, 4 * channels, bias=False) if condition else None
        self.dropout = nn.Dropout2d(dropout)  # whole channels: neighbours tell of one another

    def tell(self, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """What the condition `(B, condition)`, if there is one, adds in each stack (Eq. 4)."""
        if self.label is None:
            nothing = self.leave.weight.new_zeros(())
            return nothing, nothing
        vertical, horizontal = self.label(y)[..., None, None].chunk(2, 1)
        return vertical, horizontal

    def down(self, v: Tensor, label: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """What a padded `v` adds to the vertical stack, and what it tells the horizontal one."""
        a = self.vertical(v)
        return self.dropout(gate(a + label[0])), self.link(a) + label[1]

    def right(self, h: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        """What a padded `h` adds to the horizontal stack, and to the skip connections."""
        residual, skip = self.leave(self.dropout(gate(self.horizontal(h) + told))).chunk(2, 1)
        return residual, skip

    def forward(self, v: Tensor, h: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Both stacks `(B, channels, H, W)` one layer on, and the skip connection."""
        more_v, told = self.down(pad(v, self.above), self.tell(y))
        more_h, skip = self.right(pad(h, self.before), told)
        return self._add(v, more_v), self._add(h, more_h), skip

    def start(self, n: int, width: int, y: Tensor | None) -> Past:
        """Nothing is known of `n` images."""
        zeros, inputs = self.vertical.weight.new_zeros, self.vertical.in_channels
        rows = zeros(n, inputs, self.vertical.kernel_size[0], width)
        return Past(self.tell(y), rows, zeros(n, inputs, *self.horizontal.kernel_size))

    def next_row(self, past: Past, v: Tensor) -> Tensor:
        """A row of the vertical stack `(B, channels, 1, W)` one layer on."""
        past.rows = torch.cat([past.rows[:, :, 1:], v], 2)
        past.pixels = torch.zeros_like(past.pixels)
        more, past.told = self.down(pad(past.rows, self.sides), past.label)
        return self._add(v, more)

    def next_pixel(self, past: Past, h: Tensor, column: int) -> tuple[Tensor, Tensor]:
        """A pixel of the horizontal stack `(B, channels, 1, 1)` one layer on, and its skip connection."""
        past.pixels = torch.cat([past.pixels[..., 1:], h], 3)
        more, skip = self.right(past.pixels, past.told[..., column : column + 1])
        return self._add(h, more), skip

    def _add(self, x: Tensor, more: Tensor) -> Tensor:
        return more if self.first else x + more


class LevelFeatures(nn.Module):
    """What stands for levels `(B, C, H, W)`: their place from -1 to 1 and an embedding, `(B, C size, H, W)`.

    Args:
        embed: length of the embedding; 0: none.
    """

    def __init__(self, levels: int, embed: int) -> None:
        super().__init__()
        self.size = 1 + embed
        self.place = nn.Buffer(torch.linspace(-1, 1, levels)[:, None], persistent=False)
        self.embed = nn.Embedding(levels, embed) if embed else None

    def forward(self, levels: Tensor) -> Tensor:
        parts = [self.place[levels]] + ([self.embed(levels)] if self.embed else [])
        return rearrange(torch.cat(parts, -1), "b c h w f -> b (c f) h w")


class GatedStacks(nn.Module):
    """Features `(B, inputs, H, W)` to what each pixel is predicted from `(B, channels, H, W)`.

    A pixel sees FIRST // 2 + depth (kernel // 2) rows above it, as many columns to either side there, and as
    many pixels to its left.

    Args:
        depth: layers after the first.
        condition: length of the condition vector; 0: none.
    """

    def __init__(
        self, inputs: int, channels: int, depth: int, kernel: int, *, condition: int, dropout: float
    ) -> None:
        super().__init__()
        layer = partial(GatedLayer, condition=condition, dropout=dropout)
        self.layers = listed(
            [layer(inputs + 1, channels, FIRST, first=True)]
            + [layer(channels, channels, kernel, first=False) for _ in range(depth)]
        )

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        v = h = inside(x)
        context = x.new_zeros(())
        for layer in self.layers:
            v, h, skip = layer(v, h, y)
            context = context + skip
        return context

    def start(self, n: int, width: int, y: Tensor | None = None) -> Cache:
        """The cache of `n` images, `width` wide, of which nothing is known."""
        layers = [layer.start(n, width, y) for layer in self.layers]
        cache = Cache(layers, torch.zeros_like(layers[0].rows[:, :, :1]))
        self._row(cache)
        return cache

    def advance(self, cache: Cache, x: Tensor) -> None:
        """One more pixel is known, `x` `(B, inputs, 1, 1)`: the context becomes that of the one after it."""
        width = cache.row.shape[-1]
        column, x = cache.seen % width, inside(x)
        cache.row[..., column : column + 1] = x
        cache.seen += 1
        if column + 1 == width:
            self._row(cache)
        else:
            self._pixel(cache, x)

    def _row(self, cache: Cache) -> None:
        v = cache.row
        for layer, past in zip(self.layers, cache.layers, strict=True):
            v = layer.next_row(past, v)
        self._pixel(cache, torch.zeros_like(cache.row[..., :1]))

    def _pixel(self, cache: Cache, h: Tensor) -> None:
        cache.context, column = cache.row.new_zeros(()), cache.seen % cache.row.shape[-1]
        for layer, past in zip(self.layers, cache.layers, strict=True):
            h, skip = layer.next_pixel(past, h, column)
            cache.context = cache.context + skip


class ChannelHead(nn.Module):
    """`outputs` numbers for each channel of a pixel, which know the context and the channels before it.

    Gated linear units (Dauphin et al. 2017): linear in the channels before, but for the gate.
    """

    def __init__(self, context: int, channels: int, features: int, outputs: int) -> None:
        super().__init__()
        self.features = features
        self.enter = listed(Conv(context + c * features, 2 * context, 1) for c in range(channels))
        self.leave = listed(Conv(context, outputs, 1) for _ in range(channels))

    def one(self, context: Tensor, x: Tensor, channel: int) -> Tensor:
        """Of one channel `(B, outputs, H, W)`; of `x` `(B, channels features, H, W)` those before it are read."""
        seen = torch.cat([context, x[:, : channel * self.features]], 1)
        return self.leave[channel](glu(self.enter[channel](seen), 1))

    def forward(self, context: Tensor, x: Tensor) -> Tensor:
        """`(B, outputs, channels, H, W)`."""
        return torch.stack([self.one(context, x, c) for c in range(len(self.enter))], 2)


def inside(x: Tensor) -> Tensor:
    """With a channel of ones, by which the image differs from what pads it."""
    return torch.cat([x, torch.ones_like(x[:, :1])], 1)


def gate(x: Tensor) -> Tensor:
    """tanh of one half of the channels, let through by the sigmoid of the other (Eq. 2)."""
    a, b = x.chunk(2, 1)
    return a.tanh() * b.sigmoid()
