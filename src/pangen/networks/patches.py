"""Examples as maps whose places are patches: of images squares, of rows and vectors pieces."""

from __future__ import annotations

import math
from itertools import count

from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import pad

from pangen.errors import PangenError

LAYOUTS = {1: ("b c (i p)", "b (c p) i"), 2: ("b c (i p) (j q)", "b (c p q) i j")}
"""Of examples and of maps, by the number of sides."""


class Patches(nn.Module):
    """`(B, *shape)` to maps `(B, size, *grid)` and back; a vector is a row of one channel.

    Sides that are no multiple of the patch are filled up with zeros at their ends, which are cut off on the way back.
    """

    def __init__(self, shape: tuple[int, ...], patch: int) -> None:
        super().__init__()
        self.shape, (channels, *sides) = shape, rows(shape)
        if patch > max(sides):
            size = " x ".join(map(str, sides))
            raise PangenError(
                f"model.patch = {patch} is larger than an example of {size}; give at most {max(sides)}."
            )
        self.grid = tuple(math.ceil(side / patch) for side in sides)
        self.size, self.sides = channels * patch ** len(sides), tuple(sides)
        self.fill = [n for side in reversed(sides) for n in (0, -side % patch)]
        self.examples, self.maps = LAYOUTS[len(sides)]
        self.patch, self.cut = patch, dict.fromkeys("pq"[: len(sides)], patch)

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(len(x), -1, *self.sides)
        x = pad(x, self.fill) if any(self.fill) else x
        return rearrange(x, f"{self.examples} -> {self.maps}", **self.cut)

    def inverse(self, x: Tensor) -> Tensor:
        x = rearrange(x, f"{self.maps} -> {self.examples}", **self.cut)
        for axis, side in enumerate(self.sides, 2):
            x = x.narrow(axis, 0, side)
        return x.reshape(len(x), *self.shape)


def rows(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of an example, a vector taken for a row of one channel."""
    return shape if len(shape) > 1 else (1, *shape)


def even_patch(shape: tuple[int, ...]) -> int:
    """The root of the shortest side, so that patches are as many as numbers in one."""
    return math.isqrt(min(rows(shape)[1:]))


def patch_for(shape: tuple[int, ...], most: int) -> int:
    """The smallest patch that leaves at most so many places."""
    sides = rows(shape)[1:]
    return next(p for p in count(1) if math.prod(math.ceil(side / p) for side in sides) <= most)
