"""Which noise an example is mixed with in training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Coupling = Callable[[Tensor, Tensor | None], Tensor]
"""Examples and their labels to standard normal noise for each."""


def independent(x0: Tensor, y: Tensor | None) -> Tensor:
    """Noise that knows nothing of the examples."""
    return torch.randn_like(x0)


def optimal(x0: Tensor, y: Tensor | None) -> Tensor:
    """Noise dealt to the examples so that the squared distances add up to the least.

    Tong et al. 2024, Algorithm 3, with an exact plan. Noise is dealt among examples of the same label,
    or it would tell of labels.
    """
    from scipy.optimize import linear_sum_assignment

    e = torch.randn_like(x0)
    cost = torch.cdist(x0.flatten(1), e.flatten(1)).square()
    if y is not None:
        y = y.view(len(y), -1)
        cost = torch.where((y[:, None] == y).all(2), cost, cost.sum() + 1)
    _, chosen = linear_sum_assignment(cost.cpu().numpy())
    return e[torch.from_numpy(chosen).to(e.device)]
