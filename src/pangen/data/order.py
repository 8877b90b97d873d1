"""The order of an epoch's examples: a function of (seed, epoch, position), so there is no state to keep."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from pangen.rng import generator

BLOCK, BLOCKS = 256, 64
"""Examples of a block, and blocks of a group."""


class Order(Protocol):
    def at(self, epoch: int, start: int, stop: int) -> Tensor:
        """Which examples come from the `start`-th of an epoch up to the `stop`-th `(stop - start,)`."""
        ...


def order_of(n: int, seed: int, *, stored: bool) -> Order:
    """That in which `n` examples are read, in memory or stored."""
    return Nearby(n, seed) if stored else Shuffled(n, seed)


class Shuffled:
    """Any example may follow any other: each epoch is one permutation."""

    def __init__(self, n: int, seed: int) -> None:
        self.n, self.seed = n, seed
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def at(self, epoch: int, start: int, stop: int) -> Tensor:
        if epoch != self._epoch:
            self._epoch, self._order = epoch, _permuted(self.n, "order", self.seed, epoch)
        return self._order[start:stop]


class Nearby:
    """A shuffle buffer without a buffer: near in time is near on disk, and what is read again is still in memory.

    Consecutive examples form blocks. Each epoch permutes the blocks, takes them in groups, and permutes the examples
    of each group: all that is read for a while lies in `BLOCKS` stretches of `BLOCK` examples.
    """

    def __init__(self, n: int, seed: int, *, block: int = BLOCK, blocks: int = BLOCKS) -> None:
        self.n, self.seed, self.block, self.blocks = n, seed, block, blocks
        self._epoch, self._group = -1, -1

    def at(self, epoch: int, start: int, stop: int) -> Tensor:
        if epoch != self._epoch:
            self._begin(epoch)
        found = []
        while start < stop:
            group = int(torch.searchsorted(self._ends, start, right=True))
            examples, end = self._examples(group), int(self._ends[group])
            first = end - len(examples)
            found.append(examples[start - first : stop - first])
            start = min(end, stop)
        return torch.cat(found) if found else torch.empty(0, dtype=torch.long)

    def _begin(self, epoch: int) -> None:
        order = _permuted(-(-self.n // self.block), "order", self.seed, epoch)
        sizes = (self.n - order * self.block).clamp(max=self.block)  # the last block may be shorter
        self._epoch, self._group, self._order = epoch, -1, order.split(self.blocks)
        self._ends = torch.stack([part.sum() for part in sizes.split(self.blocks)]).cumsum(0)

    def _examples(self, group: int) -> Tensor:
        """Of a group, in their order."""
        if group != self._group:
            index = (self._order[group][:, None] * self.block + torch.arange(self.block)).flatten()
            index = index[index < self.n]
            mixed = _permuted(len(index), "order", self.seed, self._epoch, group)
            self._group, self._mixed = group, index[mixed]
        return self._mixed


def _permuted(n: int, *keys: int | str) -> Tensor:
    return torch.randperm(n, generator=generator("cpu", *keys))
