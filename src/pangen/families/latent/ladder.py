"""The way down through groups of codes: what is met at each group, and the posterior that all make up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pangen.likelihoods import Normal

Pick = Callable[[Normal, Tensor], Tensor]
"""How a code comes of its distribution and of what is known of it: its noise, or the code itself."""


def given(q: Normal, z: Tensor) -> Tensor:
    """The code itself, whatever its distribution."""
    return z


class Step(NamedTuple):
    """One group, given the codes above: its code, p(z_l) and q(z_l), all `(B, size)`."""

    z: Tensor
    p: Normal
    q: Normal

    @property
    def kl(self) -> Tensor:
        """KL(q || p) of each dimension (Vahdat and Kautz 2020, Eq. 2)."""
        log_ratio = self.q.log_scale - self.p.log_scale
        shift = (self.q.mean - self.p.mean) * torch.exp(-self.p.log_scale)
        return (shift**2 + torch.exp(2 * log_ratio) - 1) / 2 - log_ratio


def log_p(steps: list[Step]) -> Tensor:
    """log p(z_1 .. z_L) `(B,)`."""
    return torch.stack([step.p.log_prob(step.z) for step in steps]).sum(0)


def log_q(steps: list[Step]) -> Tensor:
    """log q(z_1 .. z_L given x) `(B,)`."""
    return torch.stack([step.q.log_prob(step.z) for step in steps]).sum(0)


@dataclass(frozen=True)
class Posterior:
    """q(z given x) = prod_l q(z_l given z_<l, x), which no fixed mean and scale describe."""

    descend: Callable[[Tensor, Pick], list[Step]]
    """The steps at the noise, or the codes `(B, latent)`."""
    d: list[Tensor]
    """What the way up made of x."""
    still: Tensor
    """No noise `(B, latent)`."""

    @property
    def mean(self) -> Tensor:
        """Each group's mean given the means above."""
        return self.at(self.still)

    def at(self, noise: Tensor) -> Tensor:
        """The pathwise sample that standard normal noise leads to; gradients pass."""
        return torch.cat([step.z for step in self.descend(noise, Normal.at)], 1)

    def log_prob(self, z: Tensor) -> Tensor:
        """Nats `(B,)`, each group's given the codes above it."""
        return log_q(self.descend(z, given))

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """One draw for each row `(B, latent)`."""
        like = self.still
        return self.at(torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype))
