"""Multilayer perceptrons, plain and residual."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import ClassVar, TypeVar, cast

import torch
from torch import Tensor, nn

from pangen.networks.linear import Linear

Layer = TypeVar("Layer", bound=nn.Module)


class MLP(nn.Sequential):
    """Linear layers with an activation between: `(..., inputs)` to `(..., outputs)`.

    Args:
        depth: number of hidden layers.
        activation: SiLU is smooth; ReLU bends sharply, as functions of few inputs may have to.
        dropout: applied to hidden units.
        zero: start the last layer at zero, so that the output is 0 at first.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        width: int,
        depth: int = 2,
        *,
        activation: Callable[[], nn.Module] = nn.SiLU,
        dropout: float = 0.0,
        zero: bool = False,
    ) -> None:
        layers: list[nn.Module] = []
        for a, b in pairwise([inputs] + [width] * depth):
            layers += [Linear(a, b), activation()] + ([nn.Dropout(dropout)] if dropout else [])
        head = Linear(width if depth else inputs, outputs)
        super().__init__(*layers, zeroed(head) if zero else head)

    @property
    def head(self) -> Linear:
        """The last layer."""
        return cast("Linear", self[-1])


class ConditionedMLP(MLP):
    """An MLP with a condition `(B, width)` added to what its first layer puts out.

    For the embedding of a label that is what a one-hot label among the inputs would do.
    """

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        first, *others = self
        h = first(x) if condition is None else first(x) + condition
        for layer in others:
            h = layer(h)
        return h


class ResidualMLP(nn.Module):
    """Pre-norm residual blocks of two layers, each told the condition (He et al. 2016; Ba et al. 2016).

    `(B, inputs)` and a condition `(B, condition)` to `(B, outputs)`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        width: int,
        depth: int = 2,
        *,
        condition: int = 0,
        dropout: float = 0.0,
        zero: bool = False,
    ) -> None:
        super().__init__()
        self.stem = Linear(inputs, width)
        self.blocks = nn.ModuleList(_Block(width, condition, dropout) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), Linear(width, outputs)
        if zero:
            zeroed(self.head)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        h = self.stem(x)
        for block in self.blocks:
            h = block(h, condition)
        return self.head(torch.nn.functional.silu(self.norm(h)))


class _Block(nn.Module):
    block: ClassVar[bool] = True

    def __init__(self, width: int, condition: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.a, self.b = nn.LayerNorm(width), Linear(width, width), Linear(width, width)
        self.condition = Linear(condition, width) if condition else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, condition: Tensor | None) -> Tensor:
        u = self.a(torch.nn.functional.silu(self.norm(h)))
        if self.condition is not None:
            u = u + self.condition(condition)
        return h + self.b(self.dropout(torch.nn.functional.silu(u)))


def zeroed(layer: Layer) -> Layer:
    """The layer with its parameters set to zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
