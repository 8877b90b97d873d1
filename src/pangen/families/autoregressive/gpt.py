"""GPT, a decoder-only Transformer (Radford et al. 2018, 2019), over characters or pixels as tokens.

p(x) = prod_t p(x_t given x_<t). The first token is predicted from an embedding of the class (or
of nothing), so p(x) is a probability of the whole example. Pixels come in raster order, channel
after channel, each a token (Chen et al. 2020), and are embedded with the neighbours before them.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from pangen.errors import PangenError
from pangen.families.autoregressive.sequence import Before, SequenceModel
from pangen.networks.transformer import Cache, CausalTransformer
from pangen.settings import Count, Share
from pangen.space import Batch, Space


class GPT(SequenceModel):
    """A causal Transformer over one token for each value of an example.

    The head of text is tied to the embedding of the token before (Press and Wolf 2017); pixels
    learn faster without. Its bias starts at the log-frequency of each token, in images at each
    position.

    Args:
        width: of the residual stream, a multiple of `heads`.
        depth: blocks.
        heads: of attention.
        dropout: of the embeddings and of what each block adds.
        unlabelled: share of labels hidden in training, so that p(x) is learnt beside p(x given y).
    """

    training_defaults: ClassVar[dict[str, Any]] = {
        "lr": 3e-3, "batch": 16, "warmup": 20, "weight_decay": 0.1, "ema": 0.99,
    }  # fmt: skip

    def __init__(
        self,
        space: Space,
        *,
        width: Count = 128,
        depth: Count = 2,
        heads: Count = 4,
        dropout: Share = 0.1,
        unlabelled: Share = 0.1,
    ) -> None:
        super().__init__(space, unlabelled=unlabelled)
        if width % heads:
            raise PangenError(f"model.width = {width} is no multiple of model.heads = {heads}; change one.")
        L, K = space.dims, space.levels
        self.before = Before(space, width)
        self.position = nn.Parameter(0.02 * torch.randn(L, width))
        self.transformer = CausalTransformer(width, depth, heads, dropout)
        self.untied = nn.Parameter(0.02 * torch.randn(K, width)) if space.is_image else None
        self.bias = nn.Parameter(torch.zeros(L if space.is_image else 1, K))
        self.dropout = nn.Dropout(dropout)
        for embedding in (self.before.label, *self.before.embed):
            nn.init.normal_(embedding.weight, std=0.02)

    @torch.no_grad()
    def initialize(self, batch: Batch) -> None:
        self.bias.copy_(self.log_frequency(batch.x, pooled=len(self.bias) == 1))

    def inputs(self, tokens: Tensor, y: Tensor | None, first: int = 0) -> Tensor:
        """Embeddings `(B, t + 1 - first, width)` from which tokens first .. t are predicted."""
        h = self.position[first : tokens.shape[1] + 1] + self.before(tokens, y, first)
        return self.dropout(h)

    def head(self, h: Tensor, bias: Tensor) -> Tensor:
        tied = self.before.embed[0].weight[: self.space.levels]
        return linear(h, tied if self.untied is None else self.untied) + bias

    def logits(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Logits `(B, L, K)` of every token given those before it; `x` `(B, L)`."""
        return self.head(self.transformer(self.inputs(x[:, :-1], y)), self.bias)

    def next_logits(
        self, tokens: Tensor, cache: Cache | None = None, y: Tensor | None = None
    ) -> tuple[Tensor, Cache]:
        cache = cache or self.transformer.new_cache(len(tokens), self.space.dims)
        h = self.transformer(self.inputs(tokens, y, cache.seen), cache)
        return self.head(h[:, -1], self.bias[min(tokens.shape[1], len(self.bias) - 1)]), cache
