"""Sampling one token after another from a model that predicts the next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pangen.capabilities import HasNextToken
from pangen.errors import PangenError


def inverse_cdf(logits: Tensor, u: Tensor) -> Tensor:
    """The category `(...)` in which the uniform number `u` `(...)` falls; `logits` `(..., K)`.

    A category of logit -inf is never chosen.
    """
    cdf = logits.softmax(-1).cumsum(-1)
    top = cdf[..., -1]  # 1, but for rounding
    below_top = torch.minimum(u * top, torch.nextafter(top, torch.zeros_like(top)))
    return torch.searchsorted(cdf, below_top[..., None], right=True)[..., 0]


def until_end(tokens: Tensor, end: int | None) -> Tensor:
    """Which tokens `(B, L)` belong to the sequence: all up to and including the first `end`."""
    if end is None:
        return torch.ones_like(tokens, dtype=torch.bool)
    is_end = (tokens == end).long()
    return is_end.cumsum(1) - is_end == 0


@dataclass(frozen=True)
class NextToken:
    """Ancestral sampling, and the usual ways to sharpen it.

    temperature: logits are divided by it; 0 takes the likeliest token (greedy).
    top_k: only the `top_k` likeliest tokens can be drawn; 0: all.
    top_p: only the likeliest tokens that together reach the probability `top_p`
        (nucleus; Holtzman et al. 2020, Eqs. 2 and 3); 1: all.
    cached: keep what the model computed for earlier tokens; the samples are the same.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    cached: bool = True

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise PangenError(f"a temperature of {self.temperature} is negative; 0 is greedy, 1 the model's.")
        if self.top_k < 0:
            raise PangenError(f"top_k = {self.top_k} is negative; 0 allows every token.")
        if not 0 < self.top_p <= 1:
            raise PangenError(f"top_p = {self.top_p} is not in (0, 1]; 1 allows every token.")

    def __call__(
        self,
        model: HasNextToken,
        n: int,
        length: int,
        y: Tensor | None = None,
        *,
        end: int | None = None,
        device: torch.device | str = "cpu",
        generator: torch.Generator,
    ) -> Iterator[Tensor]:
        """Yield `(n, length)` after each token; what is still to come holds `end`, or 0.

        One uniform number for each token is drawn beforehand, so that neither stopping early
        nor what other rows do moves the noise.
        """
        u = torch.rand(n, length, generator=generator, device=device)
        tokens = torch.full((n, length), end or 0, device=device)
        alive = torch.ones(n, dtype=torch.bool, device=device)
        cache = None
        for t in range(length):
            logits, following = model.next_logits(tokens[:, :t], cache, y)
            cache = following if self.cached else None
            found = self.choose(logits, u[:, t])
            tokens[:, t] = found if end is None else torch.where(alive, found, end)
            yield tokens.clone()
            if end is not None:
                alive &= found != end
                if not alive.any():
                    return

    def choose(self, logits: Tensor, u: Tensor) -> Tensor:
        """A token `(B,)` for logits `(B, K)` and uniform numbers `(B,)`."""
        if self.temperature == 0:
            return logits.argmax(-1)
        logits = logits / self.temperature
        if self.top_k and self.top_k < logits.shape[-1]:
            least = logits.topk(self.top_k, -1).values[:, -1:]
            logits = logits.masked_fill(logits < least, -torch.inf)
        if self.top_p < 1:
            ordered, index = logits.sort(-1, descending=True)
            p = ordered.softmax(-1)
            beyond = p.cumsum(-1) - p >= self.top_p  # those before it already reach top_p
            logits = logits.masked_fill(beyond.gather(-1, index.argsort(-1)), -torch.inf)
        return inverse_cdf(logits, u)
