"""Layers of units, each tied to its neighbours: fields, Gibbs sweeps, and the path of annealing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from pangen.networks.linear import linear
from pangen.samplers.mcmc import binomial
from pangen.samplers.units import Together, Units

Layers = list[Tensor]
"""States, or means, of the visible and hidden layers, bottom first: `(B, units)` each."""


def product(a: Tensor, b: Tensor, rounded: torch.dtype | None) -> Tensor:
    """a @ b, `(B, n)` by `(n, m)`, its factors rounded if so asked: several times faster where such products are native.

    Bits are exact in it, and what it changes in a field is far below the noise of drawing from it.
    """
    return linear(a, b.T) if rounded is None else (a.to(rounded) @ b.to(rounded)).to(a.dtype)


@dataclass(frozen=True)
class Layered:
    """p(h0 .. hL) = exp(-E) h(h0) / Z, E = -sum_l b_l.h_l - sum_l h_{l-1}.W_l.h_l.

    h0 holds the statistics of visible units, all other layers bits. Given the odd layers the even
    ones are independent, and the reverse. A bias may differ from row to row of a state.
    """

    W: tuple[Tensor, ...]
    b: tuple[Tensor, ...]
    visible: Units | Together
    rounded: torch.dtype | None = None
    """What factors of large products are rounded to; see `product`."""

    def energy(self, h: Layers) -> Tensor:
        """`(B,)`; of means, which are independent under a mean field, the expected energy."""
        biases = [(a * b).sum(-1) for a, b in zip(h, self.b, strict=True)]
        pairs = zip(h, self.W, h[1:], strict=False)
        ties = [(product(a, W, self.rounded) * c).sum(-1) for a, W, c in pairs]
        return -reduce(torch.add, biases) - reduce(torch.add, ties)

    def field(self, h: Layers, layer: int) -> Tensor:
        """What a layer's units feel of their neighbours `(B, units)`: log odds, for bits."""
        a = self.b[layer]
        a = a + product(h[layer - 1], self.W[layer - 1], self.rounded) if layer > 0 else a
        return a + product(h[layer + 1], self.W[layer].T, self.rounded) if layer + 1 < len(h) else a

    def log_partition(self, field: Tensor, layer: int) -> Tensor:
        """log of the sum over a layer's states `(B,)`, given their field."""
        return softplus(field).sum(-1) if layer else self.visible.log_partition(field)

    def draw(self, field: Tensor, layer: int, generator: torch.Generator | None = None) -> Tensor:
        """A layer's units given their field, both `(B, units)`."""
        return binomial(field.sigmoid(), 1, generator) if layer else self.visible.draw(field, generator)

    def sweep(self, h: Layers, generator: torch.Generator | None = None) -> Layers:
        """One Gibbs sweep: the odd layers given the even ones, then the reverse."""
        h = list(h)
        for parity in (1, 0):
            for layer in range(parity, len(h), 2):
                h[layer] = self.draw(self.field(h, layer), layer, generator)
        return h

    @torch.no_grad()
    def mean_field(self, v: Tensor, rounds: int) -> Layers:
        """Means of q(h given v), all units independent (Salakhutdinov and Hinton 2009, Eq. 9).

        From a bottom-up pass, each round updates the odd layers and then the even ones.
        """
        _, *h = self.bottom_up(v, len(self.W))
        drive = self.b[1] + product(v, self.W[0], self.rounded)
        given_v = Layered(self.W[1:], (drive, *self.b[2:]), self.visible, self.rounded)
        for _ in range(rounds):
            for parity in (0, 1):
                for layer in range(parity, len(h), 2):
                    h[layer] = torch.sigmoid(given_v.field(h, layer))
        return [v, *h]

    def bottom_up(self, v: Tensor, layers: int) -> Layers:
        """Means of so many hidden layers given that below, doubled to make up for that above (Section 3.1)."""
        h = [v]
        for W, b in zip(self.W[:layers], self.b[1:], strict=False):
            h.append(torch.sigmoid(b + self._doubled(len(h)) * product(h[-1], W, self.rounded)))
        return h

    def greedy(self, v: Tensor, layer: int) -> tuple[Layers, Layers]:
        """A layer and the next: as the data has them, and after a Gibbs sweep, with doubled inputs."""
        *_, h, positive = self.bottom_up(v, layer + 1)
        W, down, up = self.W[layer], self._doubled(layer), self._doubled(layer + 1)
        seen = self.draw(self.b[layer] + down * product(binomial(positive, 1), W.T, self.rounded), layer)
        negative = torch.sigmoid(self.b[layer + 1] + up * product(seen, W, self.rounded))
        return [h, positive], [seen, negative]

    def _doubled(self, layer: int) -> int:
        return 2 if 0 < layer < len(self.W) else 1

    def slopes(self, data: Layers, model: Layers, centres: Layers) -> tuple[list[Tensor], list[Tensor]]:
        """Of the negative log-likelihood in each W `(below, above)` and b `(units,)`, from states, or means, of all layers.

        Differences of moments about the `centres` (Montavon and Mueller 2012; Melchior, Fischer and
        Wiskott 2016, Algorithm 1): where these are 0 the gradient, else that of the same machine with
        units measured from them, in which the rates of weights and biases do not compete.
        """
        n, m = len(data[0]), len(model[0])
        below = [torch.cat([(s - o) / m, (o - d) / n]) for s, d, o in zip(model, data, centres, strict=True)]
        above = [torch.cat([s, d]) - o for s, d, o in zip(model, data, centres, strict=True)]
        dW = [product(a.T, b, self.rounded) for a, b in zip(below, above[1:], strict=False)]
        db = [s.mean(0) - d.mean(0) for s, d in zip(model, data, strict=True)]
        for i, slope in enumerate(dW):
            db[i] -= slope @ centres[i + 1]
            db[i + 1] -= slope.T @ centres[i]
        return dW, db


@dataclass(frozen=True)
class FromBaseRates:
    """The path of annealing from independent units, the visible ones with field `base`, to the model.

    A state holds all layers side by side; the density that is annealed is that of the odd layers,
    the even ones summed out (Salakhutdinov and Murray 2008, Eq. 15; Salakhutdinov and Hinton 2009).
    """

    model: Layered
    base: Tensor

    @property
    def log_z0(self) -> Tensor:
        return self._hidden * math.log(2) + self.model.log_partition(self.base, 0)

    @property
    def _hidden(self) -> int:
        return sum(b.shape[-1] for b in self.model.b[1:])

    def start(self, n: int, generator: torch.Generator) -> Tensor:
        v = self.model.draw(self.base.expand(n, -1), 0, generator)
        return torch.cat([v, binomial(v.new_full((n, self._hidden), 0.5), 1, generator)], 1)

    def log_ratio(self, x: Tensor, beta: float, following: float) -> Tensor:
        h = self.layers(x)
        odd = [(h[i] * self.model.b[i]).sum(-1) for i in range(1, len(h), 2)]
        change = (following - beta) * reduce(torch.add, odd)
        for layer in range(0, len(h), 2):
            field = self.model.field(h, layer)
            above, below = (
                self.model.log_partition(self._anneal(field, layer, t), layer) for t in (following, beta)
            )
            change = change + above - below
        return change

    def move(self, x: Tensor, beta: float, generator: torch.Generator | None) -> Tensor:
        h = self.layers(x)
        for parity in (0, 1):
            for layer in range(parity, len(h), 2):
                field = self._anneal(self.model.field(h, layer), layer, beta)
                h[layer] = self.model.draw(field, layer, generator)
        return torch.cat(h, 1)

    def layers(self, x: Tensor) -> Layers:
        """A state cut into its layers."""
        return list(x.split([b.shape[-1] for b in self.model.b], 1))

    def _anneal(self, field: Tensor, layer: int, beta: float) -> Tensor:
        return beta * field if layer else beta * field + (1 - beta) * self.base


class _Sloped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, *both: Tensor) -> Tensor:
        ctx.slopes = both[len(both) // 2 :]
        return value.clone()

    @staticmethod
    def backward(ctx: Any, by: Tensor) -> tuple[Tensor | None, ...]:
        # in place, and no name kept, so that they become the gradients: new memory costs more than all else
        slopes, ctx.slopes = ctx.slopes, None
        torch._foreach_mul_(slopes, by)
        return by, *slopes, *(None for _ in slopes)


def with_slopes(value: Tensor, parameters: Sequence[Tensor], slopes: Sequence[Tensor]) -> Tensor:
    """`value` `()` as a function of the parameters with these slopes, which are used up by the backward pass.

    How a gradient that is known enters: as that of value + sum(slope * parameter), less its value.
    """
    return _Sloped.apply(value, *parameters, *slopes)
