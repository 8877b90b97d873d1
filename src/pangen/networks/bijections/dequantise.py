"""From grey levels to the real line and back, with noise that is uniform or learnt."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from pangen.networks.bijections.couplings import MaskedCoupling
from pangen.networks.bijections.elementwise import ScaleShift
from pangen.networks.bijections.masks import mask_pairs
from pangen.networks.bijections.nets import images_last
from pangen.networks.bijections.transforms import Compose, Logit, Sigmoid
from pangen.networks.conv import ResNet
from pangen.networks.mlp import MLP
from pangen.networks.roles import convolutional
from pangen.space import Space

Dequantisation = Literal["uniform", "variational"]


class Dequantiser(nn.Module):
    """v = logit of (level + u) / levels, u ~ q(u given x): log p(x) >= E_q[log p(v) + volume].

    The volume is log|dv/du| - log q(u given x) (Ho et al. 2019, Section 3.1). q is uniform, or a flow
    of uniform noise that is told x and starts as the identity.

    Args:
        space: a grid.
        kind: what q is.
        width: units of q's perceptrons; its convolutions have a 32nd as many channels.
        alpha: how far the logit keeps from the ends of the unit interval.
        pairs: pairs of couplings of q.
    """

    def __init__(
        self, space: Space, kind: Dequantisation, width: int, *, alpha: float = 0.05, pairs: int = 1
    ) -> None:
        super().__init__()
        self.levels, self.logit = space.levels, Logit(alpha)
        self.q: Compose | None = None
        if kind == "variational":
            masks = [mask for pair in mask_pairs(space.shape, pairs) for mask in pair]
            moves = (MaskedCoupling(ScaleShift(), _Beside(space, 2, width), mask) for mask in masks)
            self.q = Compose(Logit(), *moves, Sigmoid())

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Real v `(B, *shape)` and the volume `(B,)` of noise drawn for x, whose dtype is the model's."""
        eps = torch.finfo(torch.float32).eps
        u = torch.rand(x.shape, generator=generator, device=x.device).to(x.dtype).clamp(eps, 1 - eps)
        minus_log_q = x.new_zeros(len(x))
        if self.q is not None:
            u, minus_log_q = self.q(u, x)
        v, log_det = self.logit((self._level(x) + u) / self.levels)
        return v, log_det - x[0].numel() * math.log(self.levels) + minus_log_q

    def middle(self, x: Tensor) -> Tensor:
        """The v of the middle of each level's cell."""
        return self.logit((self._level(x) + 0.5) / self.levels)[0]

    def inverse(self, v: Tensor) -> Tensor:
        """x on the grid, whose cells v lies in."""
        top = self.levels - 1
        return (self.logit.inverse(v) * self.levels).floor().clamp(0, top) * (2 / top) - 1

    def _level(self, x: Tensor) -> Tensor:
        return ((x + 1) * ((self.levels - 1) / 2)).round()


class _Beside(nn.Module):
    """A coupling's network over noise that sees the image beside it; zero at first."""

    def __init__(self, space: Space, k: int, width: int) -> None:
        super().__init__()
        self.k, self.convolves = k, convolutional(space)
        C = space.shape[0]
        self.net: nn.Module
        if self.convolves:
            self.net = ResNet(2 * C, k * C, max(width // 32, 4), 1, zero=True)
        else:
            self.net = MLP(2 * space.dims, k * space.dims, width, zero=True)

    def forward(self, e: Tensor, x: Tensor) -> Tensor:
        both = torch.cat([e, x], 1)
        out = self.net(both if self.convolves else both.flatten(1))
        return images_last(out.view(len(x), -1, *x.shape[2:]), self.k)
