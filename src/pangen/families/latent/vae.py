"""Variational autoencoder (Kingma and Welling 2014), with a diagonal normal posterior.

log p(x) >= E_q(z given x)[log p(x given z)] - KL(q(z given x) || p(z)), p(z) = N(0, I) (Eq. 3).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from pangen.families.latent.latent import LatentModel
from pangen.likelihoods import Normal, bounded, log_normal
from pangen.networks.roles import Decoder, Encoder
from pangen.samplers.interpolation import spherical
from pangen.space import Batch, Distribution, Loss, Progress, Space

LOG_SIGMA = (-5.0, 2.0)
"""Bounds of the posterior's log standard deviation."""


class VAE(LatentModel):
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
        super().__init__(space, latent=latent, k=k)
        self.beta, self.warmup = beta, warmup
        self.encoder = Encoder(space, 2 * latent, width)
        self.decoder = Decoder(space, latent, self.likelihood.channels, width)

    def q(self, x: Tensor, y: Tensor | None = None) -> Normal:
        """q(z given x), a diagonal normal."""
        mu, log_sigma = self.encoder(x, y).chunk(2, -1)
        return Normal(mu, bounded(log_sigma, *LOG_SIGMA))

    def p(self, z: Tensor, y: Tensor | None = None) -> Distribution:
        """p(x given z)."""
        return self.likelihood(self.decoder(z, y))

    def log_prior(self, z: Tensor) -> Tensor:
        """log N(z; 0, I)."""
        zero = torch.zeros_like(z)
        return log_normal(z, zero, zero)

    def interpolate(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        """On the sphere, near which normal codes lie."""
        return spherical(a, b, t)

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        """The negative bound in nats, with one sample of z and the KL term in closed form."""
        x, y = batch
        q = self.q(x, y)
        z = q.at(torch.randn_like(q.mean))  # Eq. 4: the pathwise gradient
        reconstruction = -self.p(z, y).log_prob(x).mean()
        kl = kl_from_standard(q).mean()
        beta = self.beta * min(1.0, progress.fraction / self.warmup if self.warmup else 1.0)
        return Loss(reconstruction + beta * kl, {"reconstruction": reconstruction, "kl": kl})

    def trajectory(
        self, n: int, y: Tensor | None = None, *, generator: torch.Generator, mean: bool = False
    ) -> Iterator[Tensor]:
        """z ~ p(z), then x ~ p(x given z), as the model defines it; or the mean of x, smoother."""
        p = self.p(torch.randn(n, *self.latent_space.shape, generator=generator, device=self.device), y)
        yield p.mean if mean else p.sample(generator)


def kl_from_standard(q: Normal) -> Tensor:
    """KL(q || N(0, I)) in nats `(B,)` (Appendix B)."""
    return (q.mean**2 + (2 * q.log_scale).exp() - 1 - 2 * q.log_scale).sum(-1) / 2
