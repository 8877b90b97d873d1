"""What latent-variable models share: p(x, z) = p(z) p(x given z), and q(z given x) for its posterior."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor

from pangen.likelihoods import Likelihood, Normal, likelihood
from pangen.model import GenerativeModel
from pangen.space import Distribution, LogProb, Space

MEMORY = 2**24
"""Numbers the decoder may put out at once when a likelihood is evaluated."""


class LatentModel(GenerativeModel):
    """A model of its paper gives q, p and the prior of a code, and a loss.

    Args:
        latent: numbers in a code.
        k: importance samples in `log_prob`.
    """

    def __init__(self, space: Space, *, latent: int, k: int) -> None:
        super().__init__(space)
        self.k = k
        self.latent_space = Space("real", (latent,))
        self.likelihood: Likelihood = likelihood(space)

    @abstractmethod
    def q(self, x: Tensor, y: Tensor | None = None) -> Normal:
        """q(z given x)."""

    @abstractmethod
    def p(self, z: Tensor, y: Tensor | None = None) -> Distribution:
        """p(x given z)."""

    @abstractmethod
    def log_prior(self, z: Tensor) -> Tensor:
        """log p(z) `(B,)`."""

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The posterior's mean `(B, latent)`."""
        return self.q(x, y).mean

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """The mean of x given z `(B, *shape)`."""
        return self.p(z, y).mean

    def log_prob(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> LogProb:
        """log 1/k sum_i p(x given z_i) p(z_i) / q(z_i given x), a bound (Burda et al. 2016, Eq. 8)."""
        q = self.q(x, y)
        noise = torch.randn(
            self.k, len(x), *self.latent_space.shape, generator=generator, device=x.device, dtype=q.mean.dtype
        )
        at_once = max(1, MEMORY // (self.likelihood.channels * max(x.numel(), 1)))
        log_w = torch.cat([self.log_weights(q, x, y, e) for e in noise.split(at_once)])
        return LogProb(log_w.logsumexp(0) - math.log(self.k), "lower bound")

    def log_weights(self, q: Normal, x: Tensor, y: Tensor | None, noise: Tensor) -> Tensor:
        """log p(x, z) - log q(z given x) `(k, B)` at the codes that noise `(k, B, latent)` leads to."""
        k = len(noise)
        q = q.repeat(k)
        z = q.at(noise.flatten(0, 1))
        xs = x.repeat(k, *[1] * (x.dim() - 1))
        log_p = self.p(z, None if y is None else y.repeat(k)).log_prob(xs) + self.log_prior(z)
        return (log_p - q.log_prob(z)).view(k, -1)
