"""The batches that training reads: a function of (seed, step), so there is no state."""

from __future__ import annotations

import torch
from torch import Tensor

from pangen.codecs import Codec
from pangen.data.dataset import Split
from pangen.data.order import order_of
from pangen.memory import check_memory
from pangen.space import Batch


class Batches:
    """Shuffled batches of a split, encoded on the way; epoch after epoch without end."""

    def __init__(self, split: Split, codec: Codec, size: int, seed: int, device: torch.device | str) -> None:
        self.codec, self.size, self.seed, self.device = codec, min(size, len(split)), seed, device
        self.split = split
        self._ready = None if split.redraw or split.stored else codec.ready(split.x, device)
        self._y = None if split.y is None or split.stored else codec.encode_condition(split.y)
        self._per_epoch = len(split) // self.size
        self._order = order_of(len(split), seed, stored=split.stored)

    def __getitem__(self, step: int) -> Batch:
        """The batch of one step; what noise it needs comes from the global generator."""
        epoch, position = divmod(step, self._per_epoch)
        return self.take(self._order.at(epoch, position * self.size, (position + 1) * self.size))

    def take(self, index: Tensor) -> Batch:
        """The examples at `index`, encoded."""
        y = self._conditions(index)
        y = None if y is None else y.to(self.device)
        if self._ready is not None:
            return Batch(self._ready(index.to(self.device)), y)
        return Batch(self.codec.encode(self.split.take(index)[0].to(self.device)).x, y)

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
