"""Networks as code made for them by `torch.compile`: a step takes less time, once the compiler has taken its own.

Compiled is what the steps of a model call from outside of any network, and for the time of these calls alone. All else,
such as validation, samples and likelihoods, which have other shapes, runs the networks as they are written. Noise is
drawn as without, so that a step differs by rounding alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Set
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pangen.errors import DivergedError
from pangen.model import GenerativeModel
from pangen.networks.rounding import multiplies_bfloat16
from pangen.space import Batch, Progress

HOW: dict[str, Any] = {"backend": "inductor", "options": {"fallback_random": True}}
"""Settings of `torch.compile`."""
ROOM = 64
"""Kinds of calls of one function for which code may be kept: with gradients and without, of several networks."""
CAUSES = {
    "double backward": "its loss holds a gradient, and compiled code has no gradient of one",
    "InvalidCxxCompiler": "there is no C++ compiler on this machine",
}
"""What is meant by words of the compiler."""

Shapes = tuple[torch.Size, ...]
"""Of the tensors that a call is given."""
Calls = Mapping[str, Set[Shapes]]
"""Networks of a model by their names, and the shapes that they are called with."""


def called(model: GenerativeModel, batches: Iterable[Batch], progress: Progress) -> Calls:
    """What a step of a model calls from outside of any other network, on any of the batches; the model is left alone.

    A module without parts is a single operation, and no network.
    """
    model, depth = copy.deepcopy(model), 0
    names = {module: name for name, module in model.named_modules() if name}
    found: dict[str, set[Shapes]] = {}

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal depth
        if not depth and next(module.children(), None) is not None:
            found.setdefault(names[module], set()).add(_shapes(_tensors(args, kwargs)))
        depth += 1

    def leave(module: nn.Module, *_: Any) -> None:
        nonlocal depth
        depth -= 1

    for module in names:
        module.register_forward_pre_hook(enter, with_kwargs=True)
        module.register_forward_hook(leave, always_call=True)
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), suppress(DivergedError):  # the training itself will say so
        for batch in batches:
            for _ in model.steps(batch, progress):
                pass
    return found


class Compiled:
    """Networks of a model whose `forward` is compiled code while this is entered.

    Code is made for the shapes of `calls` alone, each for itself: which it is depends on no call before, so that a training
    that was interrupted goes on with the same.
    """

    def __init__(self, model: nn.Module, calls: Calls) -> None:
        import torch._dynamo

        torch._dynamo.reset()  # what others have compiled leaves no traces
        # what asks the processor is not traced: else code that calls it would be made anew at each call
        torch.compiler.assume_constant_result(multiplies_bfloat16)
        self.room = torch._dynamo.config.patch(recompile_limit=ROOM)
        self.networks = [model.get_submodule(name) for name in calls]
        self.plain = [{k: v for k, v in vars(network).items() if k == "forward"} for network in self.networks]
        self.quick = [
            partial(_forward, network.forward, torch.compile(network.forward, dynamic=False, **HOW), shapes)
            for network, shapes in zip(self.networks, calls.values(), strict=True)
        ]

    def __enter__(self) -> None:
        self.room.__enter__()
        for network, forward in zip(self.networks, self.quick, strict=True):
            vars(network)["forward"] = forward

    def __exit__(self, *error: Any) -> None:
        for network, own in zip(self.networks, self.plain, strict=True):
            del vars(network)["forward"]
            vars(network).update(own)
        self.room.__exit__(*error)


def _forward(
    plain: Callable[..., Any], quick: Callable[..., Any], shapes: Set[Shapes], *args: Any, **kwargs: Any
) -> Any:
    """By compiled code, unless somebody asks for the gradient in what is read, of which compiled code has no other."""
    tensors = _tensors(args, kwargs)
    asked = any(x.requires_grad and x.is_leaf and not isinstance(x, nn.Parameter) for x in tensors)
    known = not asked and _shapes(tensors) in shapes and not torch._C._are_functorch_transforms_active()
    return (quick if known else plain)(*args, **kwargs)


def _tensors(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
    return [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]


def _shapes(tensors: Iterable[Tensor]) -> Shapes:
    return tuple(x.shape for x in tensors)


def refusal(error: BaseException) -> str:
    """Why the compiler gave up, in words; empty where the error is not its own."""
    from torch._dynamo.exc import TorchDynamoException

    told = str(error)
    for words, meaning in CAUSES.items():
        if words in told:
            return meaning
    if not isinstance(error, TorchDynamoException):
        return ""
    cause = getattr(error, "inner_exception", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return (lines or [type(cause).__name__])[0].rstrip(".:")
