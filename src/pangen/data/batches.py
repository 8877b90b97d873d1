"""The batches that training reads: a function of (seed, step), so there is no state."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pangen import parallel
from pangen.codecs import Codec
from pangen.data.ahead import Ahead
from pangen.data.dataset import Split
from pangen.data.order import order_of
from pangen.errors import PangenError
from pangen.memory import check_memory
from pangen.rng import Stream, seed_global
from pangen.space import Batch


@dataclass
class Piece:
    """A part of the batch of one step."""

    batch: Batch
    share: float = 1.0
    """Of the whole batch's examples."""
    noise: Stream | None = None
    """Its own, where there are several pieces: it does not matter which process computes which."""


class Batches:
    """Shuffled batches of a split, encoded on the way; epoch after epoch without end."""

    def __init__(self, split: Split, codec: Codec, size: int, seed: int, device: torch.device | str) -> None:
        self.codec, self.size, self.seed = codec, min(size, len(split)), seed
        self.split, self.device = split, torch.device(device)
        self._ready = None if split.redraw or split.stored else codec.ready(split.x, device)
        self._y = None if split.y is None or split.stored else codec.encode_condition(split.y)
        self._per_epoch = len(split) // self.size
        self._order = order_of(len(split), seed, stored=split.stored)
        self._ahead = Ahead(split.take) if split.stored else None

    def __getitem__(self, step: int) -> Batch:
        """The whole batch of one step, the global generators seeded for it and what it goes through."""
        seed_global(self.device, "step", self.seed, step)
        return self.take(self.index(step))

    def index(self, step: int) -> Tensor:
        """Which examples a step sees."""
        epoch, position = divmod(step, self._per_epoch)
        return self._order.at(epoch, position * self.size, (position + 1) * self.size)

    def pieces(self, step: int, accumulate: int) -> list[Piece]:
        """Those of a step's batch that this process computes; cut anew for every step, whatever came before."""
        count, found = pieces_of(self.size, accumulate), []
        if count == 1:
            found.append(Piece(self[step]))
        else:
            parts = self.index(step).tensor_split(count)
            for i in parallel.shares(count):
                seed_global(self.device, "step", self.seed, step, "piece", i)
                batch = self.take(parts[i])
                found.append(Piece(batch, len(parts[i]) / self.size, Stream(self.device)))
        if self._ahead is not None:
            following = self.index(step + 1).tensor_split(count)
            self._ahead.begin(following[i] for i in parallel.shares(count))
        return found

    def take(self, index: Tensor) -> Batch:
        """The examples at `index`, encoded."""
        y = self._conditions(index)
        y = None if y is None else y.to(self.device)
        if self._ready is not None:
            return Batch(self._ready(index.to(self.device)), y)
        x, _ = (self._ahead or self.split.take)(index)
        return Batch(self.codec.encode(x.to(self.device)).x, y)

    def _conditions(self, index: Tensor) -> Tensor | None:
        """Those at `index`, encoded: once for all, but where there may be many they are so when they are needed."""
        if self.split.stored and self.split.y is not None:
            return self.codec.encode_condition(self.split.conditions(index))
        return None if self._y is None else self._y[index]

    def first(self, n: int) -> Batch:
        """The first `n` examples of the first epoch, for a data-dependent start."""
        return self.take(self._order.at(0, 0, min(n, len(self.split))))

    def all(self) -> Batch:
        """The whole split, in order. Raises `PangenError` where stored examples do not fit into memory."""
        if self.split.stored:
            check_memory(
                8 * self.codec.space.dims * len(self.split),
                f"all {len(self.split):,} training examples at once",
                "take a model that is trained by steps",
            )
        return self.take(torch.arange(len(self.split)))


def pieces_of(size: int, accumulate: int) -> int:
    """How many pieces a batch is cut into: as many as are asked for, or as make an equal number for each process.

    A run is the same by any number of processes that divides the number of pieces.
    """
    processes = parallel.size()
    if size < processes:
        raise PangenError(
            f"{processes} processes cannot share a batch of {size} examples; take fewer processes, or a larger "
            "training.batch."
        )
    each = -(-min(accumulate, size) // processes)
    return min(each, size // processes) * processes
