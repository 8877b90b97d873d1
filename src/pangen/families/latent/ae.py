"""Autoencoder (Rumelhart et al. 1986; Hinton and Salakhutdinov 2006): a code to reconstruct from.

There is no distribution over codes, and so none over data: nothing to sample and no likelihood.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from pangen.errors import PangenError
from pangen.likelihoods import likelihood
from pangen.model import GenerativeModel
from pangen.networks.roles import Decoder, Encoder
from pangen.samplers.interpolation import straight
from pangen.space import Batch, Loss, Progress, Space


class Autoencoder(GenerativeModel):
    """z = f(x), and a distribution of x given z whose log-probability at x is maximised.

    Args:
        latent: size of the code.
        width: of both networks.
    """

    training_defaults: ClassVar = {"lr": 2e-3, "clip": None, "ema": 0.99}
    selection = "loss"

    def __init__(self, space: Space, *, latent: int = 16, width: int = 128) -> None:
        super().__init__(space)
        self.latent_space = Space("real", (latent,))
        self.likelihood = likelihood(space)
        self.encoder = Encoder(space, latent, width)
        self.decoder = Decoder(space, latent, self.likelihood.channels, width)

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The code `(B, latent)`."""
        return self.encoder(x, y)

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """The mean of x given the code `(B, *shape)`."""
        return self.likelihood(self.decoder(z, y)).mean

    def interpolate(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        """On the straight way."""
        return straight(a, b, t)

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        """Reconstruction: -log p(x given f(x)), in nats."""
        p = self.likelihood(self.decoder(self.encoder(batch.x, batch.y), batch.y))
        return Loss(-p.log_prob(batch.x).mean())

    def trajectory(
        self, n: int, y: Tensor | None = None, *, generator: torch.Generator, **how: Any
    ) -> Iterator[Tensor]:
        raise PangenError(
            "an ae cannot be sampled: it has no distribution over codes; fit a vae, which has one."
        )
        yield  # an iterator, as every trajectory is
