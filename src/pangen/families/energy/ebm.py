"""Deep energy-based model, p(x) = exp(-E(x)) / Z (LeCun et al. 2006), a classifier as well.

E(x, y) = f(x)[y] - log N(x; m, s^2), f a network: a tilt of the Gaussian fitted to the data, so
that Z exists. Over classes, p(y given x) = softmax(-f(x)), and E(x) = -log sum_y exp(-E(x, y))
(Grathwohl et al. 2020, Eqs. 5 to 7).

Objectives: `contrastive`, the maximum-likelihood gradient with persistent Langevin chains (Du and
Mordatch 2019; Nijkamp et al. 2019), Metropolis-adjusted here, and moved to proposals from the
Gaussian where those are taken; `score`, denoising score matching (Vincent 2011), which learns the
density of the data blurred by `sigma`. Within, u = (x - m) / s.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pangen.errors import PangenError
from pangen.families.energy.energy import EnergyModel
from pangen.likelihoods import log_normal
from pangen.networks.fourier import scores
from pangen.networks.labels import of_class
from pangen.samplers.annealing import annealed_walk
from pangen.samplers.diagnostics import check_gap
from pangen.samplers.tilted import FromNormal, advance, tilted_log_z
from pangen.settings import Count, Positive
from pangen.space import Batch, LogProb, LogZ, Loss, Progress, Space

ACCEPTANCE = 0.57
"""Of Langevin proposals, sought by moving the step (Roberts and Rosenthal 1998)."""


class EBM(EnergyModel):
    """An energy over real vectors, or over images on a grid, whose cells training fills with noise.

    Args:
        objective: how the energy is learnt.
        width: of the network.
        chains: persistent chains, a replay buffer moved as a whole; for score matching, examples.
            Annealing to and from these finds log Z in high dimensions.
        k: Langevin steps of the chains at each step of training.
        sigma: noise of score matching, of data with deviation 1; the first Langevin step is its square.
        level: weight of the squared mean energies. (Du and Mordatch's squares of each would flatten p.)
        sweeps: Langevin steps to a sample, the first half of them annealed from the Gaussian.
        temperatures: of annealed importance sampling.
    """

    training_defaults: ClassVar = {"lr": 2e-3, "ema": 0.998, "batch": 256}

    running = ("step",)

    def __init__(
        self,
        space: Space,
        *,
        objective: Literal["contrastive", "score"] = "contrastive",
        width: Count = 128,
        chains: Count = 256,
        k: Count = 5,
        sigma: Positive = 0.1,
        level: Positive = 1e-3,
        sweeps: Count = 200,
        temperatures: Count = 300,
    ) -> None:
        super().__init__(space)
        if space.kind != "real":
            raise PangenError("an ebm needs vectors or grey levels; for binary data choose rbm or boltzmann.")
        self.objective, self.k, self.sigma, self.level = objective, k, sigma, level
        self.sweeps, self.temperatures = sweeps, temperatures
        self.cell = 2 / (space.levels - 1) if space.is_grid else 0.0
        self.net = scores(space, max(space.classes, 1), width)
        self.m = nn.Buffer(torch.zeros(space.shape))
        self.s = nn.Buffer(torch.ones(space.shape))
        self.chains = nn.Buffer(torch.zeros(chains, *space.shape))
        self.step = nn.Buffer(torch.tensor(sigma**2))
        self.log_z = nn.Buffer(torch.full((max(space.classes, 1),), math.nan))  # until `calibrate`

    @torch.no_grad()
    def initialize(self, batch: Batch) -> None:
        """The Gaussian at the data's moments, and chains in it."""
        self.m.copy_(batch.x.mean(0))
        self.s.copy_((batch.x.var(0, correction=0) + self.cell**2 / 12).sqrt().clamp(min=1e-2))
        examples = self._u(batch.x)[torch.arange(len(self.chains)) % len(batch.x)]
        self.chains.copy_(torch.randn_like(examples) if self.objective == "contrastive" else examples)

    # -- the distribution -----------------------------------------------------------------------

    def tilt(self, u: Tensor, y: Tensor | None = None) -> Tensor:
        """f of class y, or of all together where y is None or null, `(B,)`."""
        return -of_class(-self.net(u), y)

    def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """E(x, y), or E(x), `(B,)`."""
        return self.tilt((x - self.m) / self.s, y) - log_normal(x, self.m, self.s.log())

    def classify(self, x: Tensor) -> Tensor:
        """log p(y given x) `(B, classes)`, which needs no log Z (Grathwohl et al., Eq. 5)."""
        return (-self.net((x - self.m) / self.s)).log_softmax(1)

    def log_prob(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> LogProb:
        """On a grid, the density at the middle of the cell times its volume."""
        log_z = of_class(self.log_z.expand(len(x), -1), y)
        volume = self.space.dims * math.log(self.cell) if self.cell else 0.0
        return LogProb(volume - self.energy(x, y) - log_z, "estimate")

    def anneal(self, generator: torch.Generator, chains: int, share: int) -> LogZ:
        x, temperatures = self.chains[: chains or None], self.temperatures // share
        return tilted_log_z(self._path(), self.net, x, temperatures, generator)

    def _path(self, y: Tensor | None = None) -> FromNormal:
        """From the Gaussian to the model, in u."""
        return FromNormal(lambda u: self.tilt(u, y), self.space.shape, self.step)

    # -- learning and sampling ------------------------------------------------------------------

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        u = self._u(batch.x)
        y, score = batch.y, self.objective == "score"
        return self._score(u, y) if score else self._contrastive(u, y, progress)

    def _u(self, x: Tensor) -> Tensor:
        """Examples, spread over their cells, in units of the Gaussian."""
        return (x + self.cell * (torch.rand_like(x) - 0.5) - self.m) / self.s

    def _contrastive(self, u: Tensor, y: Tensor | None, progress: Progress) -> Loss:
        """E(data) - E(chains), whose gradient is that of -log p(x, y) (Du and Mordatch, Eq. 2)."""
        chain, taken = advance(self._path(), self.chains, self.k)
        if self.training:
            self.chains.copy_(chain)
            self.step.mul_(torch.exp(0.1 * (taken - ACCEPTANCE)))
        data, model = self.tilt(u, y).mean(), self.tilt(chain).mean()
        check_gap(data - model, self.space.dims, progress)
        level = data.square() + model.square()
        terms = {"energy of data": data, "energy of chains": model, "acceptance": taken}
        return Loss(data - model + self.level * level, terms)

    def _score(self, u: Tensor, y: Tensor | None) -> Loss:
        """|sigma score(u + sigma e) + e|^2 / 2 (Vincent, Eq. 11), and -log p(y given x)."""
        e = torch.randn_like(u)
        with torch.enable_grad():
            noisy = (u + self.sigma * e).requires_grad_()
            (slope,) = torch.autograd.grad(self._path().energy(noisy).sum(), noisy, create_graph=True)
        match = (e - self.sigma * slope).flatten(1).square().sum(1).mean() / 2
        if y is None:
            return Loss(match, {"score": match})
        label = cross_entropy(-self.net(noisy), y)
        return Loss(match + label, {"score": match, "label": label})

    def trajectory(
        self, n: int, y: Tensor | None = None, *, generator: torch.Generator, sweeps: int | None = None
    ) -> Iterator[Tensor]:
        for u in annealed_walk(self._path(y), n, sweeps or self.sweeps, generator):
            yield self.m + self.s * u
