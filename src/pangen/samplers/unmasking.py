"""Drawing tokens that are masked, by a model that predicts them from those that are not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from pangen.capabilities import HasMasked
from pangen.errors import PangenError
from pangen.samplers.denoise import at_least_one
from pangen.samplers.mask_predict import drawn

Kept = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Time in [0, 1] to alpha, the share of the tokens that is not masked then, and to -d alpha / dt."""
Order = Literal["random", "surest"]


def linear(t: Tensor) -> tuple[Tensor, Tensor]:
    """alpha = 1 - t, and its slope, elementwise (Sahoo et al. 2024; Shi et al. 2024, Table 1)."""
    return 1 - t, torch.ones_like(t)


def cosine(t: Tensor) -> tuple[Tensor, Tensor]:
    """alpha = 1 - cos(pi (1 - t) / 2), and its slope, elementwise (Shi et al. 2024, Table 1)."""
    angle = math.pi / 2 * (1 - t)
    return 1 - angle.cos(), math.pi / 2 * angle.sin()


@dataclass(frozen=True)
class Unmask:
    """Absorbing diffusion backwards: in each step some tokens are drawn, all at once, and then stay.

    When a token is drawn is independent of what it is (Zheng et al. 2025): its time is drawn beforehand, and
    falls into a step with the probability (alpha_s - alpha_t) / (1 - alpha_t) that the step has to unmask it
    (Sahoo et al. 2024, Eq. 6). With as many steps as tokens there is one in each, which is exact.

    steps: that time is cut into.
    kept: the share that is not masked at each time.
    order: random, or as many tokens, but those whose draws are most probable.
    temperature: logits are divided by it; 0 takes the likeliest token.
    """

    steps: int
    kept: Kept = linear
    order: Order = "random"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        at_least_one(self.steps)
        if self.order not in ("random", "surest"):
            raise PangenError(f"an order '{self.order}' is unknown; take random or surest.")
        if self.temperature < 0:
            raise PangenError(
                f"a temperature of {self.temperature} is negative; 0 takes the likeliest, 1 is the model's."
            )

    def __call__(
        self, model: HasMasked, tokens: Tensor, missing: Tensor, *, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield `(n, L)` after each step; `missing` `(n, L)` says where tokens are to be drawn."""
        n, L = tokens.shape
        time = torch.rand(n, L, generator=generator, device=tokens.device)
        masked, steps = missing, min(self.steps, L)
        for step in range(1, steps + 1):
            u = torch.rand(n, L, generator=generator, device=tokens.device)
            log_p = model.masked_logits(tokens, masked).log_softmax(-1)
            found = drawn(log_p, u, self.temperature)
            alpha, _ = self.kept(time.new_tensor(1 - step / steps))
            due = (missing & (time < alpha)).sum(1) if self.steps < L else step
            score = time if self.order == "random" else -log_p.gather(-1, found[..., None])[..., 0]
            rank = score.masked_fill(~masked, torch.inf).argsort(dim=1, stable=True).argsort(1)
            now = masked & (rank < (due - (missing & ~masked).sum(1))[:, None])
            tokens, masked = torch.where(now, found, tokens), masked & ~now
            yield tokens


class Conditional(Protocol):
    """Predicts tokens from those around them and a condition: `HasMasked`, and more."""

    def masked_logits(self, tokens: Tensor, masked: Tensor, y: Tensor | None) -> Tensor: ...


@dataclass(frozen=True)
class Given:
    """A model under a condition, as samplers of masked tokens ask it."""

    model: Conditional
    y: Tensor | None

    def masked_logits(self, tokens: Tensor, masked: Tensor) -> Tensor:
        return self.model.masked_logits(tokens, masked, self.y)
