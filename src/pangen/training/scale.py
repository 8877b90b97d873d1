"""Losses are made larger before they go back through float16, and gradients smaller again before anybody sees them.

float16 knows no number between 0 and 6e-8, and none above 65504: small gradients vanish on their way, and large ones
overflow (Micikevicius et al. 2018, Section 3.2). Which scale lies between the two is found on the way.

Not torch's own scaler: its unscaling takes no spread weights beside whole ones, and a fused SGD that is told to skip its
first step keeps momentum that nobody has written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from pangen.errors import DivergedError, PangenError
from pangen.settings import Positive
from pangen.training.sharded import local

LONG = 2000
"""Steps taken at one scale, after which a larger one is tried."""


@dataclass
class Scale:
    """That of one player: a power of two, by which nothing is rounded."""

    value: Positive = 2.0**16
    since: int = 0
    """Steps taken at this value."""
    taken: int = 0
    skipped: int = 0
    """Steps whose gradients overflowed, and which no weight has seen."""

    def undo(self, weights: Sequence[nn.Parameter]) -> None:
        """Bring gradients back to their own size, in place."""
        gradients = [local(w.grad) for w in weights if w.grad is not None]
        if gradients:
            torch._foreach_mul_(gradients, 1 / self.value)

    def grow(self) -> None:
        """After a step that was taken."""
        self.taken, self.since = self.taken + 1, self.since + 1
        if self.since == LONG:
            self.value, self.since = 2 * self.value, 0

    def shrink(self, player: str, step: int, last: int) -> None:
        """After a step that was skipped; raises where no smaller scale can help, or, after the `last` one, none was found."""
        self.value, self.since, self.skipped = self.value / 2, 0, self.skipped + 1
        if self.value < 1:
            raise DivergedError(
                f"the gradient of the {player} overflowed float16 at any scale at step {step}"
            )
        if step == last and not self.taken:
            raise PangenError(
                f"the gradient of the {player} overflowed float16 in every step, and no weight was moved: train longer, so "
                "that a scale is found, or set model.precision to bfloat16 or full."
            )
