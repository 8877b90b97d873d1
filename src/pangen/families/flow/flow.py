"""What all flows share: a base density and a bijection give likelihood, code and sample alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from pangen.errors import PangenError
from pangen.model import GenerativeModel
from pangen.networks.bijections import BaseName, Dequantisation, Dequantiser, Flow, Transform
from pangen.networks.labels import hide
from pangen.samplers.interpolation import spherical
from pangen.space import Batch, LogProb, Loss, Progress, Space


class FlowModel(GenerativeModel):
    """log p(x) = log p_base(f(x)) + log|det df/dx|; a flow of its paper builds the blocks of f.

    On a grid of grey levels the flow fills the cells with noise itself, and log p(x) is a lower bound.

    Args:
        blocks: bijections that keep the shape of an example.
        width: entries of the embedded condition that every block is told.
        base: density of z: independent normal, logistic or uniform dimensions, or a learnt mixture of
            Gaussians.
        unlabelled: share of labels hidden in training, so that p(x) is learnt beside p(x given y).
        dequantisation: the noise on a grid: uniform, or a flow of its own, learnt with this one.
    """

    def __init__(
        self,
        space: Space,
        blocks: Iterable[Transform],
        *,
        width: int,
        base: BaseName,
        unlabelled: float,
        dequantisation: Dequantisation = "uniform",
    ) -> None:
        super().__init__(space)
        self.unlabelled = unlabelled
        self.latent_space = Space("real", (space.dims,))
        self.flow = Flow(space, blocks, width, base)
        self.dequantiser = Dequantiser(space, dequantisation, width) if space.is_grid else None

    def initialize(self, batch: Batch) -> None:
        self.flow.initialize(self._real(batch.x, None)[0], batch.y)

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        y = hide(batch.y, self.space, self.unlabelled)
        return Loss(-self.log_prob(batch.x, y).nats.mean())

    def log_prob(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> LogProb:
        v, volume = self._real(x, generator)
        return LogProb(
            self.flow.log_prob(v, y) + volume, "exact" if self.dequantiser is None else "lower bound"
        )

    def _real(self, x: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """What the flow is of: x itself, or x with noise and the volume of that."""
        return (x, x.new_zeros(len(x))) if self.dequantiser is None else self.dequantiser(x, generator)

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """z `(B, dims)`, of a level the middle's."""
        return self.flow.encode(x if self.dequantiser is None else self.dequantiser.middle(x), y)

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """x `(B, *shape)`."""
        return self._shown(self.flow.decode(z, y))

    def interpolate(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        """On the sphere, near which codes of a base with independent dimensions lie."""
        return spherical(a, b, t)

    def _shown(self, v: Tensor) -> Tensor:
        return v if self.dequantiser is None else self.dequantiser.inverse(v)

    def trajectory(
        self, n: int, y: Tensor | None = None, *, generator: torch.Generator, temperature: float = 1.0
    ) -> Iterator[Tensor]:
        """z, then what each block makes of it; `temperature` multiplies the scale of z."""
        if not temperature >= 0:
            raise PangenError(f"a temperature of {temperature} is no scale; give 0 or more, 1 for the model.")
        for v in self.flow.states(n, y, generator, temperature):
            yield self._shown(v)
