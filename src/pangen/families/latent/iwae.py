"""Importance-weighted autoencoder (Burda et al. 2016): a VAE trained on a tighter bound.

log p(x) >= E[log 1/k sum_i w_i], w_i = p(x, z_i) / q(z_i given x), z_i ~ q(z given x) (Eq. 8).
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch

from pangen.families.latent.one_layer import OneLayer
from pangen.likelihoods import Normal, Observation
from pangen.networks.roles import Activation, Network, Plain
from pangen.networks.rounding import Precision
from pangen.settings import Count, Natural, Share
from pangen.space import Batch, Loss, Progress, Space


class IWAE(OneLayer):
    """A latent normal code z, and x given z by a likelihood of the space, as in a `vae`.

    Args:
        latent: size of z.
        width: of both networks.
        network: auto, residual and for images convolutional; or mlp, plain perceptrons.
        depth: hidden layers of each mlp.
        activation: of the mlp.
        observation: p(x given z) by name: bernoulli for bits; logistic, categorical, normal or fixed (a
            normal of one scale) for grey levels; normal or fixed for real numbers. auto: the first that fits.
        precision: bfloat16 or float16 rounds the factors of the networks' products in training.
        samples: importance samples in training, each decoded; the paper has 5 and 50.
        growth: share of training over which they grow in number from 1 (the bound of a `vae`), so that each
            doubling takes as long as the one before; 0: all from the first step.
        gradient: naive, of the bound as it stands; its part for the encoder drowns in noise as samples
            grow in number. double, reparametrised twice: the same on average, with ever less noise.
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
        samples: Count = 5,
        growth: Share = 0.0,
        gradient: Literal["double", "naive"] = "double",
        k: Count = 32,
    ) -> None:
        plain = Plain.chosen(network, depth, activation)
        super().__init__(
            space, latent=latent, width=width, plain=plain, observation=observation, precision=precision, k=k
        )
        self.samples, self.growth, self.twice = samples, growth, gradient == "double"

    def prior(self, n: int) -> Normal:
        """N(0, I), `n` rows of it."""
        return self.standard(n)

    def grown(self, progress: Progress) -> int:
        """The samples of this step: steps of k of them are as many as 1 / k^2, and take 1 / k of the time."""
        s = min(progress.fraction / self.growth, 1.0) if self.growth else 1.0
        return round(1 / (1 - s * (1 - 1 / self.samples)))

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        """The negative bound in nats; its other term is the effective number of samples, 1 / sum_i v_i^2."""
        (x, y), k = batch, self.grown(progress)
        q = self.q(x, y).repeat(k)
        z = q.at(torch.randn_like(q.mean))
        density = Normal(q.mean.detach(), q.log_scale.detach()) if self.twice else q
        log_w = (self.log_joint(z, x, y) - density.log_prob(z)).view(k, -1)
        v = log_w.detach().softmax(0)
        if self.twice and z.requires_grad:
            # the encoder's gradient is sum_i v_i^2 dlog w_i/dz_i dz_i/dphi (Tucker et al. 2019, Eq. 8); one v_i
            # comes with the logarithm of the sum
            z.register_hook(lambda gradient: v.flatten()[:, None] * gradient)
        bound = (log_w.logsumexp(0) - math.log(k)).mean()
        return Loss(-bound, {"effective": (1 / v.square().sum(0)).mean()})
