"""Products of rounded factors: faster where a processor has them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

Precision = Literal["full", "bfloat16", "float16"]
"""Of the factors of large products in training."""
Rounding = Literal["auto", "full", "bfloat16", "float16"]
"""The same, or what was measured to be faster and no worse."""


def factors(precision: Rounding) -> torch.dtype | None:
    """What factors are rounded to; None: they are not, or, under auto, the device has its say."""
    return {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(precision)


def rounded(like: Tensor, rough: torch.dtype | None) -> AbstractContextManager[None]:
    """Around layers alone: sums over dimensions stay exact."""
    kind = like.device.type
    if rough is None and not torch.is_autocast_enabled(kind):
        return nullcontext()  # to enter what changes nothing takes as long as a small layer
    return torch.autocast(kind, rough or torch.bfloat16, enabled=rough is not None)


def needs_scale(model: nn.Module) -> bool:
    """Whether gradients go back through float16, where small ones vanish; modules name what they round to `rough`."""
    return any(_half(module) for module in model.modules())


def exactly(model: nn.Module) -> None:
    """Let a model multiply in full where its gradients would need a scale."""
    for module in model.modules():
        if _half(module):
            module.rough = None  # type: ignore[assignment]  # it is no parameter


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for products of such factors, without which they are slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def _half(module: nn.Module) -> bool:
    return getattr(module, "rough", None) is torch.float16
