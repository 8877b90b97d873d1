"""Text from a hidden Markov chain: short enough that its entropy is a sum over all texts."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from pangen.data.known_truth.law import draw, uniform
from pangen.data.known_truth.text import TextLaw
from pangen.rng import generator as named_generator


class HiddenMarkovText(TextLaw):
    """10 characters of 4, each drawn in one of 6 hidden states that follow each other as a Markov chain.

    `transition[s, t]` = p(state t after s) and `emission[s, c]` = p(character c in state s) are
    softmaxes of Gaussian logits of standard deviation 3 and 2; the first state is drawn evenly. No
    number of last characters tells the state: the law is of no finite order.
    """

    alphabet: ClassVar[str] = "acgt"
    window: ClassVar[int] = 10
    states: ClassVar[int] = 6

    def __init__(self) -> None:
        noise = named_generator("cpu", "hidden-markov-text")
        k = len(self.alphabet)
        logits = torch.randn(self.states, self.states + k, generator=noise, dtype=torch.float64)
        self.transition = (3 * logits[:, : self.states]).softmax(1)
        self.emission = (2 * logits[:, self.states :]).softmax(1)
        self.start = torch.full((self.states,), 1 / self.states, dtype=torch.float64)

    @cached_property
    def entropy(self) -> float:
        """The sum of -p log p over all 4^10 texts."""
        joint = self.start[None]  # p(text so far, state) of every text `(texts, states)`
        for _ in range(self.window - 1):
            joint = self._grown(joint) @ self.transition
        p = self._grown(joint).sum(1)
        return float(-torch.xlogy(p, p).sum())

    def _grown(self, joint: Tensor) -> Tensor:
        """Every text with every character behind it."""
        return (joint[:, None] * self.emission.T).flatten(0, 1)

    def of_codes(self, codes: Tensor, seen: Tensor) -> Tensor:
        # the forward algorithm (Baum et al. 1970)
        state = self.start.expand(len(codes), -1)
        for at in range(self.window):
            state = (state if at == 0 else state @ self.transition) * (
                self.allowed(codes, seen, at) @ self.emission.T
            )
        return state.sum(1).log()

    def sample(self, n: int, generator: torch.Generator) -> tuple[str, ...]:
        state, codes = draw(self.start, n, generator), []
        steps, letters = (p.cumsum(1)[:, :-1] for p in (self.transition, self.emission))
        for at in range(self.window):
            if at:
                state = (steps[state] <= uniform(n, generator)[:, None]).sum(1)
            codes.append((letters[state] <= uniform(n, generator)[:, None]).sum(1))
        return self.texts(torch.stack(codes, 1))
