"""Two layers, every unit tied to all of the other layer: sums over one of them, chains, and moments.

Restricted Boltzmann machines (Smolensky 1986), and how their data is set against chains (Hinton 2002; Tieleman 2008).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from pangen.model import last
from pangen.samplers.annealing import gibbs_walk, log_z_interval, tempered_walk
from pangen.samplers.layered import FromBaseRates, Layered, Layers
from pangen.samplers.mcmc import binomial
from pangen.samplers.units import Together, Units, every_state
from pangen.space import LogZ

ENUMERABLE = 16
"""Bits of one side up to which the partition function is summed over its states."""


class Contrast(NamedTuple):
    """What a step of contrastive divergence found."""

    data: Tensor
    """Mean free energy of the data; differentiable in the noise of Gaussian units alone."""
    model: Tensor
    """Of the chains."""
    slopes: tuple[Tensor, Tensor, Tensor]
    """Of the negative log-likelihood in W, b and c."""
    h: Tensor
    """Mean of the hidden bits given the data `(H,)`."""
    states: Tensor
    """Of the chains, after their sweeps."""


def free_energy(t: Tensor, field: Tensor, b: Tensor, visible: Units | Together) -> Tensor:
    """-log sum_h exp(-E(v, h)) of statistics `t` `(..., V)`, given what the hidden bits feel of them `(..., H)`."""
    return -(t @ b) - softplus(field).sum(-1) - visible.log_base(t)


def contrast(
    law: Layered, t: Tensor, states: Tensor | None, base: Tensor, k: int, betas: list[float], centres: Layers
) -> Contrast:
    """Data with statistics `t` `(B, V)` against chains after `k` sweeps from `states`, or from the data.

    `law` has two layers, and states are `(len(betas), n, V + H)`; `base` is that of `FromBaseRates`,
    `centres` are those of `Layered.slopes`.
    """
    law = replace(law, W=tuple(W.detach() for W in law.W), b=tuple(b.detach() for b in law.b))
    field = law.field([t], 1)
    with torch.no_grad():
        h = field.sigmoid()
        start = torch.cat([t, binomial(h, 1)], 1)[None] if states is None else states
        states, s, below = _follow(law, start, base, k, betas)
        (dW,), (db, dc) = law.slopes([t, h], [s, below.sigmoid()], centres)
        model = free_energy(s, below, law.b[0], law.visible).mean()
    data = free_energy(t, field, law.b[0], law.visible).mean()
    return Contrast(data, model, (dW, db, dc), h.mean(0), states)


def _follow(
    law: Layered, states: Tensor, base: Tensor, k: int, betas: list[float]
) -> tuple[Tensor, Tensor, Tensor]:
    """States after `k` sweeps; those of beta = 1 `(n, V)`, and the field of h given them `(n, H)`."""
    size = len(law.b[0])
    if len(betas) > 1:
        states = last(tempered_walk(FromBaseRates(law, base), states, betas, k, None))
        t = states[0, :, :size]
        return states, t, law.field([t], 1)
    h = states[0, :, size:]
    for _ in range(k):
        t = law.draw(law.field([states[0, :, :size], h], 0), 0)
        field = law.field([t], 1)
        h = law.draw(field, 1)
    return torch.cat([t, h], 1)[None], t, field


@dataclass(frozen=True)
class ByClass:
    """The laws of v and h in each class y: exp(d_y) exp(b.t + c_y.h + t.W.h) h(v), one sum Z_y each.

    `c` is `(classes, H)` and `d` `(classes,)`; a single row where there are no classes.
    """

    W: Tensor
    b: Tensor
    c: Tensor
    d: Tensor
    units: Units
    base: Tensor
    """The field of independent units at the data's means, `(V,)`."""

    def scores(self, x: Tensor) -> Tensor:
        """log sum_h of that `(B, classes)`."""
        return self._visible_scores(self.units.of(x)) + self.d

    @property
    def enumerable(self) -> bool:
        """Whether `log_z` can be summed."""
        return min(self.W.shape[1], self.units.bits) <= ENUMERABLE

    def log_z(self) -> Tensor | None:
        """log Z_y `(classes,)` by a sum over one side; None where both are too large."""
        if not self.enumerable:
            return None
        hidden = self.W.shape[1]
        few = hidden <= ENUMERABLE
        states = every_state(hidden, 2, self.W) if few else self.units.states(self.W)
        of = self._hidden_scores if few else self._visible_scores
        return torch.stack([of(s).logsumexp(0) for s in states.split(4096)]).logsumexp(0) + self.d

    def _hidden_scores(self, h: Tensor) -> Tensor:
        """log of the sum over v for states of h, without d, `(B, classes)`."""
        return h @ self.c.T + self.units.log_partition(self.b + h @ self.W.T)[:, None]

    def _visible_scores(self, t: Tensor) -> Tensor:
        """log of the sum over h for statistics of v, without d, `(B, classes)`."""
        return -free_energy(t[:, None], (t @ self.W)[:, None] + self.c, self.b, self.units)

    def path(self, y: Tensor | None) -> FromBaseRates:
        """From independent units to the law of each row's class."""
        c = self.c[0] if y is None else self.c[y]
        return FromBaseRates(Layered((self.W,), (self.b, c), self.units), self.base)

    def anneal(self, chains: int, temperatures: int, sweeps: int, generator: torch.Generator) -> LogZ:
        """log Z_y `(classes,)` from so many `chains` in all each way, those back after so many `sweeps`."""
        classes = len(self.c)
        n = max(chains // classes, 2)
        path = self.path(torch.arange(classes, device=self.c.device).repeat_interleave(n))
        samples = last(gibbs_walk(path, classes * n, sweeps, generator))
        return log_z_interval(path, samples, temperatures, generator, classes).plus(self.d)
