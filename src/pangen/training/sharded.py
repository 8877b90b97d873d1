"""A model spread over the processes, by PyTorch's fully sharded data parallelism (FSDP2).

Each process holds a part of every weight, of its gradient, of its moments and averages. The weights of a block come
together while it is computed, forward and back, and those outside of blocks for the whole of a step.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from pangen import parallel
from pangen.errors import PangenError
from pangen.model import GenerativeModel
from pangen.training.recompute import blocks

NEWEST = "set_force_sum_reduction_for_comms"
"""What was last added to FSDP2 of all that is needed here, with torch 2.9."""


def check_sharded(model: GenerativeModel, *, resumed: bool) -> None:
    """Raise where a model cannot be spread, or has nowhere to be spread to."""
    own = (type(model).steps, type(model).after_step, type(model).players)
    if own != (GenerativeModel.steps, GenerativeModel.after_step, GenerativeModel.players):
        raise PangenError(
            f"training.shard spreads models that learn from one loss alone, and {type(model).__name__} does more in "
            "a step; leave it out."
        )
    if not parallel.together() and not resumed:
        raise PangenError(
            "training.shard spreads a model over several processes, and this is the only one; put `torchrun "
            "--nproc-per-node 2` before the command, or leave it out."
        )
    if parallel.together():
        from torch.distributed.fsdp import FSDPModule

        if not hasattr(FSDPModule, NEWEST):
            raise PangenError(f"training.shard needs torch 2.9 or later, and this is {torch.__version__}.")


def spread(model: GenerativeModel) -> None:
    """Leave of a whole model, alike in all processes, to each its part.

    Numbers alone, and tensors that are not contiguous, stay whole.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

    # what a block returns is not changed in place by those who read it
    warnings.filterwarnings("ignore", "FSDP2-wrapped module", UserWarning)
    mesh = init_device_mesh(model.device.type, (parallel.size(),))
    apart = {w for w in model.parameters() if not w.ndim or not w.is_contiguous()}
    for module in (*blocks(model), model):
        fully_shard(module, mesh=mesh, ignored_params=apart)
    register_fsdp_forward_method(model, "loss")
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)  # the pieces' losses have their shares
            module.set_force_sum_reduction_for_comms(True)


def is_spread(x: Tensor) -> bool:
    """Whether this process holds a part of it only."""
    return hasattr(x, "full_tensor")


def local(x: Tensor) -> Tensor:
    """What of it this process holds, in place."""
    return x if type(x) is Tensor else x.to_local() if hasattr(x, "to_local") else x


def whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each of them with all its parts, in all processes: they ask together."""
    with parallel.reached():
        return {k: x.full_tensor() if is_spread(x) else x for k, x in tensors.items()}  # type: ignore[attr-defined]  # a DTensor has it


def clip(weights: Sequence[nn.Parameter], most: float) -> float:
    """Bring the norm of all gradients down to `most`, if it is larger; returns what it was, of all parts together."""
    if not any(map(is_spread, weights)):
        return float(nn.utils.clip_grad_norm_(weights, most, foreach=True))
    parts: dict[bool, list[Tensor]] = {True: [], False: []}
    for w in weights:
        if w.grad is not None:
            parts[is_spread(w)].append(local(w.grad))
    squares = {known: _squares(gradients) for known, gradients in parts.items()}
    parallel.add_up([squares[True]])
    norm = (squares[True] + squares[False]).sqrt()
    for gradients in filter(None, parts.values()):
        torch._foreach_mul_(gradients, (most / (norm + 1e-6)).clamp(max=1.0))
    return float(norm)


def _squares(gradients: list[Tensor]) -> Tensor:
    """The sum of all squares."""
    if not gradients:
        return torch.zeros(())
    return torch.stack(torch._foreach_norm(gradients)).square().sum()
