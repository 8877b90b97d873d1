"""What models of one value after another share: p(x) = prod_t p(x_t given x_<t), its loss, its samples."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from pangen.networks.labels import hide
from pangen.networks.modules import listed
from pangen.samplers.tokens import TokenModel, inside
from pangen.space import Batch, LogProb, Loss, Progress, Space


class SequenceModel(TokenModel):
    """A model of its paper gives the logits of every value in one pass, and those of the next alone.

    Values are tokens, or bits; images come in raster order, channel after channel. What follows the
    first `space.end`, and padding, belongs to no example and counts for nothing.

    Args:
        unlabelled: share of labels hidden in training, so that p(x) is learnt beside p(x given y).
    """

    def __init__(self, space: Space, *, unlabelled: float) -> None:
        super().__init__(space)
        self.unlabelled, self.levels = unlabelled, space.levels or 2

    @abstractmethod
    def logits(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Logits `(B, L, K)` of every token given those before it; `x` `(B, L)` tokens."""

    def log_frequency(self, x: Tensor, *, pooled: bool) -> Tensor:
        """Log-frequency of each token at each place `(L, K)`, or, `pooled`, anywhere `(1, K)`."""
        x = x.flatten(1).long()
        x = x.where(inside(x, self.space), self.levels).T
        counts = torch.ones(len(x), self.levels + 1, device=x.device)
        counts = counts.scatter_add_(1, x, torch.ones_like(x, dtype=counts.dtype))[:, : self.levels]
        counts = counts.sum(0, keepdim=True) if pooled else counts
        return (counts / counts.sum(1, keepdim=True)).log()

    def nats(self, logits: Tensor, x: Tensor, first: int = 0) -> Tensor:
        """log p of the n tokens from `first` on, 0 after the end; `logits` `(B, n, K)`, all of `x` `(B, L)`."""
        now = slice(first, first + logits.shape[1])
        counted = inside(x, self.space)[:, now]
        targets = x[:, now].where(counted, -1)
        nats = -cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1, reduction="none")
        return nats.view(targets.shape)

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        y = hide(batch.y, self.space, self.unlabelled)
        x = batch.x.flatten(1).long()
        x = x[:, : int(inside(x, self.space).any(0).sum())]  # no example of the batch has more
        return Loss(-self.nats(self.logits(x, y), x).sum(1).mean() / self.space.dims)

    def log_prob(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> LogProb:
        x = x.flatten(1).long()
        return LogProb(self.nats(self.logits(x, y), x).sum(1), "exact")


class Before(nn.Module):
    """What is known before each token as a vector: the sum of embeddings of the label and of tokens.

    In text of the token before; in images of the neighbours to the left, above, above right, above
    left, and in the channel before. Where there is none stands a token of its own.
    """

    def __init__(self, space: Space, width: int) -> None:
        super().__init__()
        L, W = space.dims, space.shape[-1]
        back = {1, W, W - 1, W + 1, W * space.shape[-2]} if space.is_image else {1}
        self.back = sorted(b for b in back if 0 < b < max(L, 2))
        self.classes, self.none = space.classes, space.levels
        self.label = nn.Embedding(space.classes + 1, width)
        self.embed = listed(nn.Embedding(space.levels + 1, width) for _ in self.back)

    def forward(self, tokens: Tensor, y: Tensor | None, first: int = 0) -> Tensor:
        """Vectors `(B, t + 1 - first, width)` from which tokens first .. t follow; `tokens` `(B, t)`."""
        (B, t), most = tokens.shape, self.back[-1]
        padded = pad(tokens, (most, 0), value=self.none)
        h = self.label(tokens.new_full((B,), self.classes) if y is None else y)[:, None]
        for back, embed in zip(self.back, self.embed, strict=True):
            h = h + embed(padded[:, first + most - back : t + 1 + most - back])
        return h
