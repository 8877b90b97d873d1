"""Layers of units, each tied to its neighbours: fields, Gibbs sweeps, and the path of annealing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from pangen.samplers.mcmc import binomial
from pangen.space import Space

Layers = list[Tensor]
"""States, or means, of the visible and hidden layers, bottom first: `(B, units)` each."""


@dataclass(frozen=True)
class Counts:
    """Binary or grid data as counts 0 .. N of `N` bits that share a bias: what visible units hold."""

    space: Space

    @property
    def N(self) -> int:
        return 1 if self.space.kind == "binary" else self.space.levels - 1

    def of(self, x: Tensor) -> Tensor:
        """Examples `(B, *shape)` to counts `(B, dims)`."""
        v = x.flatten(1)
        return v if self.space.kind == "binary" else ((v + 1) * (self.N / 2)).round()

    def values(self, v: Tensor) -> Tensor:
        """Counts to examples."""
        x = v if self.space.kind == "binary" else v * (2 / self.N) - 1
        return x.reshape(-1, *self.space.shape)

    def log_choose(self, v: Tensor) -> Tensor:
        """sum_i log C(N, v_i) `(B,)`: how many bit patterns have these counts."""
        if self.N == 1:
            return v.new_zeros(len(v))
        return (math.lgamma(self.N + 1) - torch.lgamma(v + 1) - torch.lgamma(self.N - v + 1)).sum(-1)

    def base_rates(self, x: Tensor) -> Tensor:
        """Log odds `(dims,)` of the bits of each dimension over the examples, half a bit added."""
        return ((self.of(x).sum(0) + 0.5 * self.N) / (self.N * (len(x) + 1))).logit()


@dataclass(frozen=True)
class Layered:
    """p(h0 .. hL) = exp(-E) prod_i C(N, h0_i) / Z, E = -sum_l b_l.h_l - sum_l h_{l-1}.W_l.h_l.

    h0 holds counts 0 .. N, all other layers bits. Given the odd layers the even ones are
    independent, and the reverse.
    """

    W: tuple[Tensor, ...]
    b: tuple[Tensor, ...]
    N: int = 1

    def energy(self, h: Layers) -> Tensor:
        """`(B,)`; of means, which are independent under a mean field, the expected energy."""
        biases = sum(a @ b for a, b in zip(h, self.b, strict=True))
        ties = sum(((a @ W) * c).sum(-1) for a, W, c in zip(h, self.W, h[1:], strict=False))
        return -biases - ties

    def field(self, h: Layers, layer: int) -> Tensor:
        """The log odds of a layer's bits given its neighbours."""
        a = self.b[layer]
        a = a + h[layer - 1] @ self.W[layer - 1] if layer > 0 else a
        return a + h[layer + 1] @ self.W[layer].T if layer + 1 < len(h) else a

    def count(self, layer: int) -> int:
        """Bits in each unit of a layer."""
        return 1 if layer else self.N

    def sweep(self, h: Layers, generator: torch.Generator | None = None) -> Layers:
        """One Gibbs sweep: the odd layers given the even ones, then the reverse."""
        h = list(h)
        for parity in (1, 0):
            for layer in range(parity, len(h), 2):
                h[layer] = binomial(torch.sigmoid(self.field(h, layer)), self.count(layer), generator)
        return h


@dataclass(frozen=True)
class FromBaseRates:
    """The path of annealing from independent units, the visible ones at log odds `base`, to the model.

    A state holds all layers side by side; the density that is annealed is that of the odd layers,
    the even ones summed out (Salakhutdinov and Murray 2008, Eq. 15; Salakhutdinov and Hinton 2009).
    """

    model: Layered
    base: Tensor

    @property
    def log_z0(self) -> Tensor:
        hidden = sum(len(b) for b in self.model.b[1:])
        return hidden * math.log(2) + self.model.N * softplus(self.base).sum()

    def start(self, n: int, generator: torch.Generator) -> Tensor:
        hidden = sum(len(b) for b in self.model.b[1:])
        v = binomial(self.base.sigmoid().expand(n, -1), self.model.N, generator)
        return torch.cat([v, binomial(v.new_full((n, hidden), 0.5), 1, generator)], 1)

    def log_ratio(self, x: Tensor, beta: float, following: float) -> Tensor:
        h = self.layers(x)
        change = (following - beta) * sum(h[i] @ self.model.b[i] for i in range(1, len(h), 2))
        for layer in range(0, len(h), 2):
            field = self.model.field(h, layer)
            above, below = (softplus(self._anneal(field, layer, t)).sum(-1) for t in (following, beta))
            change = change + self.model.count(layer) * (above - below)
        return change

    def move(self, x: Tensor, beta: float, generator: torch.Generator) -> Tensor:
        h = self.layers(x)
        for parity in (0, 1):
            for layer in range(parity, len(h), 2):
                p = torch.sigmoid(self._anneal(self.model.field(h, layer), layer, beta))
                h[layer] = binomial(p, self.model.count(layer), generator)
        return torch.cat(h, 1)

    def layers(self, x: Tensor) -> Layers:
        """A state cut into its layers."""
        return list(x.split([len(b) for b in self.model.b], 1))

    def _anneal(self, field: Tensor, layer: int, beta: float) -> Tensor:
        return beta * field if layer else beta * field + (1 - beta) * self.base
