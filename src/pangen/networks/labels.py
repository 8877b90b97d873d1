"""What conditional training does to labels."""

from __future__ import annotations

import torch
from torch import Tensor

from pangen.space import Space


def hide(y: Tensor | None, space: Space, share: float) -> Tensor | None:
    """Labels `(B,)` with a random `share` of them replaced by the null condition.

    So that one network learns p(x) beside p(x given y) (Ho and Salimans 2022, Algorithm 1).
    """
    if y is None or share == 0:
        return y
    return torch.where(torch.rand(y.shape, device=y.device) < share, space.classes, y)
