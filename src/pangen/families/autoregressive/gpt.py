"""GPT, a decoder-only Transformer (Radford et al. 2018, 2019), over characters or pixels as tokens.

p(x) = prod_t p(x_t given x_<t). The first token is predicted from an embedding of the class (or
of nothing), so p(x) is a probability of the whole example. Pixels come in raster order, channel
after channel, each a token (Chen et al. 2020), and are embedded with the neighbours before them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, one_hot, pad

from pangen.errors import PangenError
from pangen.model import GenerativeModel
from pangen.networks.labels import hide
from pangen.networks.transformer import Cache, CausalTransformer
from pangen.samplers.tokens import NextToken, until_end
from pangen.settings import Count, Share
from pangen.space import Batch, LogProb, Loss, Progress, Space


class GPT(GenerativeModel):
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
        super().__init__(space)
        if width % heads:
            raise PangenError(f"model.width = {width} is no multiple of model.heads = {heads}; change one.")
        L, K, W = space.dims, space.levels, space.shape[-1]
        self.unlabelled = unlabelled
        # how far back the neighbours lie: left, above, above right, above left, the channel before
        offsets = {1, W, W - 1, W + 1, W * space.shape[-2]} if space.is_image else {1}
        self.offsets = sorted(o for o in offsets if 0 < o < max(L, 2))
        self.start = nn.Embedding(space.classes + 1, width)
        self.position = nn.Parameter(0.02 * torch.randn(L, width))
        self.embed = nn.ModuleList(nn.Embedding(K + 1, width) for _ in self.offsets)
        self.transformer = CausalTransformer(width, depth, heads, dropout)
        self.untied = nn.Parameter(0.02 * torch.randn(K, width)) if space.is_image else None
        self.bias = nn.Parameter(torch.zeros(L if space.is_image else 1, K))
        self.dropout = nn.Dropout(dropout)
        for embedding in (self.start, *self.embed):
            nn.init.normal_(embedding.weight, std=0.02)

    @torch.no_grad()
    def initialize(self, batch: Batch) -> None:
        x = batch.x.flatten(1)
        counts = (one_hot(x, self.space.levels) * until_end(x, self.space.end)[..., None]).sum(0) + 1.0
        if len(self.bias) == 1:
            counts = counts.sum(0, keepdim=True)
        self.bias.copy_((counts / counts.sum(1, keepdim=True)).log())

    def inputs(self, tokens: Tensor, y: Tensor | None, first: int = 0) -> Tensor:
        """Embeddings `(B, t + 1 - first, width)` from which tokens first .. t are predicted."""
        (B, t), back = tokens.shape, self.offsets[-1]
        padded = pad(tokens, (back, 0), value=self.space.levels)
        y = tokens.new_full((B,), self.space.classes) if y is None else y
        h = self.position[first : t + 1] + self.start(y)[:, None]
        for offset, embed in zip(self.offsets, self.embed, strict=True):
            h = h + embed(padded[:, first + back - offset : t + 1 + back - offset])
        return self.dropout(h)

    def head(self, h: Tensor, bias: Tensor) -> Tensor:
        tied = self.embed[0].weight[: self.space.levels]
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

    def _nats(self, x: Tensor, y: Tensor | None) -> Tensor:
        x = x.flatten(1)
        nats = -cross_entropy(self.logits(x, y).transpose(1, 2), x, reduction="none")
        return (nats * until_end(x, self.space.end)).sum(1)

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        y = hide(batch.y, self.space, self.unlabelled)
        return Loss(-self._nats(batch.x, y).mean() / self.space.dims)

    def log_prob(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> LogProb:
        return LogProb(self._nats(x, y), "exact")

    def trajectory(
        self,
        n: int,
        y: Tensor | None = None,
        *,
        generator: torch.Generator,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
    ) -> Iterator[Tensor]:
        states = NextToken(temperature, top_k, top_p)(
            self, n, self.space.dims, y, end=self.space.end, device=self.device, generator=generator
        )
        for tokens in states:
            yield tokens.view(n, *self.space.shape)
