"""Binary units with pairwise couplings (Ackley et al. 1985): sums over all states, exact draws, and Gibbs sweeps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import softplus

from pangen.samplers.tokens import inverse_cdf
from pangen.samplers.units import every_state

BLOCK = 10
"""Units enumerated at once, as one axis of a matrix."""


@dataclass(frozen=True)
class Pairwise:
    """p(s) = exp(-E(s)) / Z with E(s) = -s.W.s / 2 - b.s over s in {0, 1}^units.

    `W` `(units, units)` is symmetric with zero diagonal.
    """

    W: Tensor
    b: Tensor

    def double(self) -> Pairwise:
        """The same in float64."""
        return replace(self, W=self.W.double(), b=self.b.double())

    def energy(self, s: Tensor) -> Tensor:
        """`(B, units)` to `(B,)`."""
        return -((s @ self.W) * s).sum(1) / 2 - s @ self.b

    def scores(self, head: Tensor, tail: int) -> Tensor:
        """-E of the first units `head` `(B, units - tail)` with each state of the last: `(B, 2^tail)`."""
        W, b, cut = self.W, self.b, len(self.b) - tail
        t = every_state(tail, 2, head)
        within = ((head @ W[:cut, :cut]) * head).sum(1) / 2 + head @ b[:cut]
        return within[:, None] + (head @ W[:cut, cut:] + b[cut:]) @ t.T + ((t @ W[cut:, cut:]) * t).sum(1) / 2

    def log_sums(self) -> tuple[Tensor, Tensor]:
        """Every state of all but the last `BLOCK` units, and log sum exp(-E) over those."""
        tail = min(len(self.b), BLOCK)
        heads = every_state(len(self.b) - tail, 2, self.b)
        return heads, torch.cat([self.scores(h, tail).logsumexp(1) for h in heads.split(4096)])

    def log_z(self) -> Tensor:
        """log Z, by summing over all 2^units states."""
        return self.log_sums()[1].logsumexp(0)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """`n` exact and independent samples `(n, units)`, by summing over all states."""
        u = torch.rand(n, 2, generator=generator, device=self.b.device, dtype=torch.float64)
        heads, logits = self.log_sums()
        head, tail = heads[inverse_cdf(logits, u[:, 0])], min(len(self.b), BLOCK)
        return torch.cat([head, every_state(tail, 2, head)[inverse_cdf(self.scores(head, tail), u[:, 1])]], 1)

    def sweep(self, s: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Gibbs, a unit at a time: s_i is 1 with probability sigmoid(sum_j W_ij s_j + b_i)."""
        u = torch.rand(s.T.shape, generator=generator, device=s.device, dtype=s.dtype)
        threshold, s = u.logit() - self.b[:, None], s.T.contiguous()
        for i in range(len(s)):
            s[i] = self.W[i] @ s > threshold[i]
        return s.T


@dataclass(frozen=True)
class FromIndependent:
    """The path of annealing from independent units of log odds `base` (beta 0) to the model (beta 1)."""

    model: Pairwise
    base: Tensor

    @property
    def log_z0(self) -> Tensor:
        return softplus(self.base).sum()

    def start(self, n: int, generator: torch.Generator) -> Tensor:
        u = torch.rand(n, len(self.base), generator=generator, device=self.base.device)
        return (u < self.base.sigmoid()).to(self.base)

    def log_ratio(self, x: Tensor, beta: float, following: float) -> Tensor:
        return (beta - following) * (self.model.energy(x) + x @ self.base)

    def move(self, x: Tensor, beta: float, generator: torch.Generator | None) -> Tensor:
        b = beta * self.model.b + (1 - beta) * self.base
        return Pairwise(beta * self.model.W, b).sweep(x, generator)
