"""Restricted Boltzmann machine (Smolensky 1986), trained by contrastive divergence (Hinton 2002).

E(v, h) = -b.t - c.h - t.W.h - log h(v), with t(v) and h(v) those of the visible units: bits,
binomial grey levels, one-hot tokens, or Gaussian values. The class is one more visible unit, so
that p(y given x) is exact (Larochelle and Bengio 2008). Negative samples persist (Tieleman 2008), at several
temperatures if need be (Desjardins et al. 2010). log Z: a sum, or annealed (Salakhutdinov and Murray 2008).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn

from pangen.errors import PangenError
from pangen.families.energy.energy import EnergyModel
from pangen.networks.labels import of_class
from pangen.networks.rounding import FACTORS, Precision
from pangen.samplers.annealing import gibbs_walk
from pangen.samplers.bipartite import ByClass, contrast
from pangen.samplers.diagnostics import check_gap
from pangen.samplers.layered import FromBaseRates, Layered, Layers, with_slopes
from pangen.samplers.units import visible_units
from pangen.settings import Count, Natural, NonNegative, Share
from pangen.space import Batch, LogProb, LogZ, Loss, Progress, Space


class RBM(EnergyModel):
    """A bipartite energy model of any data.

    Args:
        width: hidden units.
        k: Gibbs sweeps between data, or the persistent chains, and the negative samples.
        chains: persistent chains (PCD-k); 0 starts at the data each time (CD-k).
        replicas: temperatures of these chains, down to that of independent units; 1: no tempering.
        centering: whether units are measured from their means in the gradient.
        sparsity: share of the examples that a hidden unit should be on for; 0: any.
        sparsity_cost: weight of the distance to it.
        precision: of the factors of large products in training; bfloat16 and float16 are faster where they are native.
        sweeps: Gibbs sweeps from independent units to a sample.
        temperatures, weights: of annealed importance sampling, and its chains each way.
    """

    training_defaults: ClassVar = {
        "optimizer": "sgd", "lr": 0.1, "betas": (0.0, 0.99), "clip": None, "schedule": "linear", "ema": 0.999,
    }  # fmt: skip

    running = ("lam",)

    def __init__(
        self,
        space: Space,
        *,
        width: Count = 128,
        k: Count = 1,
        chains: Natural = 128,
        replicas: Count = 1,
        centering: bool = True,
        sparsity: Share = 0.0,
        sparsity_cost: NonNegative = 0.1,
        precision: Precision = "full",
        sweeps: Count = 1000,
        temperatures: Count = 1000,
        weights: Count = 100,
    ) -> None:
        super().__init__(space)
        if replicas > 1 and not chains:
            raise PangenError("replicas swap states of persistent chains, and there are none: raise chains.")
        self.k, self.betas, self.centering = k, torch.linspace(1, 0, replicas).tolist(), centering
        self.sparsity, self.sparsity_cost = sparsity, sparsity_cost
        self.rounded = FACTORS[precision]
        self.sweeps, self.temperatures, self.weights = sweeps, temperatures, weights
        self.visible = visible_units(space)
        size = self.visible.size
        self.W = nn.Parameter(0.01 / self.visible.parts[0].scale * torch.randn(size, width))
        self.b, self.c = nn.Parameter(torch.zeros(size)), nn.Parameter(torch.zeros(width))
        self.b_base = nn.Buffer(torch.zeros(size))  # of independent units with the data's means
        self.mu = nn.Buffer(torch.zeros(size))  # the centres: means of the data
        self.lam = nn.Buffer(torch.zeros(width))  # and of what the hidden units make of them
        self.chains = nn.Buffer(torch.zeros(replicas, chains, size + width))
        self.log_z = nn.Buffer(torch.full((max(space.classes, 1),), math.nan))  # until `calibrate`

    @torch.no_grad()
    def initialize(self, batch: Batch) -> None:
        """Visible biases and persistent chains at the data's means."""
        self.b_base.copy_(self.visible.base_rates(*batch))
        self.b.copy_(self.b_base)
        if self.centering:
            self.mu.copy_(self.visible.of(*batch).mean(0))
            self.lam.fill_(0.5)
        path, count = FromBaseRates(self.joint(), self.b_base), self.chains[..., 0].numel()
        self.chains.copy_(path.start(count, torch.default_generator).view_as(self.chains))

    # -- the distribution -----------------------------------------------------------------------

    def joint(self) -> Layered:
        """The law of examples and classes together."""
        return Layered((self.W,), (self.b, self.c), self.visible, self.rounded)

    def each(self) -> ByClass:
        """The law of examples in each class, whose label unit moves the biases of h."""
        n, c = self.visible.sizes[0], self.c[None]
        c, d = (c + self.W[n:], self.b[n:]) if self.space.classes else (c, self.b.new_zeros(1))
        return ByClass(self.W[:n], self.b[:n], c, d, self.visible.parts[0], self.b_base[:n])

    def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Free energy F(x, y), or F(x) where y is None or null, in nats `(B,)`."""
        return -of_class(self.each().scores(x), y)

    def classify(self, x: Tensor) -> Tensor:
        """log p(y given x) `(B, classes)`, exact (Larochelle and Bengio, Eq. 2)."""
        return self.each().scores(x).log_softmax(1)

    def log_prob(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> LogProb:
        log_z = of_class(self.log_z.expand(len(x), -1), y)
        return LogProb(-self.energy(x, y) - log_z, "exact" if self.each().enumerable else "estimate")

    def exact_log_z(self) -> Tensor | None:
        return self.each().log_z()

    def anneal(self, generator: torch.Generator, chains: int, share: int) -> LogZ:
        temperatures, sweeps = self.temperatures // share, self.sweeps // share
        return self.each().anneal(chains or self.weights, temperatures, sweeps, generator)

    # -- learning and sampling ------------------------------------------------------------------

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        """F(data) - F(chains), a bit; its gradient is a difference of moments."""
        t, states = self.visible.of(*batch), self.chains if self.chains.numel() else None
        centres: Layers = [self.mu, self.lam]
        found = contrast(self.joint(), t, states, self.b_base, self.k, self.betas, centres)
        if self.training:
            self.lam.lerp_(found.h, 0.01 * self.centering)
            if states is not None:
                states.copy_(found.states)
        gap, (dW, db, dc) = found.data - found.model, found.slopes
        check_gap(gap, self.space.dims, progress)
        if self.sparsity:  # by the biases alone (Lee et al. 2008)
            dc = dc + self.sparsity_cost * (found.h - self.sparsity)
        total = with_slopes(gap, (self.W, self.b, self.c), (dW, db, dc))
        return Loss(
            total / self.visible.parts[0].scale,
            {"energy of data": found.data, "energy of chains": found.model},
        )

    def trajectory(
        self, n: int, y: Tensor | None = None, *, generator: torch.Generator, sweeps: int | None = None
    ) -> Iterator[Tensor]:
        """Gibbs sweeps; a class that is null is drawn first."""
        if y is not None:
            prior = self.log_z.nan_to_num(0).softmax(0)
            y = torch.where(y == len(prior), prior.multinomial(n, replacement=True, generator=generator), y)
        for s in gibbs_walk(self.each().path(y), n, sweeps or self.sweeps, generator):
            yield self.visible.parts[0].values(s[:, : self.visible.sizes[0]])
