"""Hierarchical variational autoencoder, its posterior found from the top down.

p(z_1 .. z_L) = prod_l p(z_l given z_<l), and q(z_l given z_<l, x) on the same way down, with what a way up
made of x (Sonderby et al. 2016; Kingma et al. 2016, Section 3.2; Vahdat and Kautz 2020; Child 2021).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from pangen.families.latent.ladder import Pick, Posterior, Step, given, log_p, log_q
from pangen.families.latent.latent import ACTIVE, LatentModel, warmed
from pangen.likelihoods import Normal, Observation, bounded
from pangen.networks.hierarchy import Downward, Upward, levels
from pangen.networks.rounding import Precision
from pangen.samplers.interpolation import spherical
from pangen.settings import Count, NonNegative, Share
from pangen.space import Batch, Distribution, Loss, Progress, Space

LOG_SIGMA = (-4.0, 3.0)
"""Bounds of the log standard deviation of a prior."""
LOG_CHANGE = (-6.0, 4.0)
"""Bounds of what a posterior adds to it."""


class HVAE(LatentModel[Posterior]):
    """Groups of normal codes from coarse to fine, and x given all of them.

    Args:
        latent: numbers in a code that is a vector.
        channels: of a code that is a map.
        groups: codes at each resolution, the coarsest first; the last number counts for all finer ones.
            Vectors and small images have one resolution.
        width: of vectors; maps have 1/16 of it at half size, 1/8 below.
        depth: residual blocks from group to group, both up and down.
        dropout: of hidden units and channels.
        beta: weight of the KL terms; 1 is the bound itself.
        warmup: share of training over which that weight rises from 0.
        free_bits: nats that each group may take for nothing, fewer with each step and none at the end.
        observation: p(x given z) by name, as for vae; auto: the first that fits.
        precision: bfloat16 or float16 rounds the factors of the layers' products in training.
        k: importance samples in `log_prob`.
    """

    training_defaults: ClassVar = {"lr": 2e-3, "clip": 100.0, "ema": 0.999, "weight_decay": 0.1}

    def __init__(
        self,
        space: Space,
        *,
        latent: Count = 16,
        channels: Count = 4,
        groups: tuple[Count, ...] = (2,),
        width: Count = 128,
        depth: Count = 1,
        dropout: Share = 0.0,
        beta: NonNegative = 1.0,
        warmup: Share = 0.3,
        free_bits: NonNegative = 1.0,
        observation: Observation = "auto",
        precision: Precision = "full",
        k: Count = 32,
    ) -> None:
        found = levels(space, groups, latent, channels, width)
        shapes = [level.shape for level in found for _ in range(level.groups)]
        sizes = [math.prod(shape) for shape in shapes]
        super().__init__(space, latent=sum(sizes), k=k, observation=observation)
        self.shapes, self.sizes = shapes, sizes
        self.beta, self.warmup, self.free_bits = beta, warmup, free_bits
        self.up = Upward(space, found, depth, dropout=dropout, precision=precision)
        self.down = Downward(
            space, found, self.likelihood.channels, depth, dropout=dropout, precision=precision
        )

    def descend(
        self, e: Tensor, y: Tensor | None, d: list[Tensor] | None = None, pick: Pick = Normal.at
    ) -> tuple[list[Step], Tensor]:
        """All groups, and the features below them; codes are of q where there is a d of x, else of p.

        `e` `(B, latent)` holds the noise of the codes, or the codes, as `pick` has it.
        """
        steps, h = [], self.down.start(y, len(e))
        for i, part in enumerate(e.split(self.sizes, 1)):
            h, raw = self.down.prior(i, h, y)
            mu, log_sigma = raw.chunk(2, 1)
            p = q = Normal(mu, bounded(log_sigma, *LOG_SIGMA))
            if d is not None:  # relative to the prior (Vahdat and Kautz, Section 3.2)
                shift, change = self.down.posterior(i, h, d[i]).chunk(2, 1)
                q = Normal(p.at(shift), p.log_scale + bounded(change, *LOG_CHANGE))
            z = pick(q, part)
            h = self.down.add(i, h, z.view(-1, *self.shapes[i]))
            steps.append(Step(z, p, q))
        return steps, h

    def x_given(self, h: Tensor) -> Distribution:
        """p(x given z), from the features below all groups."""
        return self.likelihood(self.down.finish(h))

    def q(self, x: Tensor, y: Tensor | None = None) -> Posterior:
        """q(z given x), group by group."""
        d = self.up(x, y)
        still = torch.zeros(len(x), *self.latent_space.shape, device=x.device)
        return Posterior(lambda e, pick: self.descend(e, y, d, pick)[0], d, still)

    def p(self, z: Tensor, y: Tensor | None = None) -> Distribution:
        """p(x given z)."""
        return self.x_given(self.descend(z, y, pick=given)[1])

    def log_prior(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """log p(z_1 .. z_L)."""
        return log_p(self.descend(z, y, pick=given)[0])

    def log_weights(self, q: Posterior, x: Tensor, y: Tensor | None, noise: Tensor) -> Tensor:
        """log p(x, z) - log q(z given x) `(k, B)`, one way down after another: many at once need much memory."""
        found = []
        for e in noise:
            steps, h = self.descend(e, y, q.d)
            found.append(self.x_given(h).log_prob(x) + log_p(steps) - log_q(steps))
        return torch.stack(found)

    def interpolate(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        """On the sphere, near which normal codes lie."""
        return spherical(a, b, t)

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        """The negative bound in nats, one sample of z, each KL term in closed form given the codes above."""
        x, y = batch
        steps, h = self.descend(
            torch.randn(len(x), *self.latent_space.shape, device=x.device), y, self.up(x, y)
        )
        reconstruction = -self.x_given(h).log_prob(x).mean()
        each = [step.kl.mean(0) for step in steps]
        kl = torch.stack([of_group.sum() for of_group in each])
        beta = warmed(self.beta, self.warmup, progress)
        free = self.free_bits * (1 - progress.fraction)
        total = reconstruction + beta * kl.clamp(min=free).sum()  # Kingma et al. 2016, Eq. 15
        terms = {"reconstruction": reconstruction, "kl": kl.sum(), "active": (torch.cat(each) > ACTIVE).sum()}
        return Loss(total, terms | {f"kl_{i + 1}": of_group for i, of_group in enumerate(kl)})

    def trajectory(
        self, n: int, y: Tensor | None = None, *, generator: torch.Generator, mean: bool = False,
        temperature: float = 1.0,
    ) -> Iterator[Tensor]:  # fmt: skip
        """z from the top down, its noise times `temperature`, then x ~ p(x given z), or the mean of x."""
        e = torch.randn(n, *self.latent_space.shape, generator=generator, device=self.device)
        p = self.x_given(self.descend(temperature * e, y)[1])
        yield p.mean if mean else p.sample(generator)
