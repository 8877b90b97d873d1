"""Linear layers, whose large products take the faster of a processor's two libraries.

Torch gives matrices to MKL, which does without AVX-512 on AMD's processors; oneDNN, to which torch gives convolutions,
uses it: products take half the time where 512 bits are multiplied at once.
"""

from __future__ import annotations

import re
from functools import cache, reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

WORTHWHILE = 2_000_000
"""Multiplications from which on the longer call is made up for."""
WIDE = 26
"""The family of AMD's processors (Zen 5) from which on 512 bits are multiplied at once; before it, in two halves."""


@cache
def onednn_is_faster() -> bool:
    """Whether MKL does here without instructions that are twice as fast."""
    info = Path("/proc/cpuinfo")
    used = torch.backends.cpu.get_cpu_capability() == "AVX512" and torch.backends.mkldnn.is_available()
    return used and info.exists() and is_wide(info.read_text())


def is_wide(processors: str) -> bool:
    """Whether processors that Linux describes so are AMD's and multiply 512 bits at once."""
    family = re.search(r"^cpu family\s*: (\d+)", processors, re.M)
    return "AuthenticAMD" in processors and family is not None and int(family[1]) >= WIDE


def linear(x: Tensor, W: Tensor, b: Tensor | None = None) -> Tensor:
    """x W^T + b: `x` `(..., inputs)`, `W` `(outputs, inputs)` and `b` `(outputs,)` to `(..., outputs)`."""
    plain = torch.compiler.is_compiling() or not onednn_is_faster() or torch.is_autocast_enabled("cpu")
    if plain or not x.is_cpu or not x.dtype == W.dtype == torch.float32 or x.numel() * len(W) < WORTHWHILE:
        return nn.functional.linear(x, W, b)
    return _Product.apply(x.reshape(-1, x.shape[-1]), W, b).view(*x.shape[:-1], len(W))


class Linear(nn.Linear):
    """x W^T + b."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


class _Product(torch.autograd.Function):
    """x W^T + b of matrices; its derivatives, backward and forward, are such products too, and have their own."""

    @classmethod
    def apply(cls, *args: Any) -> Tensor:
        """Torch's own reads the signature of `forward` at each call, which takes as long as a small product."""
        plain = not torch._C._are_functorch_transforms_active()
        return (super(torch.autograd.Function, cls) if plain else super()).apply(*args)  # type: ignore[attr-defined]  # its base is untyped

    @staticmethod
    def forward(x: Tensor, W: Tensor, b: Tensor | None) -> Tensor:
        # repeated rows without a copy would take a thousand times as long
        x, W = (a.contiguous() if 0 in a.stride() else a for a in (x, W))
        return torch.ops.mkldnn._linear_pointwise(x, W, b, "none", [], "")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.save_for_forward(*inputs[:2])
        ctx.set_materialize_grads(False)  # a direction that is not given is None

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, W = ctx.saved_tensors
        for_x, for_W, for_b = ctx.needs_input_grad
        return (
            linear(g, W.t()) if for_x else None,
            linear(g.t(), x.t()) if for_W else None,
            g.sum(0) if for_b else None,
        )

    @staticmethod
    def jvp(ctx: Any, dx: Tensor | None, dW: Tensor | None, db: Tensor | None) -> Tensor:
        x, W = ctx.saved_tensors
        parts = [linear(dx, W)] if dx is not None else []
        parts += [linear(x, dW)] if dW is not None else []
        parts += [db.expand(len(x), -1)] if db is not None else []
        return reduce(torch.add, parts)
