"""A base density and a transform of it: a flow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from pangen.networks.bijections.bases import BaseName, make_base
from pangen.networks.bijections.transforms import Compose, Transform
from pangen.networks.roles import Condition
from pangen.space import Space


class Flow(nn.Module):
    """The conditional density and sampler that a base and a transform of it make over a space.

    Each block maps examples to tensors of the same shape, so that states between blocks are
    examples on their way; outside, z is `(B, dims)`.

    Args:
        context: entries of the embedded condition that every block is told; unused without one.
    """

    def __init__(
        self, space: Space, blocks: Iterable[Transform], context: int, base: BaseName = "normal"
    ) -> None:
        super().__init__()
        self.shape = space.shape
        self.condition = Condition(space, context) if space.condition else None
        self.base = make_base(base, space.shape)
        self.transform = Compose(*blocks, *(end() for end in self.base.last))

    def context(self, y: Tensor | None, n: int) -> Tensor | None:
        return None if self.condition is None else self.condition(y, n)

    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        """Data-dependent start of every block on examples x."""
        self.transform.initialize(x, self.context(y, len(x)))

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """log p(x given y) `(B,)` in nats."""
        z, log_det = self.transform(x, self.context(y, len(x)))
        return self.base.log_prob(z) + log_det

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """z `(B, dims)`."""
        return self.transform(x, self.context(y, len(x)))[0].flatten(1)

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """x `(B, *shape)`."""
        return self.transform.inverse(z.view(-1, *self.shape), self.context(y, len(z)))

    def states(
        self, n: int, y: Tensor | None, generator: torch.Generator, temperature: float = 1.0
    ) -> Iterator[Tensor]:
        """Noise z, the states on its way through the blocks, and the sample x, each `(n, *shape)`."""
        z, context = self.base.sample(n, generator, temperature), self.context(y, n)
        z = z.to(next(self.parameters()).dtype)
        yield z
        for block in reversed(self.transform.parts):
            z = block.inverse(z, context)
            yield z
