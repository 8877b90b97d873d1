"""A coupling's networks: what they see and a context to k parameters for each number, examples last."""

from __future__ import annotations

from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from pangen.networks.conv import ResNet
from pangen.networks.mlp import MLP


class FlatNet(nn.Module):
    """Vectors `(B, inputs)` and a context to `(k, outputs, B)`, zero at first.

    ReLU, because densities with sharp ridges need scales that bend sharply.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        k: int,
        width: int,
        depth: int = 2,
        *,
        context: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.k = k
        in_place = partial(nn.ReLU, inplace=True)  # of a sum that nobody else reads
        self.net = MLP(
            inputs + context, k * outputs, width, depth, activation=in_place, dropout=dropout, zero=True
        )

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        *hidden, head = self.net
        h = x if context is None else torch.cat([x, context], 1)
        for layer in hidden:
            h = layer(h)
        head = cast("nn.Linear", head)
        return parameters_first(h, head.weight, head.bias, self.k)


def parameters_first(h: Tensor, weight: Tensor, bias: Tensor, k: int) -> Tensor:
    """A linear layer of hidden units `(B, width)` whose output is `(k, D, B)`."""
    return torch.addmm(bias[:, None], weight, h.T).view(k, -1, len(h))


class ConvNet(nn.Module):
    """Images `(B, C, H, W)` and a context to `(k, C, H, W, B)`, zero at first."""

    def __init__(
        self, shape: tuple[int, ...], k: int, width: int, depth: int = 2, *, context: int = 0
    ) -> None:
        super().__init__()
        self.k = k
        self.net = ResNet(shape[0], k * shape[0], width, depth, condition=context, zero=True)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return images_last(self.net(x, context), self.k)


def images_last(h: Tensor, k: int) -> Tensor:
    """Convolutions' output `(B, k C, H, W)` as parameters `(k, C, H, W, B)`."""
    return h.unflatten(1, (k, -1)).movedim(0, -1)
