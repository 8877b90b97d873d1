"""Products of rounded factors: faster where a processor has them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Precision = Literal["full", "bfloat16"]
"""Of the factors of large products in training."""


def rounded(like: Tensor, bfloat16: bool) -> torch.autocast:
    """Around layers alone: sums over dimensions stay exact."""
    return torch.autocast(like.device.type, torch.bfloat16, enabled=bfloat16)
