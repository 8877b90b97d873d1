"""What models of one normal code share: its posterior, and x given it, from a network each."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

from pangen.families.latent.latent import LOG_SIGMA, LatentModel
from pangen.likelihoods import Normal, Observation, bounded
from pangen.networks.roles import Decoder, Encoder, Plain
from pangen.networks.rounding import Precision, rounded
from pangen.samplers.interpolation import spherical
from pangen.space import Distribution, Space


class OneLayer(LatentModel[Normal]):
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
        self.precision = precision
        self.encoder = Encoder(space, 2 * latent, width, plain=plain)
        self.decoder = Decoder(space, latent, self.likelihood.channels, width, plain=plain)

    @abstractmethod
    def prior(self, n: int) -> Distribution:
        """p(z), `n` rows of it."""

    def q(self, x: Tensor, y: Tensor | None = None) -> Normal:
        """q(z given x), a diagonal normal."""
        with rounded(self, x):
            raw = self.encoder(x, y)
        mu, log_sigma = raw.to(x.dtype).chunk(2, -1)
        return Normal(mu, bounded(log_sigma, *LOG_SIGMA))

    def p(self, z: Tensor, y: Tensor | None = None) -> Distribution:
        """p(x given z)."""
        with rounded(self, z):
            raw = self.decoder(z, y)
        return self.likelihood(raw.to(z.dtype))

    def log_prior(self, z: Tensor) -> Tensor:
        """log p(z) `(B,)`."""
        return self.prior(len(z)).log_prob(z)

    def log_weights(self, q: Normal, x: Tensor, y: Tensor | None, noise: Tensor) -> Tensor:
        k = len(noise)
        q = q.repeat(k)
        z = q.at(noise.flatten(0, 1))
        return (self.log_joint(z, x, y) - q.log_prob(z)).view(k, -1)

    def log_joint(self, z: Tensor, x: Tensor, y: Tensor | None = None) -> Tensor:
        """log p(x given z) + log p(z) `(k B,)`, at k codes for each of B examples: `z` `(k B, latent)`."""
        k = len(z) // len(x)
        xs = x.repeat(k, *[1] * (x.dim() - 1))
        ys = None if y is None else y.repeat(k, *[1] * (y.dim() - 1))
        return self.p(z, ys).log_prob(xs) + self.log_prior(z)

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
