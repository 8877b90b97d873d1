"""Flows' maps of one number at a time, whose parameters come from the numbers before it.

A map of each number is given its parameters *first*, `(k, D, B)`, for numbers `(D, B)`: see `splines`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import relu, relu_

from pangen.networks.bijections import Elementwise, Invertible1x1, Transform, parameters_first
from pangen.networks.linear import Linear
from pangen.networks.masked import MaskedLinear
from pangen.networks.modules import listed


def alternating(dims: int, n: int) -> list[Tensor]:
    """The ranks of n layers: forwards, backwards, forwards, ..."""
    return [torch.arange(dims) if i % 2 == 0 else torch.arange(dims - 1, -1, -1) for i in range(n)]


def mixing(order: Tensor) -> Invertible1x1:
    """A learnt linear map P L U that starts as the permutation `order` `(D,)`, which keeps what columns mean."""
    found = Invertible1x1(len(order))
    for p in found.parameters():
        nn.init.zeros_(p)
    found.P.copy_(torch.eye(len(order))[order])
    found.sign.fill_(1)
    return found


class MaskedMLP(nn.Module):
    """MADE's network: `(B, D)` and a context to `(k, D, B)`; dimension d sees those of smaller rank.

    Hidden units are sorted by degree, and see inputs of smaller rank and units of at most their
    degree (Germain et al. 2015, Eqs. 8 and 9, ranks from 0). Zero at first.

    Args:
        ranks: `(D,)`, a permutation of 0 .. D - 1.
        k: numbers for each dimension.
        context: length of the context vector; 0: none.
    """

    def __init__(
        self, ranks: Tensor, k: int, width: int, depth: int = 2, *, context: int = 0, dropout: float = 0.0
    ) -> None:
        super().__init__()
        dims, first = len(ranks), 0 if context else 1  # without context, units of degree 0 are constants
        self.k, self.dropout = k, nn.Dropout(dropout)
        degree = first + torch.arange(width) * max(dims - first, 1) // width
        self.order, self.ranks = ranks.argsort().tolist(), ranks.tolist()
        self.below = torch.searchsorted(degree, torch.arange(dims + 1)).tolist()
        self.enter = MaskedLinear((degree[:, None] > ranks)[None])
        same = (degree[:, None] >= degree)[None]
        self.hidden = listed(MaskedLinear(same) for _ in range(depth - 1))
        self.leave = MaskedLinear((ranks.repeat(k)[:, None] >= degree)[None])
        self.context = Linear(context, width, bias=False) if context else None
        for layer in (self.enter, *self.hidden):
            layer.weight.data.mul_(
                3**-0.5
            )  # as calm as torch's own linear layers: livelier ones learn slower
        nn.init.zeros_(self.leave.weight)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        h = self.enter(x)
        h = relu_(h if self.context is None else h + self.context(context))
        for layer in self.hidden:
            h = relu_(layer(self.dropped(h)))
        return parameters_first(self.dropped(h), self.leave.left(), self.leave.bias, self.k)

    def dropped(self, h: Tensor) -> Tensor:
        return self.dropout(h) if self.dropout.p else h

    def one_by_one(self, z: Tensor, context: Tensor | None, map_: Elementwise) -> Tensor:
        """The x `(D, B)` that `map_`, told this network's parameters of x, takes to z.

        D passes, each of which computes only the hidden units that are new: together the work of one.
        """
        layers = [self.enter, *self.hidden]
        weights = [self.enter.weight[:, self.order], *(layer.weight for layer in self.hidden)]
        biases = [layer.bias[:, None] for layer in layers]
        if self.context is not None:
            biases[0] = biases[0] + self.context(context).T
        leave, bias = self.leave.weight.view(self.k, len(z), -1), self.leave.bias.view(self.k, -1, 1)
        found = z[:0]
        units = [z.new_empty(0, z.shape[1])] * len(layers)
        for rank, d in enumerate(self.order):
            new, h = slice(self.below[rank], self.below[rank + 1]), found
            if new.start < new.stop:
                for i, (W, b) in enumerate(zip(weights, biases, strict=True)):
                    more = relu(b[new] + W[new, : len(h)] @ h)
                    units[i] = h = torch.cat([units[i], more])
            h = units[-1]
            raw = bias[:, d] + leave[:, d, : len(h)] @ h
            found = torch.cat([found, map_.inverse(z[d], raw)[0][None]])
        return found[self.ranks]


class Autoregressive(Transform):
    """Each dimension is mapped by what a masked network makes of those of smaller rank.

    `forward` is one pass, `inverse` one step for each dimension.
    """

    def __init__(self, map_: Elementwise, net: MaskedMLP) -> None:
        super().__init__()
        self.map, self.net = map_, net

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        flat = x.flatten(1)
        z, log_slope = self.map.forward(flat.T, self.net(flat, context))
        return z.T.reshape(x.shape), log_slope.sum(0)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return self.net.one_by_one(z.flatten(1).T, context, self.map).T.reshape(z.shape)
