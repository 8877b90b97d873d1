"""Examples that stay on disk until they are asked for: for data larger than memory.

Training examples alone are stored. What is learnt from all examples at once, such as scales and features, is learnt
from a fixed sample of them; validation and test examples are brought into memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from pangen.errors import PangenError
from pangen.memory import check_memory, free_memory

if TYPE_CHECKING:
    from pangen.data.dataset import Modality

SHARE = 1 / 4
"""Of the free memory, that examples may take; more are stored. Reading into memory makes copies for a moment."""
HELD, HELD_BYTES, FEWEST = 10_000, 2**28, 100
"""Examples of a stored split that are brought into memory, at most; their bytes; and how many they are at least."""


def is_large(size: int) -> bool:
    """Whether examples of `size` bytes are better left on disk."""
    free = free_memory()
    return free is not None and size > SHARE * free


def evenly(n: int, most: int) -> Tensor:
    """`most` of the first `n` whole numbers at most, evenly spread, rising."""
    k = min(n, most)
    return torch.arange(k) * n // max(k, 1)


class Source(Protocol):
    """Where examples are."""

    name: str
    """In errors."""
    facts: str
    """What tells this source from others, beside examples: names and sizes, not times."""
    modality: Modality
    """Images or vectors."""
    shape: tuple[int, ...]
    """(N, C, H, W) of images, (N, D) of vectors."""

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The examples at `rows`, checked: uint8 images, float32 vectors. Raises `PangenError`."""
        ...


@dataclass(frozen=True, eq=False)
class Stored:
    """Stands for the tensor of a split's examples: it has its shape, an index reads examples, a slice is a view."""

    source: Source
    places: range
    """Of its examples, among those that are not left out."""
    left_out: Tensor
    """Rows of the source that belong to other splits, rising."""
    white: int = 0
    """The value of white in black and white images; 0: they are not such."""

    @classmethod
    def of(cls, source: Source) -> Stored:
        """All examples of a source."""
        return cls(source, range(source.shape[0]), torch.empty(0, dtype=torch.long))

    def without(self, rows: Tensor) -> Stored:
        """All examples of the source but those at `rows`, which rise."""
        return replace(self, places=range(self.source.shape[0] - len(rows)), left_out=rows)

    def __len__(self) -> int:
        return len(self.places)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self.source.shape[1:])

    def __getitem__(self, index: Any) -> Any:
        """The examples at an index `(B,)` as a tensor; or the view of a slice."""
        if isinstance(index, slice):
            return replace(self, places=self.places[index])
        return self._read(self.rows(index).numpy())

    def rows(self, index: Tensor) -> Tensor:
        """Of the source, where the examples at an index are."""
        at = self.places.start + self.places.step * index
        kept = self.left_out - torch.arange(len(self.left_out))  # before each that is left out
        return at + torch.searchsorted(kept, at, right=True)

    def _read(self, rows: np.ndarray) -> Tensor:
        x = self.source.read(rows)
        if self.white:
            grey = ((x != 0) & (x != self.white)).reshape(len(x), -1).any(1)
            if grey.any():
                raise PangenError(
                    f"{self.source.name} holds grey pixels in example {rows[grey.argmax()]} (counting from 0), and the "
                    f"{len(self.seen):,} examples that were looked at are black and white; make it black and white too."
                )
            x = x // self.white
        return torch.from_numpy(x)

    @property
    def bytes(self) -> int:
        """Of all examples, in memory."""
        return math.prod(self.shape) * (1 if self.source.modality == "image" else 4)

    @cached_property
    def seen(self) -> Tensor:
        """The index of a fixed sample."""
        each = self.bytes // max(len(self), 1)
        return evenly(len(self), min(HELD, max(HELD_BYTES // each, FEWEST)))

    @cached_property
    def sample(self) -> Tensor:
        """The examples at `seen`, read once."""
        return self[self.seen]

    def whole(self) -> Tensor:
        """All examples. Raises `PangenError` where they do not fit into memory."""
        check_memory(
            self.bytes,
            f"all {len(self):,} training examples of {self.source.name} at once",
            "take a model that is trained by steps, another split, or fewer examples",
        )
        return self[torch.arange(len(self))]
