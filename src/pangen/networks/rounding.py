"""Products of rounded factors: faster where a processor has them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor

Precision = Literal["full", "bfloat16"]
"""Of the factors of large products in training."""
Rounding = Literal["auto", "full", "bfloat16"]
"""The same, or what was measured to be faster and no worse."""


def rounded(like: Tensor, bfloat16: bool) -> AbstractContextManager[None]:
    """Around layers alone: sums over dimensions stay exact."""
    kind = like.device.type
    if not bfloat16 and not torch.is_autocast_enabled(kind):
        return nullcontext()  # to enter what changes nothing takes as long as a small layer
    return torch.autocast(kind, torch.bfloat16, enabled=bfloat16)


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for products of such factors, without which they are slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
