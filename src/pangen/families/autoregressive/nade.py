"""NADE, the neural autoregressive distribution estimator (Larochelle and Murray 2011; Uria et al. 2016).

p(x_d given x_<d) = softmax(V_d h_d + b_d), h_d = sigm(c + sum over i < d of W_i x_i): every conditional
has hidden units of its own, all conditionals share W.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot, pad
from torch.utils.checkpoint import checkpoint

from pangen.families.autoregressive.sequence import SequenceModel
from pangen.settings import Count, Share
from pangen.space import Batch, Space

PIECE, KEPT = 2**18, 2**27
"""Hidden units of a batch computed at once, and at most kept for the backward pass; beyond, they are computed again."""


class Sum(NamedTuple):
    """The cache: the pre-activation a `(B, width)` after the first `seen` values."""

    seen: int
    a: Tensor


class NADE(SequenceModel):
    """Bits, or categories, in raster order; of K categories the first adds nothing and has logit 0.

    With two that is the paper's p(x_d = 1 given x_<d) = sigm(V_d h_d + b_d), x in {0, 1}. More take
    K - 1 columns of W and rows of V each: this suits few levels.

    Args:
        width: hidden units of each conditional.
        unlabelled: share of labels hidden in training, so that p(x) is learnt beside p(x given y).
    """

    training_defaults: ClassVar[dict[str, Any]] = {"lr": 1e-2, "ema": 0.99}

    def __init__(self, space: Space, *, width: Count = 256, unlabelled: Share = 0.1) -> None:
        super().__init__(space, unlabelled=unlabelled)
        D, K, H = space.dims, self.levels, width
        self.W = nn.Parameter(torch.randn(D, K - 1, H) * D**-0.5)
        self.V = nn.Parameter(torch.randn(D, K - 1, H) * 0.1 * H**-0.5)
        self.b = nn.Parameter(torch.zeros(D, K - 1))
        self.c = nn.Embedding(space.classes + 1, H)  # of each label, and of none
        nn.init.zeros_(self.c.weight)

    @torch.no_grad()
    def initialize(self, batch: Batch) -> None:
        found = self.log_frequency(batch.x, pooled=False)
        self.b.copy_(found[:, 1:] - found[:, :1])

    def start(self, x: Tensor, y: Tensor | None) -> Tensor:
        """a_1 = c `(B, width)`."""
        return self.c(x.new_full((len(x),), self.space.classes) if y is None else y)

    def sums(self, a: Tensor, x: Tensor, W: Tensor) -> Tensor:
        """a_{d+1} = a_d + W_d x_d of n dimensions: before the first and after each `(B, n + 1, width)`."""
        ones = one_hot(x, self.levels)[..., 1:].to(W)
        return torch.cat([a[:, None], torch.einsum("bdk,dkh->bdh", ones, W)], 1).cumsum(1)

    def read(self, a: Tensor, V: Tensor, b: Tensor) -> Tensor:
        """Logits V_d h_d + b_d of n dimensions `(B, n, K)`; `a` `(B, n, width)`."""
        return pad(torch.einsum("bdh,dkh->bdk", a.sigmoid(), V) + b, (1, 0))

    def piece(self, a: Tensor, x: Tensor, W: Tensor, V: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """The logits of n dimensions, and the sum after them."""
        sums = self.sums(a, x, W)
        return self.read(sums[:, :-1], V, b), sums[:, -1].clone()  # a view would keep all of them

    def logits(self, x: Tensor, y: Tensor | None) -> Tensor:
        size = len(x) * self.V.shape[2]
        again = torch.is_grad_enabled() and self.space.dims * size > KEPT
        piece = partial(checkpoint, self.piece, use_reentrant=False) if again else self.piece
        n, a, found = max(PIECE // size, 1), self.start(x, y), []
        for part in zip(x.split(n, 1), self.W.split(n), self.V.split(n), self.b.split(n), strict=True):
            logits, a = piece(a, *part)
            found.append(logits)
        return torch.cat(found, 1)

    def next_logits(
        self, tokens: Tensor, cache: Sum | None = None, y: Tensor | None = None
    ) -> tuple[Tensor, Sum]:
        tokens, t = tokens.long(), tokens.shape[1]
        seen, a = cache or (0, self.start(tokens, y))
        a = self.sums(a, tokens[:, seen:], self.W[seen:t])[:, -1]
        return self.read(a[:, None], self.V[t : t + 1], self.b[t : t + 1])[:, 0], Sum(t, a)
