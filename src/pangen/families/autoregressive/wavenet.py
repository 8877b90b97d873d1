"""WaveNet (van den Oord et al. 2016a): sound, sample after sample, by dilated causal convolutions.

p(x) = prod_t p(x_t given x_<t) (Eq. 1), each x_t one of 256 levels of the mu-law. What reaches back R samples
is a stack of gated convolutions whose dilation doubles from layer to layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from pangen.errors import PangenError
from pangen.families.autoregressive.sequence import SequenceModel
from pangen.networks.dilated import DilatedStack, Rings
from pangen.networks.labels import hide
from pangen.networks.linear import Linear
from pangen.samplers.tokens import until_end
from pangen.settings import Count, Share
from pangen.space import Batch, LogProb, Loss, Progress, Space

PIECE = 4096
"""Samples of a sequence that are computed at once, outside training."""


class Memory(NamedTuple):
    """The cache: what the layers keep after `seen` tokens."""

    seen: int
    rings: Rings


class WaveNet(SequenceModel):
    """A categorical distribution for each sample; before the first stands a token of its own.

    A level is read as an embedding, to which its place in the order of levels is added: by itself, and as the amplitude that the mu-law gives it.

    Args:
        channels: of the residual stream and of its gates.
        skip: numbers that all layers together show to the softmax.
        dilations: layers of a cycle, of dilation 1, 2, 4, 8, ...
        cycles: of layers.
        kernel: taps of a convolution, at least 2. A sample is predicted from R = 1 + (kernel - 1) cycles
            (2^dilations - 1) before it.
        crop: samples of a piece that training predicts at once, beside the R that it reads.
        unlabelled: share of labels hidden in training, so that p(x) is learnt beside p(x given y).
    """

    training_defaults: ClassVar[dict[str, Any]] = {"lr": 3e-3, "batch": 8, "warmup": 20, "ema": 0.99}

    def __init__(
        self,
        space: Space,
        *,
        channels: Count = 32,
        skip: Count = 128,
        dilations: Count = 10,
        cycles: Count = 2,
        kernel: Count = 2,
        crop: Count = 2048,
        unlabelled: Share = 0.1,
    ) -> None:
        super().__init__(space, unlabelled=unlabelled)
        if kernel < 2:
            raise PangenError("model.kernel = 1 reaches no sample but the last; give at least 2.")
        K, each = space.levels, [2**i for i in range(dilations)] * cycles
        self.crop, self.none = min(crop, space.dims), K
        levels = K - (space.end is not None)
        v = torch.linspace(-1, 1, levels)
        amplitude = v.sign() * (math.log(levels) * v.abs()).expm1() / (levels - 1)
        place = pad(torch.stack([v, 4 * amplitude], 1), (0, 0, 0, K + 1 - levels))
        self.place = nn.Buffer(place, persistent=False)
        self.enter = nn.Parameter(torch.randn(2, channels))
        self.embed = nn.Parameter(0.1 * torch.randn(K + 1, channels))
        self.stack = DilatedStack(channels, skip, each, kernel)
        self.condition = nn.Embedding(space.classes + 1, 2 * channels * len(each))  # V y, of all layers
        nn.init.normal_(self.condition.weight, std=0.1)
        self.leave = nn.Sequential(nn.ReLU(), Linear(skip, skip), nn.ReLU(), Linear(skip, K))

    @property
    def reach(self) -> int:
        """R, the number of samples before it that one is predicted from."""
        return self.stack.past + 1

    @torch.no_grad()
    def initialize(self, batch: Batch) -> None:
        cast("Linear", self.leave[-1]).bias.copy_(self.log_frequency(batch.x, pooled=True)[0])

    @property
    def table(self) -> Tensor:
        """What each token, and none, is read as `(K + 1, channels)`."""
        return self.place @ self.enter + self.embed

    def told(self, y: Tensor | None, n: int) -> Tensor:
        """V y in each layer `(n, layers, 2 channels, 1)`."""
        y = self.embed.new_full((n,), self.space.classes, dtype=torch.long) if y is None else y
        return self.condition(y).view(n, len(self.stack.layers), -1, 1)

    def read(self, tokens: Tensor) -> Tensor:
        return self.table[tokens].transpose(1, 2)

    def show(self, skips: Tensor) -> Tensor:
        """Logits `(B, n, K)` by `(B, skip, n)`."""
        return self.leave(skips.transpose(1, 2))

    def pieces(self, tokens: Tensor, y: Tensor | None) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """Logits `(B, n, K)` of tokens 0 .. t, piece after piece, and what layers keep; `tokens` `(B, t)`."""
        inputs, told = pad(tokens, (1, 0), value=self.none), self.told(y, len(tokens))
        past = self.stack.start(self.read(inputs[:, :1]), told)
        for piece in inputs.split(PIECE, 1):
            yield self.show(self.stack(self.read(piece), told, past)), past

    def logits(self, x: Tensor, y: Tensor | None) -> Tensor:
        return torch.cat([logits for logits, _ in self.pieces(x[:, :-1], y)], 1)

    def log_prob(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> LogProb:
        """A few examples of one length at once, and each by itself where they differ in length."""
        n, found = until_end(x, self.space.end).sum(1).tolist(), []
        many = max(PIECE // x.shape[1], 1) if self.space.end is None else 1
        for i in range(0, len(x), many):
            rows, first, nats = x[i : i + many, : n[i]], 0, torch.zeros((), device=x.device)
            for logits, _ in self.pieces(rows[:, :-1], None if y is None else y[i : i + many]):
                nats = nats + self.nats(logits, rows, first).sum(1)
                first += logits.shape[1]
            found.append(nats)
        return LogProb(torch.cat(found), "exact")

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        """Nats a sample, of some of the pieces that the batch is cut into: an unbiased estimate of all."""
        x, y = batch.x, hide(batch.y, self.space, self.unlabelled)
        n = until_end(x, self.space.end).sum(1)
        if self.crop == self.space.dims:  # all are first pieces: one token stands before them, and not R
            return Loss(-self.nats(self.logits(x, y), x).sum() / n.sum())
        pieces = (torch.arange(0, x.shape[1], self.crop, device=x.device) < n[:, None]).nonzero()
        row, number = pieces[torch.randperm(len(pieces), device=x.device)[: len(x)]].T
        R, first = self.reach, number[:, None] * self.crop
        now = first + torch.arange(R + self.crop, device=x.device)
        tokens = pad(x, (R, self.crop), value=self.none)[row[:, None], now]
        told = self.told(None if y is None else y[row], len(row))
        logits = self.show(self.stack(self.read(tokens[:, :-1]), told))
        targets = tokens.where(now < R + n[row, None], -1)[:, R:]
        nats = cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1, reduction="sum")
        return Loss(nats * len(pieces) / len(row) / n.sum())

    def next_logits(
        self, tokens: Tensor, cache: Memory | None = None, y: Tensor | None = None
    ) -> tuple[Tensor, Memory]:
        if cache is None:
            *_, (logits, past) = self.pieces(tokens, y)
            rings = Rings.of(self.stack, past, self.told(y, len(tokens)), self.table)
            return logits[:, -1], Memory(tokens.shape[1], rings)
        for t in range(cache.seen, tokens.shape[1]):
            skips = cache.rings.step(tokens[:, t])
        return self.leave(skips), Memory(tokens.shape[1], cache.rings)
