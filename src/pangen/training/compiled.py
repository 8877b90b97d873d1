"""Networks as code made for them by `torch.compile`: a step takes less time, once the compiler has taken its own.

Compiled is what the steps of a model call from outside of any network, and for the time of these calls alone. All else,
such as validation, samples and likelihoods, which have other shapes, runs the networks as they are written. Noise is
drawn as without, so that a step differs by rounding alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pangen.errors import DivergedError
from pangen.model import GenerativeModel
from pangen.space import Batch, Progress

HOW: dict[str, Any] = {"backend": "inductor", "options": {"fallback_random": True}}
"""Settings of `torch.compile`."""
CAUSES = {
    "double backward": "its loss holds a gradient, and compiled code has no gradient of one",
    "InvalidCxxCompiler": "there is no C++ compiler on this machine",
}
"""What is meant by words of the compiler."""


def called(model: GenerativeModel, batch: Batch, progress: Progress) -> list[str]:
    """Names of the networks that a step of a model calls from outside of any other; the model is left alone.

    A module without parts is a single operation, and no network.
    """
    model, found, depth = copy.deepcopy(model), dict[str, None](), 0
    names = {module: name for name, module in model.named_modules() if name}

    def enter(module: nn.Module, _: Any) -> None:
        nonlocal depth
        if not depth and next(module.children(), None) is not None:
            found[names[module]] = None
        depth += 1

    def leave(module: nn.Module, *_: Any) -> None:
        nonlocal depth
        depth -= 1

    for module in names:
        module.register_forward_pre_hook(enter)
        module.register_forward_hook(leave, always_call=True)
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), suppress(DivergedError):  # the training itself will say so
        for _ in model.steps(batch, progress):
            pass
    return list(found)


class Compiled:
    """Networks of a model, by their names, whose `forward` is compiled code while this is entered."""

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        self.networks = [model.get_submodule(name) for name in names]
        self.plain = [{k: v for k, v in vars(network).items() if k == "forward"} for network in self.networks]
        self.quick = [
            partial(_forward, network.forward, torch.compile(network.forward, **HOW))
            for network in self.networks
        ]

    def __enter__(self) -> None:
        for network, forward in zip(self.networks, self.quick, strict=True):
            vars(network)["forward"] = forward

    def __exit__(self, *_: object) -> None:
        for network, own in zip(self.networks, self.plain, strict=True):
            del vars(network)["forward"]
            vars(network).update(own)


def _forward(plain: Callable[..., Any], quick: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """By compiled code, unless somebody asks for the gradient in what is read, of which compiled code has no other."""
    asked = any(isinstance(x, Tensor) and _is_asked(x) for x in (*args, *kwargs.values()))
    run = plain if asked or torch._C._are_functorch_transforms_active() else quick
    return run(*args, **kwargs)


def _is_asked(x: Tensor) -> bool:
    return x.is_leaf and x.requires_grad and not isinstance(x, nn.Parameter)


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
