"""GPT, a decoder-only Transformer (Radford et al. 2018, 2019), over characters or pixels as tokens.

p(x) = prod_t p(x_t given x_<t). The first token is predicted from an embedding of the class (or
of nothing), so p(x) is a probability of the whole example. Pixels come in raster order, channel
after channel, each a token (Chen et al. 2020), and are embedded with the neighbours before them.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from pangen.errors import PangenError
from pangen.families.autoregressive.sequence import Before, SequenceModel
from pangen.networks.linear import linear
from pangen.networks.positions import sinusoids
from pangen.networks.rounding import Precision, rounded
from pangen.networks.transformer import Cache, CausalTransformer, check_heads
from pangen.settings import Count, Share
from pangen.space import Batch, Space


class GPT(SequenceModel):
    """A causal Transformer over one token for each value of an example.

    The bias of the head starts at the log-frequency of each token, in images at each position.

    Args:
        width: of the residual stream, a multiple of `heads`.
        depth: blocks.
        heads: of attention.
        positions: what tells places apart: "learned" vectors; "sinusoidal" ones, beside embeddings times
            the root of their width (Vaswani et al. 2017, Sections 3.4 and 3.5); "rotary", turns of queries
            and keys (Su et al. 2021), which show attention how far apart two tokens stand.
        tied: whether the head is the embedding of the token before (Press and Wolf 2017); None: in text,
            as pixels learn faster without.
        dropout: of the embeddings and of what each block adds.
        precision: bfloat16 or float16 rounds the factors of the layers' products in training.
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
        positions: Literal["learned", "sinusoidal", "rotary"] = "learned",
        tied: bool | None = None,
        dropout: Share = 0.1,
        precision: Precision = "full",
        unlabelled: Share = 0.1,
    ) -> None:
        super().__init__(space, unlabelled=unlabelled)
        check_heads(width, heads)
        if positions == "rotary" and width // heads % 2:
            raise PangenError(
                f"rotary positions turn pairs, and model.width / model.heads = {width // heads} is odd; change one."
            )
        L, K = space.dims, space.levels
        self.before, self.scale = Before(space, width), 1.0
        self.position: Tensor | None
        if positions == "learned":
            self.position = nn.Parameter(0.02 * torch.randn(L, width))
        elif positions == "sinusoidal":
            self.position = nn.Buffer(sinusoids(L, width), persistent=False)
        else:
            self.position = None
            self.scale = math.sqrt(width)
        rotary = L if positions == "rotary" else 0
        self.transformer = CausalTransformer(width, depth, heads, dropout, rotary=rotary)
        tied = not space.is_image if tied is None else tied
        self.untied = None if tied else nn.Parameter(0.02 * torch.randn(K, width))
        self.bias = nn.Parameter(torch.zeros(L if space.is_image else 1, K))
        self.dropout, self.precision = nn.Dropout(dropout), precision
        for embedding in (self.before.label, *self.before.embed):
            nn.init.normal_(embedding.weight, std=0.02)

    @torch.no_grad()
    def initialize(self, batch: Batch) -> None:
        self.bias.copy_(self.log_frequency(batch.x, pooled=len(self.bias) == 1))

    def inputs(self, tokens: Tensor, y: Tensor | None, first: int = 0) -> Tensor:
        """Embeddings `(B, t + 1 - first, width)` from which tokens first .. t are predicted."""
        h = self.before(tokens, y, first)
        if self.position is not None:
            h = self.scale * h + self.position[first : tokens.shape[1] + 1]
        return self.dropout(h)

    def head(self, h: Tensor, bias: Tensor) -> Tensor:
        tied = self.before.embed[0].weight[: self.space.levels]
        return linear(h, tied if self.untied is None else self.untied) + bias

    def logits(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Logits `(B, L, K)` of every token given those before it; `x` `(B, L)`."""
        h = self.inputs(x[:, :-1], y)
        with rounded(self, h):
            logits = self.head(self.transformer(h), self.bias)
        return logits.to(h.dtype)

    def next_logits(
        self, tokens: Tensor, cache: Cache | None = None, y: Tensor | None = None
    ) -> tuple[Tensor, Cache]:
        cache = cache or self.transformer.new_cache(len(tokens), self.space.dims)
        h = self.transformer(self.inputs(tokens, y, cache.seen), cache)
        return self.head(h[:, -1], self.bias[min(tokens.shape[1], len(self.bias) - 1)]), cache
