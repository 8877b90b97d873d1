"""A text that answers to another: the encoder-decoder Transformer (Vaswani et al. 2017), or GRUs that attend (Bahdanau et al. 2015).

p(x given y) = prod_t p(x_t given x_<t, y): an encoder reads y once, a decoder writes x and looks at what was read.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from pangen.errors import PangenError
from pangen.families.autoregressive.sequence import SequenceModel
from pangen.networks.encoder_decoder import Memory, RecurrentPair, TransformerPair
from pangen.networks.linear import linear
from pangen.networks.rounding import Precision, rounded
from pangen.samplers.tokens import until_end
from pangen.settings import Count, Share
from pangen.space import Batch, Loss, Progress, Space


class Seq2Seq(SequenceModel):
    """An encoder of the source and a decoder of the target; its head is tied to the embedding of targets.

    Args:
        architecture: "transformer"; or "rnn", GRUs with additive attention, to compare.
        width: of every vector, even, and of a Transformer a multiple of `heads`.
        depth: blocks, or GRU layers of the encoder.
        heads: of the Transformer's attention.
        dropout: of embeddings, and of what each block adds or each layer passes on.
        precision: bfloat16 or float16 rounds the factors of the layers' products in training.
        smoothing: share of each target's probability that training spreads over all tokens (Szegedy et al.
            2016, Section 7). The likelihood has none.
    """

    training_defaults: ClassVar[dict[str, Any]] = {"lr": 2e-3, "batch": 64, "warmup": 100, "ema": 0.99}
    selection: ClassVar[Literal["loss"]] = "loss"  # smoothed, which likelihood would hold against the best

    def __init__(
        self,
        space: Space,
        *,
        architecture: Literal["transformer", "rnn"] = "transformer",
        width: Count = 128,
        depth: Count = 2,
        heads: Count = 4,
        dropout: Share = 0.1,
        precision: Precision = "full",
        smoothing: Share = 0.1,
    ) -> None:
        super().__init__(space, unlabelled=0.0)
        if width % 2 or width % heads:
            raise PangenError(
                f"model.width = {width} is odd or no multiple of model.heads = {heads}; change one."
            )
        K, source = space.levels, space.condition
        if source is None:
            raise PangenError("seq2seq answers to texts, and this data has none beside its own; give pairs.")
        self.smoothing, self.scale, self.sources = smoothing, math.sqrt(width), source
        self.precision = precision
        self.embed_x, self.embed_y = nn.Embedding(K + 1, width), nn.Embedding(source.levels, width)
        if architecture == "transformer":
            length = max(space.dims, source.dims)
            self.net: TransformerPair | RecurrentPair = TransformerPair(width, depth, heads, dropout, length)
        else:
            self.net = RecurrentPair(width, depth, dropout)
        self.bias = nn.Parameter(torch.zeros(K))
        for embedding in (self.embed_x, self.embed_y):
            nn.init.normal_(embedding.weight, std=width**-0.5)  # times sqrt(width) in Section 3.4

    @torch.no_grad()
    def initialize(self, batch: Batch) -> None:
        self.bias.copy_(self.log_frequency(batch.x, pooled=True)[0])

    def read(self, y: Tensor) -> Memory:
        return self.net.read(self.scale * self.embed_y(y), until_end(y, self.sources.end))

    def before(self, tokens: Tensor, first: int = 0) -> Tensor:
        """Embeddings `(B, t + 1 - first, width)` from which tokens first .. t follow; `tokens` `(B, t)`."""
        return self.scale * self.embed_x(pad(tokens, (1, 0), value=self.space.levels)[:, first:])

    def head(self, h: Tensor) -> Tensor:
        return linear(h, self.embed_x.weight[:-1], self.bias)

    def logits(self, x: Tensor, y: Tensor | None) -> Tensor:
        before = self.before(x[:, :-1])
        with rounded(self, before):
            logits = self.head(self.net.write(before, self.read(self.source(y, len(x)))))
        return logits.to(before.dtype)

    def source(self, y: Tensor | None, n: int) -> Tensor:
        return cast("Tensor", self.space.no_condition(n, self.device)) if y is None else y

    def next_logits(self, tokens: Tensor, cache: Any = None, y: Tensor | None = None) -> tuple[Tensor, Any]:
        if cache is None:
            cache = self.net.start(self.read(self.source(y, len(tokens))), self.space.dims)
        h = self.net.advance(self.before(tokens, cache.seen), cache)
        return self.head(h[:, -1]), cache

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        x = trimmed(batch.x, self.space)
        y = trimmed(self.source(batch.y, len(batch.x)), self.sources)
        logits, belongs = self.logits(x, y), until_end(x, self.space.end)
        nats = cross_entropy(logits.transpose(1, 2), x, reduction="none", label_smoothing=self.smoothing)
        return Loss((nats * belongs).sum() / belongs.sum())


def trimmed(tokens: Tensor, space: Space) -> Tensor:
    """Without the places at the end that no row of the batch has reached."""
    return tokens[:, : int(until_end(tokens, space.end).sum(1).max())]
