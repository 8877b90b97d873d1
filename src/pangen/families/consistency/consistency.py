"""Consistency model: from any point of a path between noise and data straight to its end.

Song et al. 2023 (the model, multistep sampling), Song and Dhariwal 2024 (training from scratch:
pseudo-Huber distance, log-normal noise levels, ever finer discretisation, no moving target).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from pangen.model import GenerativeModel
from pangen.networks.labels import hide
from pangen.networks.preconditioning import Preconditioned, column
from pangen.samplers.diffusion import Multistep
from pangen.samplers.noise import spaced
from pangen.settings import Count, Share
from pangen.space import Batch, Loss, Progress, Space

LOWEST, HIGHEST = 0.01, 50.0
"""Ends of the path, in standard deviations of the data."""
WIDTH = 0.3
"""sigma_data of the skip: less than 1, as noise that it lets through must be learnt away."""
MEAN, STD = -0.4, 2.0
"""Of log(sigma) in training."""


def boundary(sigma: Tensor) -> tuple[Tensor, Tensor]:
    """c_skip and c_out that make f(x, sigma_min) = x exact (Song et al. 2023, Appendix C)."""
    c_skip = WIDTH**2 / ((sigma - LOWEST) ** 2 + WIDTH**2)
    return c_skip, WIDTH * (sigma - LOWEST) / (sigma**2 + WIDTH**2).sqrt()


class Consistency(GenerativeModel):
    """f(x, sigma): the same for all points of one probability-flow path, and x itself at its end.

    Args:
        width: units of the network.
        coarsest: intervals into which the path is cut when training starts.
        finest: the same when it ends; the number doubles at equal intervals of time.
        unlabelled: share of labels hidden in training, so that p(x) is learnt beside p(x given y).
    """

    training_defaults: ClassVar = {"lr": 4e-3, "ema": 0.995}
    selection = "samples"

    def __init__(
        self,
        space: Space,
        *,
        width: Count = 128,
        coarsest: Count = 10,
        finest: Count = 160,
        unlabelled: Share = 0.1,
    ) -> None:
        super().__init__(space)
        self.coarsest, self.finest, self.unlabelled = coarsest, finest, unlabelled
        self.net = Preconditioned(space, width, boundary, zero=False)  # else all noise maps to the mean

    def initialize(self, batch: Batch) -> None:
        self.net.measure(batch.x)

    @property
    def sigma_min(self) -> float:
        return LOWEST * float(self.net.scale)

    @property
    def sigma_max(self) -> float:
        return HIGHEST * float(self.net.scale)

    def intervals(self, progress: Progress) -> int:
        """N(k) - 1, Song and Dhariwal 2024, Section 3.4."""
        stages = math.log2(self.finest / self.coarsest) + 1
        return min(self.coarsest * 2 ** int(progress.fraction * stages), self.finest)

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        x0 = self.net.unit(batch.x)
        sigmas = spaced(self.intervals(progress) + 1, LOWEST, HIGHEST).flip(0).to(x0)
        edge = torch.erf((sigmas.log() - MEAN) / (math.sqrt(2) * STD))  # Eq. 12
        i = torch.multinomial(edge.diff(), len(x0), replacement=True)
        lower, upper = sigmas[i], sigmas[i + 1]
        e, y = torch.randn_like(x0), hide(batch.y, self.space, self.unlabelled if self.training else 0.0)
        with torch.no_grad():
            target = self.net(x0 + column(lower, x0) * e, lower, y)
        found = self.net(x0 + column(upper, x0) * e, upper, y)
        c = 0.00054 * math.sqrt(self.space.dims)
        distance = ((found - target).square().flatten(1).sum(1) + c**2).sqrt() - c  # Eq. 8
        return Loss((distance / (upper - lower)).mean())

    def denoise(self, x: Tensor, sigma: Tensor, y: Tensor | None = None) -> Tensor:
        """The end of the path through `x` at `sigma`: an example, not a mean of examples."""
        return self.net.data(self.net(self.net.unit(x), sigma / self.net.scale, y))

    def trajectory(
        self, n: int, y: Tensor | None = None, *, generator: torch.Generator, steps: int = 1
    ) -> Iterator[Tensor]:
        """`steps` jumps, each but the first from an example made noisy again."""
        sigmas = spaced(steps + 1, self.sigma_min, self.sigma_max)[:-1].tolist()
        noise = torch.randn(n, *self.space.shape, generator=generator, device=self.device)
        for x in Multistep(tuple(sigmas))(self, noise, y, generator=generator):
            if self.space.kind == "binary":
                x = (x > 0.5).to(x)
            yield x.clamp(-1, 1) if self.space.is_grid else x
