"""Denoising diffusion: learn to remove noise of every level, then remove it level by level.

Ho et al. 2020 (L_simple, ancestral sampling), Song et al. 2021 (DDIM), Kingma et al. 2021 (the
bound in terms of sigma), Bao et al. 2022 (the variance of a step). Noise is added to a signal
that keeps its size, x_t = x0 + sigma_t e: the variance-preserving chain divided by sqrt(abar_t).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor

from pangen.errors import unknown
from pangen.model import GenerativeModel
from pangen.networks.labels import hide
from pangen.networks.preconditioning import (
    ErrorByLevel,
    Preconditioned,
    column,
    predict_eps,
    predict_v,
    predict_x0,
)
from pangen.samplers.diffusion import DDIM, Ancestral, cosine, linear, posterior, precise, spaced
from pangen.settings import Count, Share
from pangen.space import Batch, LogProb, Loss, Progress, Space

TARGETS = {"eps": predict_eps, "x0": predict_x0, "v": predict_v}
SCHEDULES = {"linear": linear, "cosine": cosine}
HIGHEST = 50.0
"""sigma_T in standard deviations of the data."""


class DDPM(GenerativeModel):
    """x0 estimated from x_t; `log_prob` bounds the ancestral chain, one draw of the noise at each level.

    The last level of a sample is rounded, not drawn.

    Args:
        width: units of the network.
        target: what the network predicts: the noise, the example, or v (Salimans and Ho 2022).
        schedule: how noise levels are distributed in training.
        chain: noise levels of the chain that is sampled and bounded.
        unlabelled: share of labels hidden in training, so that p(x) is learnt beside p(x given y).
    """

    training_defaults: ClassVar = {"lr": 6e-3, "ema": 0.995}
    selection = "loss"

    def __init__(
        self,
        space: Space,
        *,
        width: Count = 128,
        target: Literal["eps", "x0", "v"] = "v",
        schedule: Literal["linear", "cosine"] = "cosine",
        chain: Count = 50,
        unlabelled: Share = 0.1,
    ) -> None:
        super().__init__(space)
        self.schedule, self.chain, self.unlabelled = SCHEDULES[schedule], chain, unlabelled
        self.net = Preconditioned(space, width, TARGETS[target])
        self.error_by_level = ErrorByLevel(space.shape)
        self.register_buffer("low", torch.tensor(0.01))  # sigma_1 and sigma_T for data of variance 1
        self.register_buffer("high", torch.tensor(HIGHEST))

    def initialize(self, batch: Batch) -> None:
        self.net.measure(batch.x)
        if self.space.levels:  # noise much finer than the steps between levels teaches nothing
            self.low.copy_((min(1 / (self.space.levels - 1), 1 / 8) / self.net.scale).clamp(max=0.5))
        self.error_by_level.span(self.low, self.high)

    @property
    def sigma_min(self) -> float:
        return float(self.low * self.net.scale)

    @property
    def sigma_max(self) -> float:
        return float(self.high * self.net.scale)

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        x0, n = self.net.unit(batch.x), len(batch.x)
        t = (torch.rand((), device=x0.device) + torch.arange(n, device=x0.device) / n) % 1  # stratified
        sigma = self.schedule(t, self.low, self.high)
        level = column(sigma, x0)
        x = x0 + level * torch.randn_like(x0)
        error = self.net(x, sigma, hide(batch.y, self.space, self.unlabelled if self.training else 0.0)) - x0
        if self.training:
            self.error_by_level.update(error.detach(), sigma)
        c_out = self.net.coefficients(level)[1]
        return Loss((error / c_out).square().mean())  # |target - prediction|^2: L_simple, Eq. 14

    def denoise(self, x: Tensor, sigma: Tensor, y: Tensor | None = None) -> Tensor:
        """E[x0 given x], within the range of the data where that is known."""
        estimate = self.net.data(self.net(self.net.unit(x), sigma / self.net.scale, y))
        if self.space.kind == "binary":
            return estimate.clamp(0, 1)
        return estimate.clamp(-1, 1) if self.space.is_grid else estimate

    def error(self, sigma: Tensor) -> Tensor:
        """E(x0 - estimate)^2 of each dimension at a noise level, as met in training."""
        return self.net.scale**2 * self.error_by_level(sigma / self.net.scale)

    def trajectory(
        self,
        n: int,
        y: Tensor | None = None,
        *,
        generator: torch.Generator,
        sampler: Literal["ancestral", "ddim"] = "ancestral",
        steps: int | None = None,
    ) -> Iterator[Tensor]:
        """`steps` noise levels, `chain` by default."""
        steps = self.chain if steps is None else steps
        samplers = {"ancestral": Ancestral(steps, error=self.error), "ddim": DDIM(steps)}
        if sampler not in samplers:
            raise unknown("sampler", sampler, samplers)
        noise = torch.randn(n, *self.space.shape, generator=generator, device=self.device)
        for x in samplers[sampler](self, noise, y, generator=generator):
            yield x.round() if self.space.kind == "binary" else x

    def log_prob(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> LogProb:
        def noisy(sigma: Tensor) -> Tensor:
            return x + sigma * torch.randn(x.shape, generator=generator, device=x.device)

        levels = spaced(self.chain, self.sigma_min, self.sigma_max).to(x.dtype).to(x.device)
        bound = [-x.square() / (2 * levels[0] ** 2)]  # -L_T: q(x_T given x0) against N(0, sigma_T^2)
        for sigma, lower in pairwise(levels):  # -L_t: Gaussians of different mean and variance
            estimate = self.denoise(noisy(sigma), sigma.expand(len(x)), y)
            variance = posterior(x, x, sigma, lower)[1]
            weight = (1 - (lower / sigma) ** 2) ** 2
            ratio = 1 + weight * self.error(sigma) / variance
            excess = weight * (x - estimate).square() / variance
            bound.append(-0.5 * (ratio.log() + (1 + excess) / ratio - 1))
        sigma = levels[-1]
        estimate = self.denoise(noisy(sigma), sigma.expand(len(x)), y)
        bound.append(self._decode(x, estimate, self.error(sigma).sqrt()))  # -L_0
        return LogProb(sum(term.flatten(1).sum(1) for term in bound), "lower bound")

    def _decode(self, x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """log p(x0 given x_1) of each dimension."""
        if self.space.kind == "binary":  # the mean of a bit is its probability
            p = mean.clamp(1e-4, 1 - 1e-4)
            return torch.where(x > 0.5, p, 1 - p).log()
        if not self.space.is_grid:
            return -0.5 * ((x - mean) / std).square() - std.log() - 0.5 * math.log(2 * math.pi)
        half = 1 / (self.space.levels - 1)  # Eq. 13: the cell of each level, the outer ones unbounded
        above = torch.where(x > 1 - half, torch.inf, (x + half - mean) / std)
        below = torch.where(x < -1 + half, -torch.inf, (x - half - mean) / std)
        flip = below > 0  # in the lower tail the difference keeps its digits
        above, below = torch.where(flip, -below, above), torch.where(flip, -above, below)
        upper, lower = torch.special.log_ndtr(precise(above)), torch.special.log_ndtr(precise(below))
        return (upper + torch.log1p(-(lower - upper).exp())).to(x.dtype)
