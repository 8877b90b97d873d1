"""Variational diffusion: the bound itself is the loss, and the noise schedule is learnt with it.

Kingma et al. 2021. gamma(t) = log sigma(t)^2 rises between two ends. In continuous time the bound depends
on its ends alone; the way between them decides only how much estimates of the bound scatter.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pangen.families.diffusion.denoising import Denoising
from pangen.families.diffusion.last_step import log_last
from pangen.networks.monotone import Monotone
from pangen.networks.preconditioning import V, column
from pangen.networks.roles import Architecture, Backbone
from pangen.networks.rounding import Rounding
from pangen.samplers.noise import geometric, stratified
from pangen.settings import Count, Natural, Share
from pangen.space import Batch, LogProb, Loss, Progress, Space


class Gamma(nn.Module):
    """gamma(t) / 2 = log sigma: a rising function between the ends, as a `Schedule`."""

    def __init__(self) -> None:
        super().__init__()
        self.way = Monotone()

    def forward(self, t: Tensor, low: Tensor, high: Tensor) -> Tensor:
        s, _ = self.way(t.to(self.way.place.device))
        return geometric(s.to(t.device), low, high)


class VDM(Denoising):
    """x0 estimated from z_t = x0 + sigma(t) e; loss and `log_prob` are one bound.

    Args:
        width: units of the network.
        network: auto, a perceptron or a U-Net as the space has it; or dit, a Transformer over patches.
        patch: side of the pieces that are one place to the network; 0: what suits the size of examples.
        depth: blocks, of a U-Net at each size; 0: perceptrons 4, U-Nets 1, Transformers 6.
        precision: bfloat16 or float16 rounds factors of the network's products in training; auto, where a U-Net gains by it.
        chain: steps T of the chain that is bounded; 0: infinitely many, for which training is.
        draws: of the time for the bound of an example, where there are infinitely many.
        steps: noise levels of a sample.
        unlabelled: share of labels hidden in training, so that p(x) is learnt beside p(x given y).
    """

    training_defaults: ClassVar[dict[str, Any]] = {"lr": 6e-3, "ema": 0.995}
    schedule: Gamma

    def __init__(
        self,
        space: Space,
        *,
        width: Count = 128,
        network: Backbone = "auto",
        patch: Natural = 0,
        depth: Natural = 0,
        precision: Rounding = "auto",
        chain: Natural = 0,
        draws: Count = 50,
        steps: Count = 50,
        unlabelled: Share = 0.1,
    ) -> None:
        super().__init__(
            space,
            network=Architecture(width, network, patch, depth, precision),
            prediction=V,
            schedule=Gamma(),
            ends=(0.01, 50.0),
            unlabelled=unlabelled,
            usual={"name": "ancestral", "steps": steps},
        )
        self.chain, self.draws = chain, draws
        self.ends = nn.Parameter(torch.stack([self.low, self.high]).log())  # learnt; low and high follow

    def initialize(self, batch: Batch) -> None:
        super().initialize(batch)
        with torch.no_grad():
            self.ends.copy_(torch.stack([self.low, self.high]).log())

    @torch.no_grad()
    def after_step(self, progress: Progress) -> None:
        self.low.copy_(self.ends[0].exp())
        self.high.copy_(self.ends[1].exp())

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        """-L / dims: prior, diffusion (Eq. 17) and reconstruction."""
        low, high = self.ends.exp()
        s, slope = self.schedule.way(stratified(len(batch.x), batch.x.device))
        sigma = geometric(s, low, high)
        error = self.squares(batch, sigma, progress, unit=lambda level: level).flatten(1).mean(1)
        diffusion = (high / low).log() * slope * error  # gamma' / 2 times |e - e^|^2
        if s.requires_grad:  # the way learns from the square, whose mean is least where it scatters least
            for part in (s, slope):
                part.register_hook(lambda g: 2 * diffusion.detach() * g)
        prior = self.prior(batch.x, high * self.net.scale).mean()
        some = slice(-(-len(batch.x) // 8))  # enough to learn where the low end is
        y = None if batch.y is None else batch.y[some]
        last = self.last(batch.x[some], low * self.net.scale, torch.randn_like(batch.x[some]), y).mean()
        terms = {"prior": -prior, "diffusion": diffusion.mean(), "reconstruction": -last}
        return Loss(sum(terms.values()), terms)

    def prior(self, x: Tensor, sigma: Tensor) -> Tensor:
        """-KL of q(z_1 given x) from N(0, sigma^2), of each dimension."""
        return -(x / sigma).square() / 2

    def last(self, x: Tensor, sigma: Tensor, e: Tensor, y: Tensor | None) -> Tensor:
        """log p(x given z_0), of each dimension, around the estimate from z_0 = x + sigma e."""
        estimate = self.denoise(x + sigma * e, sigma.expand(len(x)), y)
        return log_last(self.space, x, estimate, self.error(sigma).sqrt())

    def log_prob(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> LogProb:
        def noise() -> Tensor:
            return torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)

        low, high = self.low * self.net.scale, self.high * self.net.scale
        bound = self.prior(x, high) + self.last(x, low, noise(), y)
        for sigma, weight in self.levels(len(x), low, high, generator):
            at = column(sigma, x)
            error = x - self.denoise(x + at * noise(), sigma, y)
            bound = bound - column(weight, x) * error.square()
        return LogProb(bound.flatten(1).sum(1), "lower bound")

    def levels(
        self, n: int, low: Tensor, high: Tensor, generator: torch.Generator | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Noise levels `(n,)`, and what a squared error of the estimate there weighs in the bound."""
        if self.chain:  # Eq. 13: half the difference of the signal-to-noise ratios of a step
            for sigma, lower in pairwise(self.rungs(self.chain)):
                yield sigma.expand(n), ((lower**-2 - sigma**-2) / 2).expand(n)
        else:
            for draw in range(self.draws):
                u = torch.rand(n, generator=generator, device=low.device)
                s, slope = self.schedule.way((draw + u) / self.draws)
                sigma = geometric(s, low, high)
                yield sigma, (high / low).log() * slope / sigma**2 / self.draws

    def rungs(self, steps: int) -> Tensor:
        """Noise levels `(steps + 1,)` of a chain, that fall."""
        low, high = self.low * self.net.scale, self.high * self.net.scale
        return self.schedule(torch.linspace(1, 0, steps + 1, device=low.device), low, high)

    def widening(self, sigma: Tensor, lower: Tensor) -> Tensor:
        """A step has the variance that it would have if it knew x."""
        return torch.ones_like(sigma)
