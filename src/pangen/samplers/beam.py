"""Beam search: the likeliest sequence of a model that predicts the next token, or nearly so."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pangen.capabilities import HasNextToken
from pangen.errors import PangenError


@dataclass(frozen=True)
class Beam:
    """The `width` best beginnings go on together until none can overtake the best sequence that has ended.

    width: beginnings kept; 1 is greedy, and as many as there are sequences find the likeliest.
    penalty: alpha of the length by which log p is divided, ((5 + length) / 6)^alpha (Wu et al. 2016, Eq. 14);
        0 ranks by log p, which prefers short sequences.
    """

    width: int = 4
    penalty: float = 0.6

    def __post_init__(self) -> None:
        if self.width < 1:
            raise PangenError(f"a beam of {self.width} keeps nothing; 1 is greedy, 4 is usual.")
        if self.penalty < 0:
            raise PangenError(
                f"a length penalty of {self.penalty} is negative; 0 ranks by log p, 0.6 is usual."
            )

    def __call__(
        self,
        model: HasNextToken,
        n: int,
        length: int,
        y: Tensor | None = None,
        *,
        end: int,
        device: torch.device,
    ) -> tuple[Tensor, Tensor]:
        """`n` sequences `(n, length)` that hold `end` from their first on, and their log p `(n,)`, given `y`."""
        k, rows = self.width, torch.arange(n, device=device)[:, None]
        y = None if y is None else y.repeat_interleave(k, 0)
        tokens = torch.full((n, k, length), end, device=device)
        nats = torch.full((n, k), -torch.inf, device=device)  # of each beginning; -inf: no more
        nats[:, 0] = 0.0
        best, best_nats = tokens[:, 0].clone(), torch.full((n,), -torch.inf, device=device)
        best_score, cache = best_nats.clone(), None
        for t in range(length):
            logits, cache = model.next_logits(tokens.flatten(0, 1)[:, :t], cache, y)
            log_p = logits.log_softmax(-1).view(n, k, -1)
            levels = log_p.shape[-1]
            nats, index = (nats[..., None] + log_p).flatten(1).topk(k, 1)
            parent, token = index // levels, index % levels
            tokens = tokens[rows, parent]
            tokens[:, :, t] = token
            ended = (token == end) | (t == length - 1)
            score = torch.where(ended, nats / self.size(t + 1), -torch.inf)
            top, which = score.max(1)
            better = top > best_score
            best = torch.where(better[:, None], tokens[rows[:, 0], which], best)
            best_nats = torch.where(better, nats[rows[:, 0], which], best_nats)
            best_score = torch.where(better, top, best_score)
            nats = nats.masked_fill(ended, -torch.inf)
            if (nats.amax(1) / self.size(length) <= best_score).all():  # log p only falls
                break
            cache = self.moved(cache, (rows * k + parent).flatten())
        return best, best_nats

    def size(self, length: int) -> float:
        """What the nats of so many tokens are divided by (Wu et al. 2016, Eq. 14)."""
        return ((5 + length) / 6) ** self.penalty

    def moved(self, cache: object, rows: Tensor) -> object:
        """The cache of the beginnings at `rows`; None, to compute it anew, where the model's cannot be rearranged."""
        return cache.take(rows) if hasattr(cache, "take") else None
