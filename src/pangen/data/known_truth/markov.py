"""Text from a Markov chain: what a perfect language model could reach is known to the last digit."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from pangen.data.known_truth.law import draw, uniform
from pangen.data.known_truth.text import TextLaw
from pangen.rng import generator as named_generator


class MarkovText(TextLaw):
    """Windows of 64 characters from a stationary chain of second order over 8 characters.

    `transition[a, b, c]` = p(c after a, b), a softmax of Gaussian logits of standard deviation 2,
    always the same; `stationary[a, b]` is the law of two neighbours, from which a window starts.
    Entropy = H(stationary) + 62 sum over a, b of stationary[a, b] H(transition[a, b]).
    """

    alphabet: ClassVar[str] = " aehinst"
    window: ClassVar[int] = 64

    def __init__(self) -> None:
        k = len(self.alphabet)
        logits = torch.randn(
            k, k, k, generator=named_generator("cpu", "markov-text", "transition"), dtype=torch.float64
        )
        self.transition = (2 * logits).softmax(2)
        # the law of pairs q solves q[b, c] = sum_a q[a, b] p(c after a, b), and sums to 1
        step = torch.zeros(k, k, k, k, dtype=torch.float64)
        for b in range(k):
            step[:, b, b, :] = self.transition[:, b]
        flow = step.view(k * k, k * k).T - torch.eye(k * k, dtype=torch.float64)
        flow[-1] = 1  # one of the equations follows from the others
        right = torch.zeros(k * k, dtype=torch.float64)
        right[-1] = 1
        self.stationary = torch.linalg.solve(flow, right).view(k, k)

    @property
    def entropy(self) -> float:
        start = -(self.stationary * self.stationary.log()).sum()
        rate = -(self.stationary[..., None] * self.transition * self.transition.log()).sum()
        return float(start + (self.window - 2) * rate)

    def of_codes(self, codes: Tensor, seen: Tensor) -> Tensor:
        pair = self.stationary.expand(len(codes), -1, -1)
        allowed = [self.allowed(codes, seen, at) for at in range(self.window)]
        pair = pair * allowed[0][:, :, None] * allowed[1][:, None, :]
        found = torch.zeros(len(codes), dtype=torch.float64)
        for now in allowed[2:]:
            total = pair.sum((1, 2), keepdim=True)
            found += total.flatten().log()
            pair = torch.einsum("nab,abc->nbc", pair / total, self.transition) * now[:, None, :]
        return found + pair.sum((1, 2)).log()

    def sample(self, n: int, generator: torch.Generator) -> tuple[str, ...]:
        k = len(self.alphabet)
        pair = draw(self.stationary.flatten(), n, generator)
        codes = [pair // k, pair % k]
        cumulative = self.transition.cumsum(2)[..., :-1]  # the last is 1, whatever rounding says
        for _ in range(self.window - 2):
            below = cumulative[codes[-2], codes[-1]] <= uniform(n, generator)[:, None]
            codes.append(below.sum(1))
        return self.texts(torch.stack(codes, 1))
