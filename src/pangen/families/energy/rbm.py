"""Restricted Boltzmann machine (Smolensky 1986), trained by contrastive divergence (Hinton 2002).

E(v, h) = -b.v - c.h - v.W.h - sum_i log C(N, v_i), with v_i counts in 0 .. N: bits for N = 1
(binary spaces); for grids of N + 1 levels the visibles are binomial given h. With `chains` the
negative samples persist from step to step (Tieleman 2008). Partition function: enumeration when
one side is small, else annealed importance sampling (Salakhutdinov and Murray 2008).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from pangen.errors import PangenError
from pangen.model import GenerativeModel, last
from pangen.samplers.annealing import estimate_log_z, gibbs_walk
from pangen.samplers.layered import Counts, FromBaseRates, Layered
from pangen.samplers.mcmc import binomial, block_gibbs
from pangen.space import Batch, LogProb, Loss, Progress, Space

ENUMERABLE = 2**14
"""States of one side up to which the partition function is summed."""


class RBM(GenerativeModel):
    """A bipartite energy model of binary or grid data.

    Args:
        width: hidden units.
        k: Gibbs sweeps between data, or the persistent chains, and the negative samples.
        chains: persistent chains (PCD-k); 0 starts at the data each time (CD-k).
        sweeps: Gibbs sweeps from independent units to a sample.
        temperatures: of annealed importance sampling, which runs
        weights: chains each way.
    """

    training_defaults: ClassVar = {
        "optimizer": "sgd", "lr": 0.1, "betas": (0.0, 0.99), "clip": None, "schedule": "linear", "ema": 0.999,
    }  # fmt: skip

    def __init__(
        self,
        space: Space,
        *,
        width: int = 128,
        k: int = 1,
        chains: int = 128,
        sweeps: int = 1000,
        temperatures: int = 1000,
        weights: int = 100,
    ) -> None:
        super().__init__(space)
        if space.kind != "binary" and not space.is_grid:
            raise PangenError(
                "an rbm needs binary data or grey levels; bin real values, or fit another model."
            )
        self.k, self.sweeps, self.temperatures, self.weights = k, sweeps, temperatures, weights
        self.counts, self.N = Counts(space), Counts(space).N
        self.W = nn.Parameter(0.01 / self.N * torch.randn(space.dims, width))
        self.b = nn.Parameter(torch.zeros(space.dims))
        self.c = nn.Parameter(torch.zeros(width))
        self.register_buffer("b_base", torch.zeros(space.dims))  # log odds of the data: the base-rate model
        self.register_buffer("chains", torch.zeros(chains, space.dims))
        self.register_buffer("log_z", torch.tensor(torch.nan))  # unknown until `calibrate`

    @torch.no_grad()
    def initialize(self, batch: Batch) -> None:
        """Visible biases, base rates and persistent chains at the data's mean."""
        self.b_base.copy_(self.counts.base_rates(batch.x))
        self.b.copy_(self.b_base)
        self.chains.copy_(binomial(self.b_base.sigmoid().expand_as(self.chains), self.N))

    # -- the distribution -----------------------------------------------------------------------

    def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Free energy F(v) = -log sum_h exp(-E(v, h)), in nats `(B,)`."""
        return self._free_energy(self.counts.of(x))

    def _free_energy(self, v: Tensor) -> Tensor:
        return -(v @ self.b) - softplus(self.c + v @ self.W).sum(-1) - self.counts.log_choose(v)

    def draw_h(self, v: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """h ~ p(h given v), Bernoulli."""
        return binomial(torch.sigmoid(self.c + v @ self.W), 1, generator)

    def draw_v(self, h: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """v ~ p(v given h), binomial: counts."""
        return binomial(torch.sigmoid(self.b + h @ self.W.T), self.N, generator)

    def log_prob(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> LogProb:
        exact = self._log_z_exact()
        log_z = self.log_z if exact is None else exact
        return LogProb(-self.energy(x) - log_z.to(x), "estimate" if exact is None else "exact")

    def path(self) -> FromBaseRates:
        """From independent visible units at the base rates to the model."""
        return FromBaseRates(Layered((self.W,), (self.b, self.c), self.N), self.b_base)

    def calibrate(self, generator: torch.Generator, *, thorough: bool = True) -> None:
        """Estimate log Z, unless it can be summed."""
        if self._log_z_exact() is None:
            path = self.path()
            walk = gibbs_walk(path, self.weights, self.sweeps, generator) if thorough else None
            self.log_z.copy_(estimate_log_z(path, self.weights, self.temperatures, generator, walk))

    def _log_z_exact(self) -> Tensor | None:
        visible, hidden = self.W.shape
        if 2**hidden <= ENUMERABLE:  # sum_v = (1 + exp(b + W h))^N, by the binomial theorem
            h = _states(hidden, 2).to(self.W)
            return (h @ self.c + self.N * softplus(self.b + h @ self.W.T).sum(-1)).logsumexp(0)
        if (self.N + 1) ** visible <= ENUMERABLE:
            return (-self._free_energy(_states(visible, self.N + 1).to(self.W))).logsumexp(0)
        return None

    # -- learning and sampling ------------------------------------------------------------------

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        """F(data) - F(chain), a bit: its gradient is the difference of moments <dE>_data - <dE>_model."""
        v = self.counts.of(batch.x)
        chain = last(block_gibbs(self.chains if len(self.chains) else v, self.draw_h, self.draw_v, self.k))
        if self.training and len(self.chains):
            self.chains.copy_(chain)
        data, model = self._free_energy(v).mean(), self._free_energy(chain).mean()
        return Loss((data - model) / self.N, {"energy of data": data, "energy of chains": model})

    def trajectory(
        self, n: int, y: Tensor | None = None, *, generator: torch.Generator, sweeps: int | None = None
    ) -> Iterator[Tensor]:
        for s in gibbs_walk(self.path(), n, sweeps or self.sweeps, generator):
            yield self.counts.values(s[:, : self.space.dims])


def _states(units: int, values: int) -> Tensor:
    """Every state of `units` variables with `values` values, `(values ** units, units)`."""
    index = torch.arange(values**units)[:, None]
    return index // values ** torch.arange(units) % values
