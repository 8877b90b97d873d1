"""What every known law has: exact log p, its entropy, and samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from pangen.data.dataset import Column, Data, Modality, Split, as_splits
from pangen.rng import generator


class Law(ABC):
    """A distribution over raw examples; the `Truth` of a data set."""

    modality: ClassVar[Modality]
    levels: int = 0
    alphabet: ClassVar[str | None] = None
    window: ClassVar[int] = 0
    rate: ClassVar[int] = 0
    table: tuple[Column, ...] = ()
    sizes: ClassVar[tuple[int, int, int]] = (50_000, 10_000, 10_000)
    """Examples to train on, to validate and to test."""
    modes: int = 1
    """Parts that can be told apart, such as the components of a mixture."""

    @property
    @abstractmethod
    def entropy(self) -> float:
        """Of one example, in nats."""

    @abstractmethod
    def log_prob(self, x: Any, seen: Tensor | None = None) -> Tensor:
        """Exact log p(x) in nats, float64 `(B,)`; -inf where p is 0.

        With `seen`, a bool for each entry of an example, that of these entries alone, the others being summed
        or integrated over. log p(a given b) = log p(a, b) - log p(b) is then any conditional.
        """

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator) -> Any:
        """`n` raw examples, from a generator on the CPU.

        Drawn in float64 and rounded once, so that the last bits of a processor's functions do not
        show in the fingerprint.
        """

    def mode(self, x: Any) -> Tensor:
        """The mode of each example `(B,)`, from 0; -1 where p is 0."""
        return self.log_prob(x).isfinite().long() - 1

    def data(self, name: str) -> Data:
        """Independent splits of fixed sizes, each with a generator of its own."""
        parts = {
            split: Split(self.sample(n, generator("cpu", "known truth", name, split)))
            for split, n in zip(("train", "validation", "test"), self.sizes, strict=True)
        }
        return Data(
            name,
            self.modality,
            **as_splits(parts),
            levels=self.levels,
            table=self.table,
            truth=self,
            alphabet=self.alphabet,
            window=self.window,
            rate=self.rate,
        )


def uniform(n: int, generator: torch.Generator) -> Tensor:
    """`n` float64 numbers in [0, 1)."""
    return torch.rand(n, generator=generator, dtype=torch.float64)


def draw(probabilities: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """`n` indices, by inversion of the cumulative sum."""
    index = torch.searchsorted(probabilities.cumsum(0), uniform(n, generator), right=True)
    return index.clamp(max=len(probabilities) - 1)
