"""What all flows share: a base density and a bijection give likelihood, code and sample alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from pangen.model import GenerativeModel
from pangen.networks.bijections import BaseName, Flow, Transform
from pangen.networks.labels import hide
from pangen.space import Batch, LogProb, Loss, Progress, Space


class FlowModel(GenerativeModel):
    """log p(x) = log p_base(f(x)) + log|det df/dx|; a flow of its paper builds the blocks of f.

    Args:
        blocks: bijections that keep the shape of an example.
        width: entries of the class embedding that every block is told.
        base: density of each dimension of z.
        unlabelled: share of labels hidden in training, so that p(x) is learnt beside p(x given y).
    """

    def __init__(
        self, space: Space, blocks: Iterable[Transform], *, width: int, base: BaseName, unlabelled: float
    ) -> None:
        super().__init__(space)
        self.unlabelled = unlabelled
        self.flow = Flow(space, blocks, width, base)

    def initialize(self, batch: Batch) -> None:
        self.flow.initialize(batch.x, batch.y)

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        y = hide(batch.y, self.space, self.unlabelled)
        return Loss(-self.flow.log_prob(batch.x, y).mean())

    def log_prob(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> LogProb:
        return LogProb(self.flow.log_prob(x, y), "exact")

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """z `(B, dims)`."""
        return self.flow.encode(x, y)

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """x `(B, *shape)`."""
        return self.flow.decode(z, y)

    def trajectory(self, n: int, y: Tensor | None = None, *, generator: torch.Generator) -> Iterator[Tensor]:
        """z, then what each block makes of it."""
        return self.flow.states(n, y, generator)
