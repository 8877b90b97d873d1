"""Products of rounded factors: faster where a processor has them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

Precision = Literal["full", "bfloat16", "float16"]
"""Of the factors of large products in training."""
Rounding = Literal["auto", "full", "bfloat16", "float16"]
"""The same, or what was measured to be faster and no worse."""
FACTORS = {"full": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""What each rounds them to."""
AS_IT_IS = nullcontext()


class Layers(Protocol):
    """A module that names the `precision` of its products."""

    training: bool

    @property
    def precision(self) -> Rounding: ...


def rounded(layers: Layers, like: Tensor) -> AbstractContextManager[None]:
    """Around layers alone, as sums over dimensions stay exact: in training their factors are rounded."""
    precision = layers.precision if layers.training else "full"
    if precision == "auto":
        precision = "bfloat16" if multiplies_bfloat16(like.device) else "full"
    if precision == "full":
        return in_full(like)
    return torch.autocast(like.device.type, FACTORS[precision])


def in_full(like: Tensor) -> AbstractContextManager[None]:
    """Around what bears no rounding."""
    kind = like.device.type
    if torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return AS_IT_IS  # to enter what changes nothing takes as long as a small layer


def needs_scale(model: nn.Module) -> bool:
    """Whether gradients go back through float16, where small ones vanish."""
    return any(_half(module) for module in model.modules())


def exactly(model: nn.Module) -> None:
    """Let a model multiply in full where its gradients would need a scale."""
    for module in model.modules():
        if _half(module):
            module.precision = "full"  # type: ignore[assignment]  # it is no parameter


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for products of such factors, without which they are slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def _half(module: nn.Module) -> bool:
    return getattr(module, "precision", None) == "float16"
