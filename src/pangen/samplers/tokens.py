"""Sampling one token after another from a model that predicts the next."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pangen.capabilities import HasNextToken
from pangen.errors import NO_NUMBERS, PangenError
from pangen.model import GenerativeModel
from pangen.space import Space


def inverse_cdf(logits: Tensor, u: Tensor) -> Tensor:
    """The category `(...)` in which the uniform number `u` `(...)` falls; `logits` `(..., K)`.

    A category of logit -inf is never chosen.

    Raises:
        PangenError: probabilities are no numbers.
    """
    cdf = logits.softmax(-1).cumsum(-1)
    top = cdf[..., -1]  # 1, but for rounding
    if top.isnan().any():
        raise PangenError(NO_NUMBERS)
    below_top = torch.minimum(u * top, torch.nextafter(top, torch.zeros_like(top)))
    return torch.searchsorted(cdf, below_top[..., None], right=True)[..., 0]


def until_end(tokens: Tensor, end: int | None) -> Tensor:
    """Which tokens `(B, L)` belong to the sequence: all up to and including the first `end`."""
    if end is None:
        return torch.ones_like(tokens, dtype=torch.bool)
    is_end = (tokens == end).long()
    return is_end.cumsum(1) - is_end == 0


def inside(tokens: Tensor, space: Space) -> Tensor:
    """Which tokens `(B, L)` belong to an example: all up to and including its end, and no padding."""
    return until_end(tokens, space.end) & (tokens < (space.levels or 2))


def written(tokens: Tensor, space: Space) -> Tensor:
    """Which tokens `(B, L)` are an example's text: neither its end nor padding."""
    belong = inside(tokens, space)
    return belong if space.end is None else belong & (tokens != space.end)


class Step(NamedTuple):
    """The token drawn `(n,)`, and the logits `(n, K)` that the model gave all, before they were sharpened."""

    token: Tensor
    logits: Tensor


@dataclass(frozen=True)
class NextToken:
    """Ancestral sampling, and the usual ways to sharpen it.

    temperature: logits are divided by it; 0 takes the likeliest token (greedy).
    top_k: only the `top_k` likeliest tokens can be drawn; 0: all.
    top_p: only the likeliest tokens that together reach the probability `top_p`
        (nucleus; Holtzman et al. 2020, Eqs. 2 and 3); 1: all.
    repetition: the log-probability of each token in sight of the model is multiplied by it (Keskar et al.
        2019, Section 4.1, whose logits have no zero of their own); 1: nothing is.
    cached: keep what the model computed for earlier tokens; the samples are the same.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition: float = 1.0
    cached: bool = True

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise PangenError(f"a temperature of {self.temperature} is negative; 0 is greedy, 1 the model's.")
        if self.top_k < 0:
            raise PangenError(f"top_k = {self.top_k} is negative; 0 allows every token.")
        if not 0 < self.top_p <= 1:
            raise PangenError(f"top_p = {self.top_p} is not in (0, 1]; 1 allows every token.")
        if self.repetition < 1:
            raise PangenError(
                f"repetition = {self.repetition} favours what was there already; 1 changes nothing, 1.2 avoids it."
            )

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
        """Yield the same `(n, length)` after each token; what is still to come holds `end`, or 0."""
        tokens = torch.full((n, length), end or 0, device=device)
        steps = self.stream(model, n, length, y, end=end, device=device, generator=generator)
        for t, step in enumerate(steps):
            tokens[:, t] = step.token
            yield tokens

    def stream(
        self,
        model: HasNextToken,
        n: int,
        length: int,
        y: Tensor | None = None,
        *,
        prompt: Tensor | None = None,
        context: int = 0,
        end: int | None = None,
        device: torch.device | str = "cpu",
        generator: torch.Generator,
    ) -> Iterator[Step]:
        """At most `length` tokens that follow a `prompt` `(p,)`, one after another, of `n` sequences.

        A model that sees `context` tokens, when they are full, goes on from the last half of them as if they
        were a start; 0: it sees all. A row that has reached its `end` repeats it, and all ends end the stream.
        One uniform number for each token is drawn beforehand, so that neither stopping early
        nor what other rows do moves the noise, and a longer text begins as a shorter one.
        """
        u = torch.rand(length, n, generator=generator, device=device)
        p = 0 if prompt is None else len(prompt)
        tokens = torch.full((n, p + length), end or 0, device=device)
        if prompt is not None:
            tokens[:, :p] = prompt
        alive = torch.ones(n, dtype=torch.bool, device=device)
        first, cache = 0, None
        for t in range(p, p + length):
            if context and t - first >= context:
                first, cache = t - context // 2, None
            with torch.inference_mode():  # closed before the yield: a suspended generator would leak it
                seen = tokens[:, first:t]
                logits, following = model.next_logits(seen, cache, y)
                cache = following if self.cached else None
                found = self.choose(logits, u[t - p], seen)
                tokens[:, t] = found if end is None else torch.where(alive, found, end)
            yield Step(tokens[:, t], logits)
            if end is not None:
                alive &= found != end
                if not alive.any():
                    return

    def choose(self, logits: Tensor, u: Tensor, seen: Tensor) -> Tensor:
        """A token `(B,)` for logits `(B, K)`, uniform numbers `(B,)` and what is in sight `(B, t)`."""
        if self.repetition > 1:
            logits = logits.log_softmax(-1)
            logits = logits.scatter(1, seen, self.repetition * logits.gather(1, seen))
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


class TokenModel(GenerativeModel):
    """A model that is drawn token after token: a model of its paper gives the logits of the next."""

    @abstractmethod
    def next_logits(self, tokens: Tensor, cache: Any = None, y: Tensor | None = None) -> tuple[Tensor, Any]:
        """As `HasNextToken`: logits `(B, levels)`, and the cache."""

    def examples(self, tokens: Tensor) -> Tensor:
        """Tokens `(n, dims)`, in the order in which they are drawn, as examples `(n, *shape)`."""
        dtype = torch.int64 if self.space.kind == "tokens" else torch.get_default_dtype()
        return tokens.view(-1, *self.space.shape).to(dtype)

    def tokens(self, x: Tensor) -> Tensor:
        """The inverse of `examples`: `(n, *shape)` to `(n, dims)`."""
        return x.flatten(1).long()

    def trajectory(
        self,
        n: int,
        y: Tensor | None = None,
        *,
        generator: torch.Generator,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        repetition: float = 1.0,
    ) -> Iterator[Tensor]:
        """All values of an example `(n, *shape)`, one more in each state; settings as in `NextToken`."""
        states = NextToken(temperature, top_k, top_p, repetition)(
            self, n, self.space.dims, y, end=self.space.end, device=self.device, generator=generator
        )
        for tokens in states:
            yield self.examples(tokens)
