"""Filling tokens in, by a model that predicts those that are masked from those that are not.

Its conditionals need not belong to any one joint distribution: samples are approximate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pangen.capabilities import HasMasked
from pangen.errors import PangenError
from pangen.samplers.tokens import inverse_cdf


def drawn(logits: Tensor, u: Tensor, temperature: float) -> Tensor:
    """A token `(...)` for logits `(..., K)` and uniform numbers `(...)`; at temperature 0 the likeliest."""
    return logits.argmax(-1) if temperature == 0 else inverse_cdf(logits / temperature, u)


def _check(temperature: float, rounds: int, name: str) -> None:
    if temperature < 0:
        raise PangenError(
            f"a temperature of {temperature} is negative; 0 takes the likeliest, 1 is the model's."
        )
    if rounds < 1:
        raise PangenError(f"{name} = {rounds} fills nothing in; give at least 1.")


@dataclass(frozen=True)
class MaskPredict:
    """All missing tokens at once, then the least certain of them again, fewer each time (Ghazvininejad et al. 2019).

    rounds: T; in round t the N (T - t) / T tokens drawn with the least probability are masked again (Section 3.2).
    temperature: logits are divided by it; 0 takes the likeliest token.
    """

    rounds: int = 10
    temperature: float = 1.0

    def __post_init__(self) -> None:
        _check(self.temperature, self.rounds, "rounds")

    def __call__(
        self, model: HasMasked, tokens: Tensor, missing: Tensor, *, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield `(n, L)` after each round; `missing` `(n, L)` says where tokens are to be filled in."""
        n, L = tokens.shape
        u = torch.rand(self.rounds, n, L, generator=generator, device=tokens.device)
        masked, certain = missing, torch.zeros(n, L, device=tokens.device)
        for t in range(self.rounds):
            log_p = model.masked_logits(tokens, masked).log_softmax(-1)
            found = drawn(log_p, u[t], self.temperature)
            tokens = torch.where(masked, found, tokens)
            certain = torch.where(masked, log_p.gather(-1, found[..., None])[..., 0], certain)
            yield tokens
            left = missing.sum(1) * (self.rounds - t - 1) // self.rounds
            rank = certain.masked_fill(~missing, torch.inf).argsort(dim=1, stable=True).argsort(1)
            masked = missing & (rank < left[:, None])


@dataclass(frozen=True)
class Gibbs:
    """Each missing token drawn anew given all others, in an order by chance, sweep after sweep.

    With conditionals of one joint distribution this would sample it; a network's are nearly so. The first
    sweep fills the tokens in, each given those that are there.
    """

    sweeps: int = 10
    temperature: float = 1.0

    def __post_init__(self) -> None:
        _check(self.temperature, self.sweeps, "sweeps")

    def __call__(
        self, model: HasMasked, tokens: Tensor, missing: Tensor, *, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield `(n, L)` after each sweep; `missing` `(n, L)` says where tokens are to be drawn."""
        n, L = tokens.shape
        rows, absent, most = torch.arange(n, device=tokens.device), missing, int(missing.sum(1).max())
        for _ in range(self.sweeps):
            order, u = torch.rand(2, n, L, generator=generator, device=tokens.device)
            order = order.masked_fill(~missing, torch.inf).argsort(dim=1, stable=True)
            for t in range(most):
                place = order[:, t]
                turn = missing[rows, place]  # a row with fewer missing tokens rests
                one = torch.zeros_like(missing)
                one[rows, place] = turn
                log_p = model.masked_logits(tokens, absent | one)[rows, place]
                found = drawn(log_p, u[rows, place], self.temperature)
                tokens = tokens.clone()
                tokens[rows, place] = torch.where(turn, found, tokens[rows, place])
                absent = absent & ~one
            yield tokens
