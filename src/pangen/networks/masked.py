"""Dense networks in which output d sees only the inputs that come before it."""

from __future__ import annotations

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
        self.outputs = outputs
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
