"""Masks that cut the dimensions of one example in two: 1 where a coupling looks, 0 where it moves."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial, reduce
from itertools import cycle

import torch
from torch import Tensor


def checkerboard(shape: tuple[int, ...], parity: int) -> Tensor:
    """A mask of every other entry of a vector, or every other pixel of an image of any size."""
    places = torch.meshgrid(*map(torch.arange, shape[-2:]), indexing="ij")
    return _every_other(reduce(torch.add, places), parity, shape)


def stripes(shape: tuple[int, ...], parity: int, axis: int) -> Tensor:
    """A mask of every other index along one axis: rows, columns or channels."""
    index = torch.arange(shape[axis]).view([-1 if i == axis else 1 for i in range(len(shape))])
    return _every_other(index, parity, shape)


def halves(shape: tuple[int, ...], parity: int) -> Tensor:
    """A mask of the first half of the channels, or of a vector's entries, or of the second half."""
    index = (torch.arange(shape[0]) >= shape[0] // 2).long().view(-1, *[1] * (len(shape) - 1))
    return _every_other(index, parity, shape)


def _every_other(index: Tensor, parity: int, shape: tuple[int, ...]) -> Tensor:
    return ((index + parity) % 2).float().expand(shape)


def mask_pairs(shape: tuple[int, ...], n: int) -> Iterator[tuple[Tensor, Tensor]]:
    """n complementary pairs of masks, each cutting the dimensions another way.

    An image of any size: checkerboard, rows, columns. (The last two are channels of a squeezed
    image.) A vector: odd and even entries, first and second half.
    """
    cuts = [checkerboard, halves]
    if len(shape) == 3:
        cuts = [checkerboard, partial(stripes, axis=1), partial(stripes, axis=2)]
    return ((cut(shape, 0), cut(shape, 1)) for _, cut in zip(range(n), cycle(cuts), strict=False))
