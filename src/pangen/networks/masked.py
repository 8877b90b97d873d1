"""Dense networks in which output d sees only the inputs that come before it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from pangen.networks.linear import Linear, linear
from pangen.networks.modules import listed


class MaskedLinear(Linear):
    """A linear layer with one connectivity for each ordering: y = (M[ordering] * W) x + b.

    `mask` `(orderings, out, in)`; where all orderings share one mask, `(1, out, in)`.
    """

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[2], mask.shape[1])
        self.mask = nn.Buffer(mask.to(self.weight.dtype), persistent=False)
        self.whole = bool(mask.all())
        # scaled by the connections that are left, so that early outputs start as lively as late ones
        fan_in = mask.float().mean(0).sum(1, keepdim=True).clamp(min=1)
        with torch.no_grad():
            self.weight.copy_(torch.randn(mask.shape[1:]) * fan_in.rsqrt())
            self.bias.zero_()

    def forward(self, x: Tensor, ordering: int = 0) -> Tensor:
        return linear(x, self.left(ordering), self.bias)

    def left(self, ordering: int = 0) -> Tensor:
        """M[ordering] * W, which is W where nothing is masked."""
        if self.whole:
            return self.weight
        return self.weight * self.mask[ordering if len(self.mask) > 1 else 0]


@dataclass
class Known:
    """The cache: a batch of examples whose `seen` values of smallest rank are known; it goes on in one way only.

    Units stand first, `(width, B)`: `sums` is what the first layer makes of these values, and `units` holds what
    each layer after it is told, as far as that is known.
    """

    ordering: int
    sums: Tensor
    units: list[Tensor]
    seen: int = 0


class MaskedResidual(nn.Module):
    """A residual MLP from features of D dimensions to features of D dimensions, autoregressive.

    In ordering o, dimension d has rank `ranks[o, d]`; its output sees the inputs of smaller rank
    and the context. Hidden unit k has degree m(k) in 0 .. D - 1, evenly spread, and sees the
    inputs of rank below m(k) (Germain et al. 2015, Section 4; ranks here count from 0).

    Args:
        ranks: `(orderings, D)`, each row a permutation of 0 .. D - 1.
        inputs, outputs: features of each dimension.
        context: length of the context vector; 0: none.
        dropout: of hidden units.
    """

    def __init__(
        self,
        ranks: Tensor,
        *,
        inputs: int,
        outputs: int,
        width: int,
        depth: int,
        context: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        dims = ranks.shape[1]
        degree = torch.arange(width) * dims // width
        self.inputs, self.outputs = inputs, outputs
        self.order = ranks.argsort(1).tolist()
        self.below = torch.searchsorted(degree, torch.arange(dims + 2)).tolist()
        self.enter = MaskedLinear(degree[:, None] > ranks.repeat_interleave(inputs, 1)[:, None])
        same = (degree[:, None] >= degree)[None]
        self.blocks = listed(listed([MaskedLinear(same), MaskedLinear(same)]) for _ in range(depth))
        self.leave = MaskedLinear(ranks.repeat_interleave(outputs, 1)[..., None] >= degree)
        self.context = Linear(context, width) if context else None
        self.dropout = nn.Dropout(dropout)
        with torch.no_grad():
            for _, second in self.blocks:
                second.weight.mul_(0.1)  # each block starts near the identity
            self.leave.weight.mul_(0.1)

    def forward(self, x: Tensor, context: Tensor | None = None, ordering: int = 0) -> Tensor:
        """Features `(B, D, inputs)` and a context `(B, context)` to `(B, D, outputs)`."""
        h = self.enter(x.flatten(1), ordering)
        if self.context is not None:
            h = h + self.context(context)
        for first, second in self.blocks:
            h = h + second(self.dropout(silu(first(self.dropout(silu(h))))))
        return self.leave(self.dropout(silu(h)), ordering).unflatten(1, (-1, self.outputs))

    def start(self, n: int, context: Tensor | None = None, ordering: int = 0) -> Known:
        """The cache of `n` examples of which nothing is known."""
        sums = self.enter.bias[:, None].repeat(1, n)
        if self.context is not None:
            sums = sums + self.context(context).T
        cache = Known(ordering, sums, [torch.zeros_like(sums) for _ in range(2 * len(self.blocks) + 1)])
        self._new_units(cache)
        return cache

    def advance(self, cache: Known, x: Tensor) -> None:
        """The value of the next rank is known, by its features `(B, inputs)`."""
        d, later = self.order[cache.ordering][cache.seen], slice(self.below[cache.seen + 1], None)
        cache.sums[later] += self.enter.weight[later].unflatten(1, (-1, self.inputs))[:, d] @ x.T
        cache.seen += 1
        self._new_units(cache)

    def ahead(self, cache: Known) -> Tensor:
        """Features `(B, outputs)` of the dimension of the next rank."""
        d, known = self.order[cache.ordering][cache.seen], self.below[cache.seen + 1]
        rows = slice(d * self.outputs, (d + 1) * self.outputs)
        return _part(self.leave, rows, cache.units[-1][:known]).T

    def _new_units(self, cache: Known) -> None:
        """The hidden units whose degree is the number of values that are known: each is computed once."""
        new = slice(self.below[cache.seen], self.below[cache.seen + 1])
        if new.start == new.stop:
            return
        h, (*told, last) = cache.sums[new], cache.units
        for (first, second), a, b in zip(self.blocks, told[::2], told[1::2], strict=True):
            a[new] = self.dropout(silu(h))
            b[new] = self.dropout(silu(_part(first, new, a[: new.stop])))
            h = h + _part(second, new, b[: new.stop])
        last[new] = self.dropout(silu(h))


def _part(layer: Linear, rows: slice, x: Tensor) -> Tensor:
    """The outputs `rows` of a layer of which they see the first inputs alone, `x` `(some, B)`."""
    return layer.bias[rows, None] + layer.weight[rows, : len(x)] @ x
