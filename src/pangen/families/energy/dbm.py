"""Deep Boltzmann machine (Salakhutdinov and Hinton 2009): layers of units, each tied to its neighbours.

E(v, h1 .. hL) = -sum_l b_l.h_l - sum_l h_{l-1}.W_l.h_l with h_0 = v, bits or the counts of grey levels.
Trained bottom-up layer by layer, then all together: the data's phase by a mean field, the model's by
persistent chains. Its likelihood is the mean field's bound with an estimated log Z.
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
from pangen.networks.rounding import FACTORS, Precision
from pangen.samplers.annealing import gibbs_walk, log_z_interval
from pangen.samplers.diagnostics import check_gap
from pangen.samplers.layered import FromBaseRates, Layered, Layers, with_slopes
from pangen.samplers.units import units_of
from pangen.settings import Count, Share
from pangen.space import Batch, LogProb, LogZ, Loss, Progress, Space


class DBM(EnergyModel):
    """Any number of hidden layers; three is the classical picture.

    Args:
        hidden: units of each hidden layer.
        pretrain: share of the training spent on the layers one by one, bottom first.
        mean_field: rounds of the data's phase.
        k: Gibbs sweeps of the persistent chains in each step; there are
        chains: of them.
        centering: whether units are measured from their means in the gradient (Montavon and Mueller 2012).
        precision: of the factors of large products in training; bfloat16 and float16 are faster where they are native.
        sweeps: Gibbs sweeps from independent units to a sample.
        temperatures: of annealed importance sampling, which runs
        weights: chains each way.
    """

    training_defaults: ClassVar = {
        "optimizer": "sgd", "lr": 0.05, "betas": (0.0, 0.99), "clip": None, "schedule": "linear", "ema": 0.999,
    }  # fmt: skip

    running = ("centres",)

    def __init__(
        self,
        space: Space,
        *,
        hidden: tuple[Count, ...] = (128, 128, 128),
        pretrain: Share = 0.4,
        mean_field: Count = 10,
        k: Count = 1,
        chains: Count = 128,
        centering: bool = True,
        precision: Precision = "full",
        sweeps: Count = 1000,
        temperatures: Count = 1000,
        weights: Count = 64,
    ) -> None:
        super().__init__(space)
        if space.kind != "binary" and not space.is_grid:
            raise PangenError("a dbm needs binary data or grey levels; for other data take an rbm.")
        self.pretrain, self.mean_field, self.k, self.sweeps = pretrain, mean_field, k, sweeps
        self.temperatures, self.weights = temperatures, weights
        self.centering, self.rounded = centering, FACTORS[precision]
        self.visible, units = units_of(space), (space.dims, *hidden)
        scales = [0.01 / self.visible.scale, *[0.01] * len(hidden)]
        self.W = nn.ParameterList(
            s * torch.randn(a, b) for s, a, b in zip(scales, units, hidden, strict=False)
        )
        self.b = nn.ParameterList(torch.zeros(n) for n in units)
        self.b_base = nn.Buffer(torch.zeros(space.dims))  # log odds of the data
        self.centres = nn.Buffer(torch.zeros(sum(units)))  # means over the data
        self.chains = nn.Buffer(torch.zeros(chains, sum(units)))
        self.log_z = nn.Buffer(torch.full((1,), math.nan))  # unknown until `calibrate`

    @torch.no_grad()
    def initialize(self, batch: Batch) -> None:
        """Visible biases and chains at the data's mean."""
        self.b_base.copy_(self.visible.base_rates(batch.x))
        self.b[0].copy_(self.b_base)
        self.chains.copy_(self.path().start(len(self.chains), torch.default_generator))
        if self.centering:
            self.centres.fill_(0.5)
            self.centres[: self.space.dims] = self.visible.of(batch.x).mean(0)

    # -- the distribution -----------------------------------------------------------------------

    def joint(self, rounded: torch.dtype | None = None) -> Layered:
        """The law of all units together."""
        return Layered(tuple(self.W), tuple(self.b), self.visible, rounded)

    def path(self) -> FromBaseRates:
        return FromBaseRates(self.joint(), self.b_base)

    def log_prob(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> LogProb:
        """The variational bound E_q[-E] + H(q) - log Z (Eq. 8)."""
        h = self.joint().mean_field(self.visible.of(x), self.mean_field)
        entropy = sum((torch.special.entr(m) + torch.special.entr(1 - m)).sum(-1) for m in h[1:])
        bound = self.visible.log_base(h[0]) - self.joint().energy(h) + entropy
        return LogProb(bound - self.log_z, "estimate")

    def anneal(self, generator: torch.Generator, chains: int, share: int) -> LogZ:
        path, n = self.path(), chains or self.weights
        walk = gibbs_walk(path, n, self.sweeps // share, generator)
        return log_z_interval(path, last(walk), self.temperatures // share, generator)

    # -- learning and sampling ------------------------------------------------------------------

    @torch.no_grad()
    def loss(self, batch: Batch, progress: Progress) -> Loss:
        """E(data) - E(chains), a bit, or that of two layers: its gradient is a difference of moments."""
        v, depth, joint = self.visible.of(batch.x), len(self.W), self.joint(self.rounded)
        layer = int(progress.fraction / self.pretrain * depth) if self.pretrain else depth
        if layer < depth:
            return self._learn(layer, *joint.greedy(v, layer), progress)
        data, model = joint.mean_field(v, self.mean_field), self.path().layers(self.chains)
        for _ in range(self.k):
            model = joint.sweep(model)
        if self.training:
            self.chains.copy_(torch.cat(model, 1))
        return self._learn(0, data, model, progress)

    def _learn(self, first: int, data: Layers, model: Layers, progress: Progress) -> Loss:
        """The contrast of the layers from `first` on; about centres where these are all layers."""
        W, b = tuple(self.W)[first:][: len(data) - 1], tuple(self.b)[first:][: len(data)]
        law, centres = Layered(W, b, self.visible, self.rounded), [torch.zeros_like(a) for a in b]
        if len(data) == len(self.b):
            centres = [c[0] for c in self.path().layers(self.centres[None])]  # views of the buffer
        dW, db = law.slopes(data, model, centres)
        if self.training and self.centering:
            for centre, h in zip(centres, data, strict=True):
                centre.lerp_(h.mean(0), 0.01)
        low, high = law.energy(data).mean(), law.energy(model).mean()
        check_gap(low - high, self.space.dims, progress)
        with torch.enable_grad():
            total = with_slopes(low - high, (*W, *b), (*dW, *db)) / self.visible.scale
        return Loss(total, {"energy of data": low, "energy of chains": high})

    def trajectory(
        self, n: int, y: Tensor | None = None, *, generator: torch.Generator, sweeps: int | None = None
    ) -> Iterator[Tensor]:
        for s in gibbs_walk(self.path(), n, sweeps or self.sweeps, generator):
            yield self.visible.values(s[:, : self.space.dims])
