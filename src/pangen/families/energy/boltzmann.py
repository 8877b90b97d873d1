"""Boltzmann machine: binary units, each joined to every other (Ackley, Hinton and Sejnowski 1985).

E(s) = -s.W.s / 2 - b.s over units s = (v, h), W symmetric with zero diagonal. The gradient of the
log-likelihood is a difference of moments, <s_i s_j> with v clamped to data less <s_i s_j> free.
Both phases are sums where they can be, else: clamped, a mean field (Peterson and Anderson 1987);
free, persistent Gibbs chains (Tieleman 2008). log Z is a sum up to `ENUMERABLE` units, beyond that
the pessimistic end of annealed importance sampling from both sides.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn

from pangen.errors import PangenError
from pangen.families.energy.energy import EnergyModel
from pangen.model import last
from pangen.samplers.annealing import annealed_walk, log_z_interval
from pangen.samplers.diagnostics import check_gap
from pangen.samplers.pairwise import FromIndependent, Pairwise
from pangen.settings import Count, Natural
from pangen.space import Batch, LogProb, LogZ, Loss, Progress, Space, Trust

ENUMERABLE = 24
"""Units up to which `calibrate` sums over all states: 2^24 of them, in a second or two."""
FEW = 10
"""So many hidden units are summed out exactly, more of them by a mean field."""
MEAN_FIELD = 30
"""Damped updates of the mean field."""


class Boltzmann(EnergyModel):
    """A fully connected energy model of binary data.

    Args:
        hidden: hidden units.
        exact: units, visible and hidden, up to which training and sampling sum over all states.
        k: Gibbs sweeps of the persistent chains at each step, above that; there are
        chains: of them.
        sweeps: Gibbs sweeps to a sample, the first half of them annealed from independent units.
        temperatures: of annealed importance sampling, which runs
        weights: chains each way.
    """

    training_defaults: ClassVar = {"lr": 5e-2, "clip": None, "ema": 0.99, "batch": 1024}

    def __init__(
        self,
        space: Space,
        *,
        hidden: Natural = 4,
        exact: Natural = 20,
        k: Count = 5,
        chains: Count = 256,
        sweeps: Count = 200,
        temperatures: Count = 200,
        weights: Count = 64,
    ) -> None:
        super().__init__(space)
        if space.kind != "binary":
            raise PangenError("a boltzmann machine needs binary data; threshold it, or fit another model.")
        self.hidden, self.units = hidden, space.dims + hidden
        self.enumerates = self.units <= min(exact, ENUMERABLE)
        self.k, self.sweeps, self.temperatures, self.weights = k, sweeps, temperatures, weights
        self.w = nn.Parameter(torch.randn(math.comb(self.units, 2)) * 0.1 / math.sqrt(self.units))
        self.b = nn.Parameter(torch.zeros(self.units))
        self.pairs = nn.Buffer(torch.triu_indices(self.units, self.units, 1), persistent=False)
        self.b_base = nn.Buffer(torch.zeros(self.units))  # log odds of the data: independent units
        self.chains = nn.Buffer(torch.zeros(0 if self.enumerates else chains, self.units))
        self.log_z = nn.Buffer(torch.full((1,), math.nan))  # unknown until `calibrate`

    @torch.no_grad()
    def initialize(self, batch: Batch) -> None:
        """Visible biases and persistent chains at the data's mean."""
        mean = (batch.x.flatten(1).sum(0) + 0.5) / (len(batch.x) + 1)
        self.b_base[: self.space.dims] = mean.logit()
        self.b.copy_(self.b_base)
        self.chains.copy_(torch.bernoulli(self.b_base.sigmoid().expand_as(self.chains)))

    # -- the distribution -----------------------------------------------------------------------

    def joint(self) -> Pairwise:
        """The law of all units together."""
        W = self.w.new_zeros(self.units, self.units)
        W[self.pairs[0], self.pairs[1]] = self.w
        return Pairwise(W + W.T, self.b)

    def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Free energy F(v) = -log sum_h exp(-E(v, h)), or the mean field's upper bound on it, `(B,)`."""
        v, joint = x.flatten(1), self.joint()
        if self.hidden <= FEW:
            return -joint.scores(v, self.hidden).logsumexp(1)
        mu = self._mean_field(v, joint)
        entropy = -(torch.special.xlogy(mu, mu) + torch.special.xlogy(1 - mu, 1 - mu)).sum(1)
        return joint.energy(torch.cat([v, mu], 1)) - entropy

    @torch.no_grad()
    def _mean_field(self, v: Tensor, joint: Pairwise) -> Tensor:
        """mu_j = sigmoid(sum_i W_ij s_i + b_j) over hidden j: its fixed point for clamped v."""
        d = self.space.dims
        drive = v @ joint.W[:d, d:] + joint.b[d:]
        mu = torch.full_like(drive, 0.5)
        for _ in range(MEAN_FIELD):
            mu = (mu + torch.sigmoid(drive + mu @ joint.W[d:, d:])) / 2
        return mu

    def log_prob(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> LogProb:
        found: Trust = "exact" if self.hidden <= FEW else "lower bound"
        return LogProb(-self.energy(x) - self.log_z, "estimate" if self.units > ENUMERABLE else found)

    def exact_log_z(self) -> Tensor | None:
        return self.joint().double().log_z()[None] if self.units <= ENUMERABLE else None

    def anneal(self, generator: torch.Generator, chains: int, share: int) -> LogZ:
        path, n = FromIndependent(self.joint(), self.b_base), chains or self.weights
        walk = annealed_walk(path, n, self.sweeps // share, generator)
        return log_z_interval(path, last(walk), self.temperatures // share, generator)

    # -- learning and sampling ------------------------------------------------------------------

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        """-log p(v), or F(data) - E(chains): either has the difference of moments as its gradient."""
        data, joint = self.energy(batch.x).mean(), self.joint()
        if self.enumerates:
            log_z = joint.log_z()
            check_gap(data + log_z, self.units, progress)
            return Loss(data + log_z, {"free energy of data": data, "log z": log_z})
        s: Tensor = self.chains
        with torch.no_grad():
            for _ in range(self.k):
                s = joint.sweep(s)
        if self.training:
            self.chains.copy_(s)
        model = joint.energy(s).mean()
        check_gap(data - model, self.units, progress)
        return Loss(data - model, {"free energy of data": data, "energy of chains": model})

    def trajectory(
        self, n: int, y: Tensor | None = None, *, generator: torch.Generator, sweeps: int | None = None
    ) -> Iterator[Tensor]:
        """Exact draws where training enumerates, and `sweeps` is not given; else Gibbs sweeps."""
        if self.enumerates and not sweeps:
            states = iter([self.joint().double().draw(n, generator).float()])
        else:
            path = FromIndependent(self.joint(), self.b_base)
            states = annealed_walk(path, n, sweeps or self.sweeps, generator)
        for s in states:
            yield s[:, : self.space.dims].reshape(n, *self.space.shape)
