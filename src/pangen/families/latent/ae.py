"""Autoencoder (Rumelhart et al. 1986; Hinton and Salakhutdinov 2006): a code to reconstruct from.

There is no distribution over codes, and so none over data: nothing to sample and no likelihood.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from pangen.errors import PangenError
from pangen.likelihoods import Observation, likelihood
from pangen.model import GenerativeModel
from pangen.networks.roles import Activation, Decoder, Encoder, Network, Plain
from pangen.samplers.interpolation import straight
from pangen.settings import Count, Natural, NonNegative
from pangen.space import Batch, Loss, Progress, Space


class Autoencoder(GenerativeModel):
    """z = f(x), and a distribution of x given z whose log-probability at x is maximised.

    Args:
        latent: size of the code.
        width: of both networks.
        network: auto, residual and for images convolutional; or mlp, plain perceptrons.
        depth: hidden layers of each mlp.
        activation: of the mlp.
        linear: no hidden layers at all; with observation = fixed, codes span the principal components
            (Bourlard and Kamp 1988; Baldi and Hornik 1989).
        observation: p(x given z) by name: bernoulli for bits; logistic, categorical, normal or fixed (a
            normal of one scale) for grey levels; normal or fixed for real numbers. auto: the first that fits.
        noise: what is added to x before it is encoded, to give back x without it (Vincent et al. 2008):
            a normal's standard deviation; of bits, the share that is set to 0.
    """

    training_defaults: ClassVar = {"lr": 2e-3, "clip": None, "ema": 0.99}
    selection = "loss"

    def __init__(
        self,
        space: Space,
        *,
        latent: Count = 16,
        width: Count = 128,
        network: Network = "auto",
        depth: Natural = 1,
        activation: Activation = "relu",
        linear: bool = False,
        observation: Observation = "auto",
        noise: NonNegative = 0.0,
    ) -> None:
        super().__init__(space)
        if noise >= 1 and space.kind == "binary":
            raise PangenError(f"noise = {noise} of an ae would set every bit to 0; take a share below 1.")
        self.noise = noise
        self.latent_space = Space("real", (latent,))
        self.likelihood = likelihood(space, observation)
        plain = Plain(0) if linear else Plain.chosen(network, depth, activation)
        self.encoder = Encoder(space, latent, width, plain=plain)
        self.decoder = Decoder(space, latent, self.likelihood.channels, width, plain=plain)

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The code `(B, latent)`."""
        return self.encoder(x, y)

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """The mean of x given the code `(B, *shape)`."""
        return self.likelihood(self.decoder(z, y)).mean

    def interpolate(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        """On the straight way."""
        return straight(a, b, t)

    def corrupted(self, x: Tensor) -> Tensor:
        """x with noise."""
        if not self.noise:
            return x
        if self.space.kind == "binary":
            return x * (torch.rand_like(x) >= self.noise)
        return x + self.noise * torch.randn_like(x)

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        """Reconstruction: -log p(x given f(x)), in nats."""
        x, y = batch
        p = self.likelihood(self.decoder(self.encoder(self.corrupted(x), y), y))
        return Loss(-p.log_prob(x).mean())

    def trajectory(
        self, n: int, y: Tensor | None = None, *, generator: torch.Generator, **how: Any
    ) -> Iterator[Tensor]:
        raise PangenError(
            "an ae cannot be sampled: it has no distribution over codes; fit one to the codes of its run, "
            "`pangen fit realnvp latents:RUN`, or fit a vae, which has one."
        )
        yield  # an iterator, as every trajectory is
