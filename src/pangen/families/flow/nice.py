"""NICE: additive couplings, which preserve volume, and one diagonal scale (Dinh et al. 2015)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from pangen.model import GenerativeModel
from pangen.networks.bijections import AdditiveCoupling, BaseName, Compose, FlatNet, Flow, Scale, mask_pairs
from pangen.space import Batch, LogProb, Loss, Progress, Space


class NICE(GenerativeModel):
    """log p(x) = sum_d [log p_H(h_d) + s_d], h = exp(s) f(x), f additive couplings (Section 3).

    Perceptrons at every size, as in the paper.

    Args:
        width: units of a coupling's hidden layers.
        pairs: pairs of couplings; each pair moves every dimension once.
        depth: hidden layers of a coupling's network.
        base: p_H, independent logistic or normal dimensions.
        dropout: of hidden units, for images, of which there are few for their dimension.
        blind: share of training examples whose class is hidden, to learn the null condition.
    """

    training_defaults: ClassVar[dict[str, Any]] = {
        "lr": 4e-3,
        "betas": (0.9, 0.999),
        "clip": 10.0,
        "ema": 0.998,
    }

    def __init__(
        self,
        space: Space,
        *,
        width: int = 128,
        pairs: int = 4,
        depth: int = 2,
        base: BaseName = "logistic",
        dropout: float = 0.2,
        blind: float = 0.1,
    ) -> None:
        super().__init__(space)
        self.blind = blind
        context, p = width if space.classes else 0, dropout if space.is_image else 0.0

        def coupling(b: Tensor) -> AdditiveCoupling:
            return AdditiveCoupling(b, FlatNet(b.shape, 1, width, depth, context=context, dropout=p))

        cuts = mask_pairs(space.shape, pairs)
        blocks = [Compose(*map(coupling, masks)) for masks in cuts]
        self.flow = Flow(space, [*blocks, Scale(space.shape)], width, base)

    def initialize(self, batch: Batch) -> None:
        self.flow.initialize(batch.x, batch.y)

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        x, y = batch
        if y is not None:
            y = torch.where(torch.rand(len(y), device=y.device) < self.blind, self.space.classes, y)
        return Loss(-self.flow.log_prob(x, y).mean())

    def log_prob(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> LogProb:
        return LogProb(self.flow.log_prob(x, y), "exact")

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.flow.encode(x, y)

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.flow.decode(z, y)

    def trajectory(self, n: int, y: Tensor | None = None, *, generator: torch.Generator) -> Iterator[Tensor]:
        """z, then what each block makes of it."""
        return self.flow.states(n, y, generator)
