"""Variational autoencoder (Kingma and Welling 2014), with a diagonal normal posterior.

log p(x) >= E_q(z given x)[log p(x given z)] - KL(q(z given x) || p(z)), p(z) = N(0, I) (Eq. 3).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from pangen.families.latent.latent import ACTIVE, warmed
from pangen.families.latent.one_layer import OneLayer
from pangen.likelihoods import Normal, Observation
from pangen.networks.roles import Activation, Network, Plain
from pangen.networks.rounding import Precision
from pangen.settings import Count, Natural, NonNegative, Share
from pangen.space import Batch, Loss, Progress, Space


class VAE(OneLayer):
    """A latent normal code z, and x given z by a likelihood of the space.

    Args:
        latent: size of z.
        width: of both networks.
        network: auto, residual and for images convolutional; or mlp, plain perceptrons.
        depth: hidden layers of each mlp.
        activation: of the mlp.
        observation: p(x given z) by name: bernoulli for bits; logistic, categorical, normal or fixed (a
            normal of one scale) for grey levels; normal or fixed for real numbers. auto: the first that fits.
        precision: bfloat16 or float16 rounds the factors of the networks' products in training.
        beta: weight of the KL term; 1 is the bound itself (Higgins et al. 2017).
        warmup: share of training over which that weight rises from 0.
        free_bits: nats that each dimension of z may tell at no cost (Kingma et al. 2016, Eq. 15).
        k: importance samples in `log_prob`.
    """

    training_defaults: ClassVar = {"lr": 2e-3, "clip": None, "ema": 0.999, "weight_decay": 0.1}

    def __init__(
        self,
        space: Space,
        *,
        latent: Count = 16,
        width: Count = 128,
        network: Network = "auto",
        depth: Natural = 1,
        activation: Activation = "relu",
        observation: Observation = "auto",
        precision: Precision = "full",
        beta: NonNegative = 1.0,
        warmup: Share = 0.3,
        free_bits: NonNegative = 0.0,
        k: Count = 32,
    ) -> None:
        plain = Plain.chosen(network, depth, activation)
        super().__init__(
            space, latent=latent, width=width, plain=plain, observation=observation, precision=precision, k=k
        )
        self.beta, self.warmup, self.free_bits = beta, warmup, free_bits

    def prior(self, n: int) -> Normal:
        """N(0, I), `n` rows of it."""
        return self.standard(n)

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        """The negative bound in nats, with one sample of z and the KL term in closed form."""
        x, y = batch
        q = self.q(x, y)
        z = q.at(torch.randn_like(q.mean))  # Eq. 4: the pathwise gradient
        reconstruction = -self.p(z, y).log_prob(x).mean()
        told = kl_from_standard(q).mean(0)  # by each dimension of z
        beta = warmed(self.beta, self.warmup, progress)
        loss = reconstruction + beta * told.clamp(min=self.free_bits).sum()
        terms = {"reconstruction": reconstruction, "kl": told.sum(), "active": (told > ACTIVE).sum()}
        return Loss(loss, terms)


def kl_from_standard(q: Normal) -> Tensor:
    """KL(q || N(0, I)) in nats, of each dimension `(B, latent)` (Appendix B)."""
    return (q.mean**2 + (2 * q.log_scale).exp() - 1 - 2 * q.log_scale) / 2
