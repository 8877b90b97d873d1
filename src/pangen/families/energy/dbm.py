"""Deep Boltzmann machine (Salakhutdinov and Hinton 2009): layers of units, each tied to its neighbours.

E(v, h1 .. hL) = -sum_l b_l.h_l - sum_l h_{l-1}.W_l.h_l with h_0 = v, bits or the counts of grey levels.
Trained bottom-up layer by layer, then all together: the data's phase by a mean field, the model's by
persistent chains. Its likelihood is the mean field's bound with an estimated log Z.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn

from pangen.errors import PangenError
from pangen.model import GenerativeModel
from pangen.samplers.annealing import estimate_log_z, gibbs_walk
from pangen.samplers.layered import Counts, FromBaseRates, Layered, Layers
from pangen.samplers.mcmc import binomial
from pangen.space import Batch, LogProb, Loss, Progress, Space


class DBM(GenerativeModel):
    """Any number of hidden layers; three is the classical picture.

    Args:
        hidden: units of each hidden layer.
        pretrain: share of the training spent on the layers one by one, bottom first.
        mean_field: rounds of the data's phase.
        k: Gibbs sweeps of the persistent chains in each step; there are
        chains: of them.
        sweeps: Gibbs sweeps from independent units to a sample.
        temperatures: of annealed importance sampling, which runs
        weights: chains each way.
    """

    training_defaults: ClassVar = {
        "optimizer": "sgd", "lr": 0.05, "betas": (0.0, 0.99), "clip": None, "schedule": "linear", "ema": 0.999,
    }  # fmt: skip

    def __init__(
        self,
        space: Space,
        *,
        hidden: tuple[int, ...] = (128, 128, 128),
        pretrain: float = 0.4,
        mean_field: int = 10,
        k: int = 1,
        chains: int = 128,
        sweeps: int = 1000,
        temperatures: int = 1000,
        weights: int = 64,
    ) -> None:
        super().__init__(space)
        if space.kind != "binary" and not space.is_grid:
            raise PangenError(
                "a dbm needs binary data or grey levels; bin real values, or fit another model."
            )
        self.pretrain, self.mean_field, self.k, self.sweeps = pretrain, mean_field, k, sweeps
        self.temperatures, self.weights, self.counts = temperatures, weights, Counts(space)
        units = (space.dims, *hidden)
        scales = [0.01 / self.counts.N, *[0.01] * len(hidden)]
        self.W = nn.ParameterList(
            s * torch.randn(a, b) for s, a, b in zip(scales, units, hidden, strict=False)
        )
        self.b = nn.ParameterList(torch.zeros(n) for n in units)
        self.register_buffer("b_base", torch.zeros(space.dims))  # log odds of the data
        self.register_buffer("chains", torch.zeros(chains, sum(units)))
        self.register_buffer("log_z", torch.tensor(torch.nan))  # unknown until `calibrate`

    @torch.no_grad()
    def initialize(self, batch: Batch) -> None:
        """Visible biases and chains at the data's mean."""
        self.b_base.copy_(self.counts.base_rates(batch.x))
        self.b[0].copy_(self.b_base)
        self.chains.copy_(self.path().start(len(self.chains), torch.default_generator))

    # -- the distribution -----------------------------------------------------------------------

    def joint(self) -> Layered:
        """The law of all units together."""
        return Layered(tuple(self.W), tuple(self.b), self.counts.N)

    def path(self) -> FromBaseRates:
        return FromBaseRates(self.joint(), self.b_base)

    @torch.no_grad()
    def infer(self, v: Tensor) -> Layers:
        """The mean field q(h given v): a doubled bottom-up pass, then rounds of Eq. 9."""
        joint, h = self.joint(), [v]
        for layer in range(1, len(self.b)):
            twice = 2 if layer + 1 < len(self.b) else 1  # makes up for the layer above, not there yet
            h.append(torch.sigmoid(self.b[layer] + twice * (h[-1] @ self.W[layer - 1])))
        for _ in range(self.mean_field):
            for parity in (1, 2):
                for layer in range(parity, len(h), 2):
                    h[layer] = torch.sigmoid(joint.field(h, layer))
        return h

    def log_prob(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> LogProb:
        """The variational bound E_q[-E] + H(q) - log Z (Eq. 8)."""
        h = self.infer(self.counts.of(x))
        entropy = sum((torch.special.entr(m) + torch.special.entr(1 - m)).sum(-1) for m in h[1:])
        bound = self.counts.log_choose(h[0]) - self.joint().energy(h) + entropy
        return LogProb(bound - self.log_z, "estimate")

    def calibrate(self, generator: torch.Generator, *, thorough: bool = True) -> None:
        """Estimate log Z."""
        walk = gibbs_walk(self.path(), self.weights, self.sweeps, generator) if thorough else None
        self.log_z.copy_(estimate_log_z(self.path(), self.weights, self.temperatures, generator, walk))

    # -- learning and sampling ------------------------------------------------------------------

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        """E(data) - E(chains), a bit, or that of one layer: its gradient is a difference of moments."""
        v, depth = self.counts.of(batch.x), len(self.W)
        layer = int(progress.fraction / self.pretrain * depth) if self.pretrain else depth
        if layer < depth:
            return self._greedy(v, layer)
        joint, data = self.joint(), self.infer(v)
        with torch.no_grad():
            chain = self.path().layers(self.chains)
            for _ in range(self.k):
                chain = joint.sweep(chain)
        if self.training:
            self.chains.copy_(torch.cat(chain, 1))
        low, high = joint.energy(data).mean(), joint.energy(chain).mean()
        return Loss((low - high) / self.counts.N, {"energy of data": low, "energy of chains": high})

    def _greedy(self, v: Tensor, layer: int) -> Loss:
        """CD-1 of two neighbours, the missing layers made up for by doubled inputs (Section 3.1)."""
        up = 2 if layer + 1 < len(self.W) else 1
        down = 2 if layer > 0 else 1
        W, b, c, N = self.W[layer], self.b[layer], self.b[layer + 1], self.joint().count(layer)
        with torch.no_grad():
            h = self.infer(v)[layer]
            positive = torch.sigmoid(c + up * (h @ W))
            seen = binomial(torch.sigmoid(b + down * (binomial(positive, 1) @ W.T)), N)
            negative = torch.sigmoid(c + up * (seen @ W))
        pair = Layered((W,), (b, c), N)
        return Loss((pair.energy([h, positive]).mean() - pair.energy([seen, negative]).mean()) / N)

    def trajectory(
        self, n: int, y: Tensor | None = None, *, generator: torch.Generator, sweeps: int | None = None
    ) -> Iterator[Tensor]:
        for s in gibbs_walk(self.path(), n, sweeps or self.sweeps, generator):
            yield self.counts.values(s[:, : self.space.dims])
