"""Vectors to the nearest codes of learnt codebooks, the codebooks running averages of what they stand for."""

from __future__ import annotations

from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from pangen import parallel

JITTER = 0.01
"""Noise on a vector that becomes a code, in standard deviations of the vectors: twins grow apart."""


class Quantised(NamedTuple):
    """What became of vectors `(..., dim)`."""

    tokens: Tensor
    """The code each codebook gave `(..., depth)`."""
    given: Tensor
    """What each codebook was given, the remainder of those before it `(..., depth, dim)`."""
    codes: Tensor
    """The codes themselves `(..., depth, dim)`; their sum stands for the vector."""


class Quantiser(nn.Module):
    """`depth` codebooks of `size` codes, each quantising what those before it left (Lee et al. 2022, Eq. 3).

    A code is the mean of the vectors nearest to it, kept as running count and sum (van den Oord et al. 2017,
    Appendix A.1): no gradient reaches it.

    Args:
        dim: of a vector.
        size: codes in a codebook.
        depth: codebooks.
        decay: of running counts and sums, for each update.
        dead: a code used less than this share of the mean moves to a vector of the present batch.
    """

    def __init__(
        self, dim: int, size: int, depth: int = 1, *, decay: float = 0.99, dead: float = 0.1
    ) -> None:
        super().__init__()
        self.size, self.depth, self.decay, self.dead = size, depth, decay, dead
        self.codebook = nn.Buffer(torch.randn(depth, size, dim))
        self.counts = nn.Buffer(torch.ones(depth, size))
        self.sums = nn.Buffer(self.codebook.clone())
        self._seen: list[Quantised] = []

    def forward(self, h: Tensor) -> Quantised:
        """The nearest code to each vector `(..., dim)`, then to what is left of it."""
        tokens, given, codes = [], [], []
        for level in range(self.depth):
            tokens.append(self.nearest(h, level))
            given.append(h)
            codes.append(self.codebook[level, tokens[-1]])
            h = h - codes[-1]
        return Quantised(torch.stack(tokens, -1), torch.stack(given, -2), torch.stack(codes, -2))

    def nearest(self, h: Tensor, level: int) -> Tensor:
        """argmin_k |h - e_k|^2 of one codebook, without the |h|^2 that all have in common."""
        e = self.codebook[level]
        return (h @ e.T - e.pow(2).sum(1) / 2).argmax(-1)

    def codes(self, tokens: Tensor) -> Tensor:
        """The codes `(..., depth, dim)` of tokens `(..., depth)`."""
        return self.codebook[torch.arange(self.depth, device=tokens.device), tokens]

    @torch.no_grad()
    def initialize(self, h: Tensor) -> None:
        """Codes are vectors `(..., dim)` of a first batch, or what is left of them."""
        h = h.flatten(0, -2)
        self.counts.fill_(1.0)
        for level in range(self.depth):
            pick = torch.randperm(len(h), device=h.device)[torch.arange(self.size, device=h.device) % len(h)]
            self.codebook[level] = _jittered(h, pick)
            self.sums[level] = self.codebook[level]
            h = h - self.codebook[level, self.nearest(h, level)]

    @torch.no_grad()
    def see(self, found: Quantised) -> None:
        """Note what a piece of the batch was quantised to, for `move`."""
        self._seen.append(found)

    @torch.no_grad()
    def move(self) -> None:
        """One step of the running means over all pieces that were seen, whichever process saw them.

        Dead codes get new places among the vectors of the first; noise is torch's global one.
        """
        for level in range(self.depth):
            h = [found.given[..., level, :].flatten(0, -2) for found in self._seen]
            chosen = [one_hot(found.tokens[..., level].flatten(), self.size).to(h[0]) for found in self._seen]
            n, m, e = self.counts[level], self.sums[level], self.codebook[level]
            count = reduce(torch.add, [c.sum(0) for c in chosen])
            total = reduce(torch.add, [c.T @ v for c, v in zip(chosen, h, strict=True)])
            fresh = _jittered(h[0], torch.randint(len(h[0]), (self.size,), device=h[0].device))
            if parallel.together():
                fresh *= parallel.is_first()
                parallel.add_up([count, total, fresh])
            n.lerp_(count, 1 - self.decay)
            m.lerp_(total, 1 - self.decay)
            e.copy_(torch.where(n[:, None] > 0, m / n[:, None], e))
            mean, dead = n.mean(), n < self.dead * n.mean()
            e.copy_(torch.where(dead[:, None], fresh, e))
            m.copy_(torch.where(dead[:, None], mean * fresh, m))
            n.copy_(torch.where(dead, mean, n))
        self._seen.clear()


def straight_through(h: Tensor, q: Tensor) -> Tensor:
    """q, with the gradient handed to h as it is (Bengio et al. 2013)."""
    return h + (q - h).detach()


def perplexity(tokens: Tensor, size: int) -> Tensor:
    """exp of the entropy of the tokens' frequencies: how many codes, used evenly, would be as uncertain."""
    p = tokens.flatten().bincount(minlength=size) / tokens.numel()
    return torch.special.entr(p).sum().exp()


def _jittered(h: Tensor, pick: Tensor) -> Tensor:
    chosen = h[pick]
    return chosen + JITTER * h.std(0, correction=0) * torch.randn_like(chosen)
