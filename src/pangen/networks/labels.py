"""What conditional models do with conditions."""

from __future__ import annotations

import torch
from torch import Tensor

from pangen.space import Space


def hide(y: Tensor | None, space: Space, share: float) -> Tensor | None:
    """Conditions `(B, *shape)`, a random `share` of them replaced by the null condition.

    So that one network learns p(x) beside p(x given y) (Ho and Salimans 2022, Algorithm 1).
    """
    if y is None or share == 0:
        return y
    hidden = torch.rand(len(y), device=y.device) < share
    null = space.no_condition(1, y.device)
    return y if null is None else torch.where(hidden.view(-1, *[1] * (y.dim() - 1)), null, y)


def of_class(scores: Tensor, y: Tensor | None) -> Tensor:
    """Of scores `(B, classes)` each row's own `(B,)`, or log sum exp of them where y is None or null."""
    together = scores.logsumexp(1, keepdim=True)
    return together[:, 0] if y is None else torch.cat([scores, together], 1).gather(1, y[:, None])[:, 0]
