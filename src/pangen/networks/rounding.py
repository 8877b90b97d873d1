"""Products of rounded factors: faster where a processor has them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Precision = Literal["full", "bfloat16"]
"""Of the factors of large products in training."""
Rounding = Literal["auto", "full", "bfloat16"]
"""The same, or what was measured to be faster and no worse."""


def rounded(like: Tensor, bfloat16: bool) -> torch.autocast:
    """Around layers alone: sums over dimensions stay exact."""
    return torch.autocast(like.device.type, torch.bfloat16, enabled=bfloat16)


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for products of such factors, without which they are slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
