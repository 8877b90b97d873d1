"""What tests of flows share: modules away from their start, noise, and autograd's log-determinant."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from pangen.space import Space, class_space

CLASSES = 3


def perturbed(module: nn.Module, scale: float = 0.3) -> nn.Module:
    """Away from the start, where couplings are the identity; a unit's input changes by about `scale`."""
    generator = torch.Generator().manual_seed(0)
    for p in module.parameters():
        inputs = p[0].numel() if p.ndim in (2, 4) else 1
        p.data += scale / math.sqrt(inputs) * torch.randn(p.shape, generator=generator)
    return module.eval()


def normal(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def slogdet(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """log|det| of the Jacobian of a map of one example, by autograd."""
    jacobian = torch.autograd.functional.jacobian(lambda v: function(v.view_as(x)).flatten(), x.flatten())
    return torch.linalg.slogdet(jacobian).logabsdet


def model(cls: type, shape: tuple[int, ...], classes: int = CLASSES, levels: int = 0, **settings):
    torch.manual_seed(0)
    space = Space("real", shape, levels, condition=class_space(classes) if classes else None)
    return perturbed(cls(space, width=16, **settings))
