"""VAE with a variational mixture of posteriors as its prior (Tomczak and Welling 2018).

p(z) = 1/K sum_k q(z given u_k) (Eq. 9): the codes of K learnt pseudo-inputs u_k, so that the prior lies
where the posteriors do.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from pangen.families.latent.latent import warmed
from pangen.families.latent.one_layer import OneLayer
from pangen.likelihoods import Mixture, Observation
from pangen.networks.roles import Activation, Network, Plain
from pangen.networks.rounding import Precision
from pangen.settings import Count, Natural, NonNegative, Share
from pangen.space import Batch, Loss, Progress, Space

INSIDE = 0.95
"""How near to the ends of their range, 1, pseudo-inputs start."""
APART = 0.01
"""Noise on pseudo-inputs at their start, so that two of one example part."""


class VampPrior(OneLayer):
    """A code z from a learnt mixture, and x given z by a likelihood of the space.

    Args:
        latent: size of z.
        width: of both networks.
        network: auto, residual and for images convolutional; or mlp, plain perceptrons.
        depth: hidden layers of each mlp.
        activation: of the mlp.
        observation: p(x given z) by name: bernoulli for bits; logistic, categorical, normal or fixed (a
            normal of one scale) for grey levels; normal or fixed for real numbers. auto: the first that fits.
        precision: bfloat16 or float16 rounds the factors of the networks' products in training.
        pseudo_inputs: K, components of the prior, each encoded at every step.
        beta: weight of the KL term; 1 is the bound itself.
        warmup: share of training over which that weight rises from 0.
        k: importance samples in `log_prob`.
    """

    training_defaults: ClassVar = {"lr": 2e-3, "clip": None, "ema": 0.999}

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
        pseudo_inputs: Count = 128,
        beta: NonNegative = 1.0,
        warmup: Share = 0.3,
        k: Count = 32,
    ) -> None:
        plain = Plain.chosen(network, depth, activation)
        super().__init__(
            space, latent=latent, width=width, plain=plain, observation=observation, precision=precision, k=k
        )
        self.beta, self.warmup = beta, warmup
        self.raw = nn.Parameter(torch.randn(pseudo_inputs, *space.shape))

    def initialize(self, batch: Batch) -> None:
        """Pseudo-inputs start at training examples."""
        x = batch.x[torch.arange(len(self.raw)) % len(batch.x)]
        if self.space.kind == "binary":
            x = torch.logit(0.5 + INSIDE * (x - 0.5))
        elif self.space.is_grid:
            x = torch.atanh(INSIDE * x)
        self.raw.data.copy_(x + APART * torch.randn_like(x))

    def inputs(self) -> Tensor:
        """u `(K, *shape)`, within the range of the data where it has one."""
        if self.space.kind == "binary":
            return self.raw.sigmoid()
        return self.raw.tanh() if self.space.is_grid else self.raw

    def prior(self, n: int) -> Mixture:
        """The mixture, `n` rows of it; it knows no labels."""
        return Mixture(self.q(self.inputs()), n)

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        """The negative bound in nats, both terms from one sample of z."""
        x, y = batch
        q = self.q(x, y)
        z = q.at(torch.randn_like(q.mean))
        reconstruction = -self.p(z, y).log_prob(x).mean()
        kl = (q.log_prob(z) - self.log_prior(z)).mean()
        loss = reconstruction + warmed(self.beta, self.warmup, progress) * kl
        return Loss(loss, {"reconstruction": reconstruction, "kl": kl})
