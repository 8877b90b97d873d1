"""What models of one pixel after another share: p(x) = prod_i p(x_i given x_<i) with context from their own layers."""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import one_hot, silu

from pangen.likelihoods import Observation, likelihood
from pangen.networks.labels import hide
from pangen.networks.pixel import Causal, ChannelHead, Growing, LevelFeatures
from pangen.networks.roles import Condition
from pangen.networks.rounding import Precision, rounded
from pangen.samplers.tokens import TokenModel
from pangen.space import Batch, LogProb, Loss, Progress, Space

FEATURES = 16
"""Numbers that stand for a level at the network's entrance, beside its place in their order."""


class PixelModel(TokenModel):
    """Pixel after pixel in raster order, in a pixel channel after channel; the space decides the distribution.

    A model of its paper gives `layers`, as many features wide at their entrance as `inputs` says.

    Args:
        channels: of the context.
        observation: of a pixel, by name; auto: bernoulli for bits, categorical for levels, a mixture of
            discretised logistics on the grid.
        precision: bfloat16 or float16 rounds the factors of the layers' products in training.
        unlabelled: share of labels hidden in training, so that p(x) is learnt beside p(x given y).
    """

    layers: Causal[Any]

    def __init__(
        self,
        space: Space,
        *,
        channels: int,
        observation: Observation,
        precision: Precision,
        unlabelled: float,
    ) -> None:
        super().__init__(space)
        C, K, tokens = space.shape[0], space.levels or 2, space.kind == "tokens"
        self.unlabelled, self.precision = unlabelled, precision
        self.likelihood = likelihood(space, observation)
        self.softmax = tokens or observation == "categorical"  # raw numbers are the logits of the levels
        values = torch.arange(K) if tokens else torch.linspace(-1 if space.is_grid else 0, 1, K)
        self.values = nn.Buffer(values, persistent=False)
        self.condition = Condition(space, channels) if space.condition else None
        self.embed = LevelFeatures(K, FEATURES if tokens else 0)
        self.inputs = C * self.embed.size
        self.head = ChannelHead(channels, C, self.embed.size, self.likelihood.channels)
        self.bias = nn.Parameter(torch.zeros(self.likelihood.channels, *space.shape))

    @torch.no_grad()
    def initialize(self, batch: Batch) -> None:
        """Start from the frequency of each level at each position, where raw numbers are logits."""
        counts = one_hot(self.levels(batch.x), len(self.values)).sum(0).to(self.bias)
        everywhere = counts.sum((1, 2), keepdim=True) + 1
        counts = counts + len(self.values) * everywhere / everywhere.sum(-1, keepdim=True)
        if self.softmax:
            self.bias.copy_((counts / counts.sum(-1, keepdim=True)).log().movedim(-1, 0))
        elif self.space.kind == "binary":
            self.bias.copy_((counts[..., 1] / counts[..., 0]).log()[None])

    def levels(self, x: Tensor) -> Tensor:
        """Values of the space as numbers 0 .. K - 1."""
        if self.space.is_grid and x.is_floating_point():
            x = (x + 1) * (self.space.levels - 1) / 2
        return x.round().long() if x.is_floating_point() else x

    def told(self, y: Tensor | None, n: int) -> Tensor | None:
        return None if self.condition is None else self.condition(y, n)

    def raw(self, x: Tensor, y: Tensor | None) -> Tensor:
        """The numbers `(B, n, C, H, W)` of each conditional distribution of `x` `(B, C, H, W)`."""
        f = self.embed(self.levels(x))
        with rounded(self, f):
            raw = self.head(silu(self.layers(f, self.told(y, len(x)))), f)
        return raw.to(self.bias) + self.bias

    def next_logits(
        self, tokens: Tensor, cache: Growing | None = None, y: Tensor | None = None
    ) -> tuple[Tensor, Growing]:
        """Tokens come pixel after pixel, the channels of each one after the other."""
        C, _, W = self.space.shape
        pixels, c = divmod(tokens.shape[1], C)
        cache = cache or self.layers.start(len(tokens), W, self.told(y, len(tokens)))
        tokens = self.levels(tokens)
        while cache.seen < pixels:
            last = tokens[:, cache.seen * C : (cache.seen + 1) * C, None, None]
            self.layers.advance(cache, self.embed(last))
        f = self.embed(tokens[:, pixels * C :, None, None])
        raw = self.head.one(silu(cache.context), f, c)[..., 0, 0] + self.bias[:, c, pixels // W, pixels % W]
        return self.logits(raw), cache

    def logits(self, raw: Tensor) -> Tensor:
        """Logits `(B, K)` of every level by raw numbers `(B, n)`."""
        if self.softmax:
            return raw
        K = len(self.values)
        each = self.likelihood(raw.repeat_interleave(K, 0)[..., None])
        return each.log_prob(self.values.repeat(len(raw))[:, None]).view(-1, K)

    def _nats(self, x: Tensor, y: Tensor | None) -> Tensor:
        return self.likelihood(self.raw(x, y)).log_prob(x)

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        y = hide(batch.y, self.space, self.unlabelled)
        return Loss(-self._nats(batch.x, y).mean() / self.space.dims)

    def log_prob(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> LogProb:
        return LogProb(self._nats(x, y), "exact")

    def examples(self, tokens: Tensor) -> Tensor:
        C, H, W = self.space.shape
        return self.values[rearrange(tokens, "b (h w c) -> b c h w", c=C, h=H, w=W)]

    def tokens(self, x: Tensor) -> Tensor:
        return rearrange(self.levels(x), "b c h w -> b (h w c)").long()
