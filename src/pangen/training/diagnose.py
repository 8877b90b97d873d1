"""Which layer broke: the step that failed, run again under watch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from pangen.errors import DivergedError
from pangen.model import GenerativeModel
from pangen.space import Batch, Progress


class _Found(Exception):  # noqa: N818 - ends the watched step, and is no error
    pass


def first_not_finite(model: GenerativeModel, batch: Batch, progress: Progress) -> str:
    """Where a number that is not finite first appears when the step is run again, in words.

    In the weights; in what a layer puts out; in the loss; or, on the way back from it, in a gradient. Empty
    where the model itself has stopped.
    """
    for name, parameter in model.named_parameters():
        if not _finite(parameter):
            return f"in the weights {name}"
    names = {module: name for name, module in model.named_modules() if name}

    def watch(module: nn.Module, _: Any, output: Any) -> None:
        if not all(map(_finite, _tensors(output))):
            raise _Found(f"in what the layer {names[module]} ({type(module).__name__}) puts out")

    handles = [module.register_forward_hook(watch) for module in names]
    try:
        players = model.players()
        for player, loss in model.steps(batch, progress):
            if not _finite(loss.total):
                return f"in the loss of the {player} itself"
            gradients = torch.autograd.grad(loss.total, players[player], allow_unused=True)
            for parameter, gradient in reversed(list(zip(players[player], gradients, strict=True))):
                if gradient is not None and not _finite(gradient):
                    name = next(n for n, p in model.named_parameters() if p is parameter)
                    return f"in the gradient of {name}"
    except _Found as found:
        return str(found)
    except DivergedError:  # the model saw it itself, while all was finite
        return ""
    finally:
        for handle in handles:
            handle.remove()
    return "in the norm of all gradients together, each of which is finite"


def _finite(x: Tensor) -> bool:
    return bool(torch.isfinite(x).all())


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, list | tuple):
        for part in output:
            yield from _tensors(part)
