"""Less memory for more time: the inside of a network's blocks is not kept for the gradient, but computed once more.

A module says that it is such a block by `block: ClassVar[bool] = True`: it reads and returns tensors, changes no
buffer, and stands beside others of its kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from pangen.errors import PangenError


def blocks(model: nn.Module) -> Iterator[nn.Module]:
    """The blocks of a model, in their order."""
    return (module for module in model.modules() if getattr(type(module), "block", False))


def recompute(model: nn.Module) -> None:
    """Let each block of a model keep for its gradient only what it reads, while the model is in training mode.

    Losses and gradients stay what they are, dropout included. A copy of the model does the same on its own. Raises
    `PangenError` where there are no blocks.
    """
    found = list(blocks(model))
    if not found:
        raise PangenError(
            f"{type(model).__name__} has no blocks whose inside could be computed again; leave out training.recompute."
        )
    for block in found:
        block.forward = partial(
            _forward, block
        )  # what a copy copies with it, as it does not a function's variables


def _forward(block: nn.Module, *args: Any, **kwargs: Any) -> Any:
    plain = type(block).forward
    # the transforms of torch.func know no saved tensors but their own
    if not (block.training and torch.is_grad_enabled()) or torch._C._are_functorch_transforms_active():
        return plain(block, *args, **kwargs)
    return checkpoint(partial(plain, block), *args, use_reentrant=False, **kwargs)
