"""What latent-variable models share: p(x, z) = p(z) p(x given z), and q(z given x) for its posterior."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from pangen.likelihoods import Likelihood, Observation, likelihood
from pangen.model import GenerativeModel
from pangen.space import Distribution, LogProb, Progress, Space

MEMORY = 2**24
"""Numbers the decoder may put out at once when a likelihood is evaluated."""
ACTIVE = 0.01
"""Nats that a dimension of the code must tell of x, on average over a batch, to count as used."""
LOG_SIGMA = (-5.0, 2.0)
"""Bounds of a posterior's log standard deviation."""


class Reparametrised(Distribution, Protocol):
    """A distribution whose samples are functions of normal noise."""

    def at(self, noise: Tensor) -> Tensor:
        """The sample that standard normal noise leads to; gradients pass."""
        ...


Q = TypeVar("Q", bound=Reparametrised)


class LatentModel(GenerativeModel, Generic[Q]):
    """A model of its paper gives q, p and the prior of a code, and a loss.

    Args:
        latent: numbers in a code.
        k: importance samples in `log_prob`.
        observation: the likelihood, by name.
    """

    def __init__(self, space: Space, *, latent: int, k: int, observation: Observation = "auto") -> None:
        super().__init__(space)
        self.k = k
        self.latent_space = Space("real", (latent,))
        self.likelihood: Likelihood = likelihood(space, observation)

    @abstractmethod
    def q(self, x: Tensor, y: Tensor | None = None) -> Q:
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
        like = next(self.parameters())
        noise = torch.randn(
            self.k, len(x), *self.latent_space.shape, generator=generator, device=x.device, dtype=like.dtype
        )
        at_once = max(1, MEMORY // (self.likelihood.channels * self.space.dims))
        ys, parts = [None] * len(x) if y is None else y.split(at_once), []
        for xs, ys_, e in zip(x.split(at_once), ys, noise.split(at_once, 1), strict=False):
            q = self.q(xs, ys_)
            log_w = [self.log_weights(q, xs, ys_, part) for part in e.split(max(1, at_once // len(xs)))]
            parts.append(torch.cat(log_w).logsumexp(0))
        return LogProb(torch.cat(parts) - math.log(self.k), "lower bound")

    @abstractmethod
    def log_weights(self, q: Q, x: Tensor, y: Tensor | None, noise: Tensor) -> Tensor:
        """log p(x, z) - log q(z given x) `(k, B)` at the codes that noise `(k, B, latent)` leads to."""


def warmed(weight: float, warmup: float, progress: Progress) -> float:
    """A weight that rises from 0 over the first share `warmup` of training (Bowman et al. 2016)."""
    return weight * min(1.0, progress.fraction / warmup if warmup else 1.0)
