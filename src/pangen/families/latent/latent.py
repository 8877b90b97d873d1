"""What latent-variable models share: p(x, z) = p(z) p(x given z), and q(z given x) for its posterior."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

from pangen.likelihoods import Likelihood, Normal, Observation, bounded, likelihood
from pangen.model import GenerativeModel
from pangen.networks.roles import Decoder, Encoder, Plain
from pangen.networks.rounding import Precision, rounded
from pangen.samplers.interpolation import spherical
from pangen.space import Distribution, LogProb, Progress, Space

MEMORY = 2**24
"""Numbers the decoder may put out at once when a likelihood is evaluated."""
ACTIVE = 0.01
"""Nats that a dimension of the code must tell of x, on average over a batch, to count as used."""
LOG_SIGMA = (-5.0, 2.0)
"""Bounds of a posterior's log standard deviation."""


class LatentModel(GenerativeModel):
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

    def log_weights(self, q: Normal, x: Tensor, y: Tensor | None, noise: Tensor) -> Tensor:
        """log p(x, z) - log q(z given x) `(k, B)` at the codes that noise `(k, B, latent)` leads to."""
        k = len(noise)
        q = q.repeat(k)
        z = q.at(noise.flatten(0, 1))
        return (self.log_joint(z, x, y) - q.log_prob(z)).view(k, -1)

    def log_joint(self, z: Tensor, x: Tensor, y: Tensor | None = None) -> Tensor:
        """log p(x given z) + log p(z) `(k B,)`, at k codes for each of B examples: `z` `(k B, latent)`."""
        k = len(z) // len(x)
        xs, ys = (None if v is None else v.repeat(k, *[1] * (v.dim() - 1)) for v in (x, y))
        return self.p(z, ys).log_prob(xs) + self.log_prior(z)


class OneLayer(LatentModel):
    """One normal code, and x given it, from a network each; a model gives the prior and the loss.

    Args:
        width: of both networks.
        plain: perceptrons in place of what the space decides.
        precision: of the networks' products in training; likelihoods and samples are at full precision.
    """

    def __init__(
        self,
        space: Space,
        *,
        latent: int,
        width: int,
        plain: Plain | None,
        observation: Observation,
        precision: Precision,
        k: int,
    ) -> None:
        super().__init__(space, latent=latent, k=k, observation=observation)
        self.rough = precision == "bfloat16"
        self.encoder = Encoder(space, 2 * latent, width, plain=plain)
        self.decoder = Decoder(space, latent, self.likelihood.channels, width, plain=plain)

    @abstractmethod
    def prior(self, n: int) -> Distribution:
        """p(z), `n` rows of it."""

    def q(self, x: Tensor, y: Tensor | None = None) -> Normal:
        """q(z given x), a diagonal normal."""
        with rounded(x, self.rough and self.training):
            raw = self.encoder(x, y)
        mu, log_sigma = raw.to(x.dtype).chunk(2, -1)
        return Normal(mu, bounded(log_sigma, *LOG_SIGMA))

    def p(self, z: Tensor, y: Tensor | None = None) -> Distribution:
        """p(x given z)."""
        with rounded(z, self.rough and self.training):
            raw = self.decoder(z, y)
        return self.likelihood(raw.to(z.dtype))

    def log_prior(self, z: Tensor) -> Tensor:
        """log p(z) `(B,)`."""
        return self.prior(len(z)).log_prob(z)

    def interpolate(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        """On the sphere, near which normal codes lie."""
        return spherical(a, b, t)

    def trajectory(
        self, n: int, y: Tensor | None = None, *, generator: torch.Generator, mean: bool = False
    ) -> Iterator[Tensor]:
        """z ~ p(z), then x ~ p(x given z), as the model defines it; or the mean of x, smoother."""
        p = self.p(self.prior(n).sample(generator), y)
        yield p.mean if mean else p.sample(generator)

    def standard(self, n: int) -> Normal:
        """N(0, I), `n` rows of it."""
        zero = torch.zeros((), device=self.device).expand(n, *self.latent_space.shape)
        return Normal(zero, zero)


def warmed(weight: float, warmup: float, progress: Progress) -> float:
    """A weight that rises from 0 over the first share `warmup` of training (Bowman et al. 2016)."""
    return weight * min(1.0, progress.fraction / warmup if warmup else 1.0)
