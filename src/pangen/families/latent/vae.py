"""Variational autoencoder (Kingma and Welling 2014), with a diagonal normal posterior.

log p(x) >= E_q(z given x)[log p(x given z)] - KL(q(z given x) || p(z)), p(z) = N(0, I) (Eq. 3).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from pangen.likelihoods import Distribution, bounded, likelihood, log_normal
from pangen.model import GenerativeModel
from pangen.networks.roles import Decoder, Encoder
from pangen.space import Batch, LogProb, Loss, Progress, Space

LOG_SIGMA = (-5.0, 2.0)
"""Bounds of the posterior's log standard deviation."""
MEMORY = 2**24
"""Numbers the decoder may put out at once when a likelihood is evaluated."""


class VAE(GenerativeModel):
    """A latent normal code z, and x given z by the likelihood of the space.

    Args:
        latent: size of z.
        width: of both networks.
        beta: weight of the KL term; 1 is the bound itself.
        warmup: share of training over which that weight rises from 0.
        k: importance samples in `log_prob`.
    """

    training_defaults: ClassVar = {"lr": 2e-3, "clip": None, "ema": 0.999, "weight_decay": 0.1}

    def __init__(
        self,
        space: Space,
        *,
        latent: int = 16,
        width: int = 128,
        beta: float = 1.0,
        warmup: float = 0.3,
        k: int = 32,
    ) -> None:
        super().__init__(space)
        self.latent, self.beta, self.warmup, self.k = latent, beta, warmup, k
        self.likelihood = likelihood(space)
        self.encoder = Encoder(space, 2 * latent, width)
        self.decoder = Decoder(space, latent, self.likelihood.channels, width)

    def q(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of q(z given x), each `(B, latent)`."""
        mu, log_sigma = self.encoder(x, y).chunk(2, -1)
        return mu, bounded(log_sigma, *LOG_SIGMA)

    def p(self, z: Tensor, y: Tensor | None = None) -> Distribution:
        """p(x given z)."""
        return self.likelihood(self.decoder(z, y))

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The posterior's mean `(B, latent)`."""
        return self.q(x, y)[0]

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """The mean of x given z `(B, *shape)`."""
        return self.p(z, y).mean

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        """The negative bound in nats, with one sample of z and the KL term in closed form."""
        x, y = batch
        mu, log_sigma = self.q(x, y)
        z = mu + log_sigma.exp() * torch.randn_like(mu)  # Eq. 4: the pathwise gradient
        reconstruction = -self.p(z, y).log_prob(x).mean()
        kl = kl_from_standard(mu, log_sigma).mean()
        beta = self.beta * min(1.0, progress.fraction / self.warmup if self.warmup else 1.0)
        return Loss(reconstruction + beta * kl, {"reconstruction": reconstruction, "kl": kl})

    def log_prob(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> LogProb:
        """log 1/k sum_i p(x given z_i) p(z_i) / q(z_i given x), a bound (Burda et al. 2016, Eq. 8)."""
        mu, log_sigma = self.q(x, y)
        noise = torch.randn(self.k, *mu.shape, generator=generator, device=mu.device, dtype=mu.dtype)
        at_once = max(1, MEMORY // (self.likelihood.channels * max(x.numel(), 1)))
        log_w = torch.cat([self._log_weights(x, y, mu, log_sigma, e) for e in noise.split(at_once)])
        return LogProb(log_w.logsumexp(0) - math.log(self.k), "lower bound")

    def _log_weights(
        self, x: Tensor, y: Tensor | None, mu: Tensor, log_sigma: Tensor, noise: Tensor
    ) -> Tensor:
        """log p(x, z) - log q(z given x) `(k, B)` for noise `(k, B, latent)`."""
        k = len(noise)
        z = (mu + log_sigma.exp() * noise).flatten(0, 1)
        xs = x.repeat(k, *[1] * (x.dim() - 1))
        zero = torch.zeros_like(z)
        log_p = self.p(z, None if y is None else y.repeat(k)).log_prob(xs) + log_normal(z, zero, zero)
        return (log_p - log_normal(z, mu.repeat(k, 1), log_sigma.repeat(k, 1))).view(k, -1)

    def trajectory(
        self, n: int, y: Tensor | None = None, *, generator: torch.Generator, mean: bool = False
    ) -> Iterator[Tensor]:
        """z ~ p(z), then x ~ p(x given z), as the model defines it; or the mean of x, smoother."""
        z = torch.randn(n, self.latent, generator=generator, device=self.device)
        p = self.p(z, y)
        yield p.mean if mean else p.sample(generator)


def kl_from_standard(mu: Tensor, log_sigma: Tensor) -> Tensor:
    """KL(N(mu, sigma^2) || N(0, I)) in nats `(B,)` (Appendix B)."""
    return (mu**2 + (2 * log_sigma).exp() - 1 - 2 * log_sigma).sum(-1) / 2
