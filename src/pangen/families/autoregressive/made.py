"""MADE, the masked autoencoder for distribution estimation (Germain et al. 2015), with residual blocks.

p(x) = prod_d p(x_d given x_<d): one network gives every conditional in one pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from pangen.errors import PangenError
from pangen.model import GenerativeModel
from pangen.networks.labels import hide
from pangen.networks.linear import Linear
from pangen.networks.masked import Known, MaskedResidual
from pangen.samplers.tokens import inverse_cdf
from pangen.settings import Count, Natural, Share
from pangen.space import Batch, LogProb, Loss, Progress, Space

FEATURES = 16
"""Numbers that stand for one value of a dimension at the network's entrance and at its exit."""


class MADE(GenerativeModel):
    """A categorical distribution for each dimension, in raster order.

    Args:
        width: half the hidden units, because a dimension sees about half of them.
        depth: residual blocks; with none there is one hidden layer, which wants to be wide.
        dropout: of hidden units.
        orderings: 1 is raster order. More add random orders, with the same weights under other
            masks; the model is then their mixture, p(x) = mean over o of p_o(x).
        unlabelled: share of labels hidden in training, so that p(x) is learnt beside p(x given y).
    """

    training_defaults: ClassVar[dict[str, Any]] = {"lr": 2e-3, "weight_decay": 1.0, "ema": 0.99}

    def __init__(
        self,
        space: Space,
        *,
        width: Count = 256,
        depth: Natural = 2,
        dropout: Share = 0.5,
        orderings: Count = 1,
        unlabelled: Share = 0.1,
    ) -> None:
        super().__init__(space)
        self.unlabelled, D, K = unlabelled, space.dims, space.levels or 2
        fixed = torch.Generator().manual_seed(0)
        ranks = torch.stack(
            [torch.arange(D)] + [torch.randperm(D, generator=fixed) for _ in range(orderings - 1)]
        )
        self.ranks = nn.Buffer(ranks, persistent=False)
        features = FEATURES if K > 2 else 1  # more would tell two values apart no better
        self.embed = nn.Embedding(K, features) if K > 2 else None
        self.scale = nn.Buffer(torch.linspace(-1, 1, K)[:, None], persistent=False)
        self.classes = nn.Embedding(space.classes + 1, width) if space.classes else None
        self.net = MaskedResidual(
            ranks, inputs=features + 1 if K > 2 else 1, outputs=features, width=2 * width, depth=depth,
            context=width if space.classes else 0, dropout=dropout,
        )  # fmt: skip
        self.read = Linear(features, K, bias=False)
        self.bias = nn.Parameter(torch.zeros(D, K))
        if self.embed is not None:
            nn.init.normal_(self.embed.weight, std=0.3)

    @torch.no_grad()
    def initialize(self, batch: Batch) -> None:
        """Start from the frequency of each value in each dimension."""
        counts = one_hot(batch.x.flatten(1).long(), self.bias.shape[1]).sum(0) + 1.0
        self.bias.copy_((counts / counts.sum(1, keepdim=True)).log())

    def logits(self, x: Tensor, y: Tensor | None, ordering: int = 0) -> Tensor:
        """Logits `(B, D, K)` of every dimension, given those of smaller rank; `x` `(B, D)` indices."""
        return self.read(self.net(self.entered(x), self.told(y, len(x)), ordering)) + self.bias

    def entered(self, x: Tensor) -> Tensor:
        """What stands for values `(...)` at the network's entrance, `(..., inputs)`."""
        return self.scale[x] if self.embed is None else torch.cat([self.embed(x), self.scale[x]], -1)

    def told(self, y: Tensor | None, n: int) -> Tensor | None:
        """What the network is told of labels."""
        if self.classes is None:
            return None
        return self.classes.weight[self.space.classes].expand(n, -1) if y is None else self.classes(y)

    def _nats(self, x: Tensor, y: Tensor | None, ordering: int) -> Tensor:
        logits = self.logits(x, y, ordering)
        return -cross_entropy(logits.transpose(1, 2), x, reduction="none").sum(1)

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        y = hide(batch.y, self.space, self.unlabelled)
        ordering = int(torch.randint(len(self.ranks), ()))
        return Loss(-self._nats(batch.x.flatten(1).long(), y, ordering).mean())

    def log_prob(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> LogProb:
        x, n = x.flatten(1).long(), len(self.ranks)
        nats = torch.stack([self._nats(x, y, o) for o in range(n)])
        return LogProb(nats.logsumexp(0) - math.log(n), "exact")

    def next_logits(
        self, tokens: Tensor, cache: Known | None = None, y: Tensor | None = None
    ) -> tuple[Tensor, Known]:
        """Of one ordering, that of the raster: with each token the hidden units that it completes are computed."""
        if len(self.ranks) > 1:
            raise PangenError("a mixture of orders has no next token; fit one with --model.orderings 1.")
        cache = cache or self.net.start(len(tokens), self.told(y, len(tokens)))
        while cache.seen < tokens.shape[1]:
            self.net.advance(cache, self.entered(tokens[:, cache.seen].long()))
        return self.read(self.net.ahead(cache)) + self.bias[cache.seen], cache

    def tokens(self, x: Tensor) -> Tensor:
        """Examples as tokens `(n, dims)`."""
        return x.flatten(1).long()

    def examples(self, tokens: Tensor) -> Tensor:
        """The inverse of `tokens`."""
        dtype = torch.int64 if self.space.kind == "tokens" else torch.get_default_dtype()
        return tokens.view(-1, *self.space.shape).to(dtype)

    def trajectory(self, n: int, y: Tensor | None = None, *, generator: torch.Generator) -> Iterator[Tensor]:
        D, order = self.space.dims, self.net.order
        u = torch.rand(n, D + 1, generator=generator, device=self.device)
        x = torch.zeros(n, D, dtype=torch.long, device=self.device)
        mine = (u[:, D] * len(order)).long()  # each sample comes from one ordering
        dtype = torch.int64 if self.space.kind == "tokens" else torch.float32
        caches = [self.net.start(n, self.told(y, n), o) for o in range(len(order))]
        for rank in range(D):
            for o, cache in enumerate(caches):
                d = order[o][rank]
                found = inverse_cdf(self.read(self.net.ahead(cache)) + self.bias[d], u[:, d])
                x[:, d] = torch.where(mine == o, found, x[:, d])
                self.net.advance(cache, self.entered(x[:, d]))
            yield x.view(n, *self.space.shape).to(dtype)
