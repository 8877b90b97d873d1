"""The two ways of a hierarchy of codes: up from an example, and down through the groups of codes.

Vectors, and images of fewer than 16 x 16 pixels, have one resolution, that of vectors. Larger images
have several: vectors, then maps from about 4 x 4 up to half of full size, where most of the work would
be for the least of the code. Features are `(B, width)` where `size` is None, else `(B, width, *size)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pixel_shuffle, silu

from pangen.networks.linear import Linear
from pangen.networks.mlp import zeroed
from pangen.networks.modules import listed
from pangen.networks.roles import Condition, convolutional
from pangen.networks.rounding import Precision, rounded
from pangen.space import Space

Size = tuple[int, int] | None


@dataclass(frozen=True)
class Level:
    """A resolution: its size and width, and the groups of codes there, of `code` channels each."""

    size: Size
    width: int
    groups: int
    code: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one group's code."""
        return (self.code, *(self.size or ()))

    @property
    def area(self) -> int:
        """Places of a map."""
        return math.prod(self.size or ())


def levels(space: Space, groups: Sequence[int], latent: int, channels: int, width: int) -> list[Level]:
    """The coarsest first; the last entry of `groups` counts for all levels that follow.

    Codes are vectors of `latent` numbers, then maps of `channels`.
    """
    sizes: list[Size] = [None]
    widths = [width]
    if convolutional(space):
        maps: list[tuple[int, int]] = []
        size = _half(space.shape[1:])
        while not maps or (max(maps[-1]) > 5 and min(maps[-1]) > 1):
            maps.append(size)
            size = _half(size)
        base = max(width // 16, 4)
        sizes += maps[::-1]
        widths = [4 * base, *[base * min(2**i, 2) for i in range(len(maps))][::-1]]
    counts = [*groups, *[groups[-1]] * len(sizes)]
    return [
        Level(size, width, n, channels if size else latent)
        for size, width, n in zip(sizes, widths, counts, strict=False)
    ]


class Upward(nn.Module):
    """Examples `(B, *shape)` and labels to one feature for each group, the coarsest first."""

    def __init__(
        self,
        space: Space,
        levels: Sequence[Level],
        depth: int,
        *,
        dropout: float = 0.0,
        precision: Precision = "full",
    ) -> None:
        super().__init__()
        self.space, self.precision = space, precision
        fine, told = levels[-1], levels[0].width
        self.condition = Condition(space, told)
        self.stem = (
            nn.Conv2d(space.shape[0], fine.width, 5, stride=2, padding=2)
            if fine.size
            else Linear(space.dims, fine.width)
        )
        upward = levels[::-1]
        self.down = listed(_Coarser(a, b, told) for a, b in pairwise([fine, *upward]))
        self.stages = listed(
            listed(_blocks(level, depth, dropout) for _ in range(level.groups)) for level in upward
        )
        self.heads = listed(
            _layer(level.width, level.width, level.size, 1) for level in upward for _ in range(level.groups)
        )

    def forward(self, x: Tensor, y: Tensor | None = None) -> list[Tensor]:
        x = 2 * x - 1 if self.space.kind == "binary" else x
        condition, features = self.condition(y, len(x)), []
        with rounded(self, x):
            h = _nhwc(self.stem(x if isinstance(self.stem, nn.Conv2d) else x.flatten(1)))
            for down, stage in zip(self.down, self.stages, strict=True):
                h = down(h, condition)
                for blocks in stage:
                    h = blocks(h)
                    features.append(h)
            return [head(h) for head, h in zip(self.heads, features, strict=True)][::-1]


class Group(nn.Module):
    """One group of codes on the way down: numbers for its prior and its posterior, and what it adds."""

    def __init__(self, above: Level, level: Level, depth: int, condition: int, *, dropout: float) -> None:
        super().__init__()
        size, width, code = level.size, level.width, level.code
        self.enter = None if above is level else _Finer(above, level, condition)
        self.blocks = _blocks(level, depth, dropout)
        self.prior, self.change = (zeroed(_layer(width, 2 * code, size, 1)) for _ in range(2))
        self.add = _layer(code, width, size, 1)


class Downward(nn.Module):
    """From labels, through the groups, to `outputs` numbers for each dimension of x."""

    def __init__(
        self,
        space: Space,
        levels: Sequence[Level],
        outputs: int,
        depth: int,
        *,
        dropout: float = 0.0,
        precision: Precision = "full",
    ) -> None:
        super().__init__()
        self.space, self.outputs, self.precision = space, outputs, precision
        each = [level for level in levels for _ in range(level.groups)]
        top, fine = each[0], each[-1]
        self.condition = Condition(space, top.width)
        self.groups = listed(
            Group(above, level, depth, top.width, dropout=dropout) for above, level in pairwise([top, *each])
        )
        self.last = _blocks(fine, depth, dropout)
        self.head = (
            nn.Conv2d(fine.width, 4 * outputs * space.shape[0], 3, padding=1)
            if fine.size
            else Linear(fine.width, outputs * space.dims)
        )

    def start(self, y: Tensor | None, n: int) -> Tensor:
        """The features above the first group, which are those of the condition."""
        return self.condition(y, n)

    def prior(self, i: int, h: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """The features at group i, and of its prior twice as many numbers `(B, 2 size)` as its code has."""
        group = self.groups[i]
        with rounded(self, h):
            h = group.blocks(group.enter(h, self.condition(y, len(h))) if group.enter else h)
            return h, self._full(group.prior(silu(h)))

    def posterior(self, i: int, h: Tensor, d: Tensor) -> Tensor:
        """The same of its posterior, from the features on the way down and those on the way up."""
        with rounded(self, h):
            return self._full(self.groups[i].change(silu(h + d)))

    def add(self, i: int, h: Tensor, z: Tensor) -> Tensor:
        """The features with the code of group i."""
        with rounded(self, h):
            return h + self.groups[i].add(z)

    def finish(self, h: Tensor) -> Tensor:
        """From the features below all groups: `(B, outputs, *shape)`."""
        with rounded(self, h):
            raw = self.head(silu(self.last(h)))
        if isinstance(self.head, nn.Conv2d):
            raw = pixel_shuffle(raw, 2)[:, :, : self.space.shape[1], : self.space.shape[2]]
        return self._full(raw).view(len(h), self.outputs, *self.space.shape)

    def _full(self, raw: Tensor) -> Tensor:
        return raw.flatten(1).to(self.condition.table.weight.dtype)


class Block(nn.Module):
    """Pre-norm residual block of two layers, nothing at first."""

    block: ClassVar[bool] = True

    def __init__(self, width: int, size: Size, dropout: float) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.a, self.b = _layer(width, width, size), zeroed(_layer(width, width, size))
        # of a map whole channels: neighbours tell of one another, and it costs little
        self.dropout = nn.Dropout2d(dropout) if size else nn.Dropout(dropout)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.b(self.dropout(silu(self.a(silu(self.norm(h))))))


def _blocks(level: Level, depth: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(*(Block(level.width, level.size, dropout) for _ in range(depth)))


def _layer(inputs: int, outputs: int, size: Size, kernel: int = 3) -> nn.Module:
    if size is None:
        return Linear(inputs, outputs)
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


class _Finer(nn.Module):
    """Features of a level at the next finer one, told the condition."""

    def __init__(self, above: Level, level: Level, condition: int) -> None:
        super().__init__()
        self.size, self.from_map = level.size or (), above.size is not None
        area = 1 if self.from_map else level.area
        self.layer = _layer(above.width, level.width * area, above.size, 1)
        self.told = Linear(condition, level.width)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        h = self.layer(h)
        h = interpolate(h, size=self.size) if self.from_map else _nhwc(h.unflatten(1, (-1, *self.size)))
        return _add(h, self.told(condition))


class _Coarser(nn.Module):
    """Features of a level at the next coarser one, or at the same, told the condition."""

    def __init__(self, level: Level, above: Level, condition: int) -> None:
        super().__init__()
        if above is level:
            self.layer: nn.Module = nn.Identity()
        elif above.size is None:
            flat = Linear(level.width * level.area, above.width)
            self.layer = nn.Sequential(nn.SiLU(), nn.Flatten(), flat)
        else:
            self.layer = nn.Conv2d(level.width, above.width, 3, stride=2, padding=1)
        self.told = Linear(condition, above.width)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        return _add(self.layer(h), self.told(condition))


def _half(size: Sequence[int]) -> tuple[int, int]:
    return (size[0] + 1) // 2, (size[1] + 1) // 2


def _nhwc(h: Tensor) -> Tensor:
    """Channels last in memory, the faster order for convolutions."""
    return h.contiguous(memory_format=torch.channels_last) if h.ndim == 4 else h


def _add(h: Tensor, each: Tensor) -> Tensor:
    return h + each.view(*each.shape, *[1] * (h.ndim - 2))
