"""Bijections that rearrange and mix channels, and act at several scales."""

from __future__ import annotations

import math
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.linalg import solve_triangular

from pangen.networks.bijections.transforms import Rearrangement, Transform
from pangen.networks.linear import linear


class Squeeze(Rearrangement):
    """Each 2x2 square of pixels becomes channels: `(C, H, W)` to `(4C, H/2, W/2)`, for even H and W.

    The channels of a pixel stay together: the first half of the outputs are the even rows.
    """

    def arrange(self, x: Tensor) -> Tensor:
        return rearrange(x, "b c (h i) (w j) -> b (i j c) h w", i=2, j=2)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return rearrange(z, "b (i j c) h w -> b c (h i) (w j)", i=2, j=2)


class Flatten(Rearrangement):
    """Examples `(B, *shape)` as vectors."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def arrange(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return z.reshape(-1, *self.shape)


class Through(Transform):
    """A transform in other places: there by `change`, and back."""

    def __init__(self, change: Rearrangement, inner: Transform) -> None:
        super().__init__()
        self.change, self.inner = change, inner

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z, log_det = self.inner(self.change.arrange(x), context)
        return self.change.inverse(z), log_det

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return self.change.inverse(self.inner.inverse(self.change.arrange(z), context))

    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.change.inverse(self.inner.initialize(self.change.arrange(x), context))


class OnHalf(Transform):
    """A transform of the first half of the channels; the second has left to z (Dinh et al. 2017, Eq. 14)."""

    def __init__(self, inner: Transform) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        a, b = x.chunk(2, 1)
        z, log_det = self.inner(a, context)
        return torch.cat([z, b], 1), log_det

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        a, b = z.chunk(2, 1)
        return torch.cat([self.inner.inverse(a, context), b], 1)

    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        a, b = x.chunk(2, 1)
        return torch.cat([self.inner.initialize(a, context), b], 1)


def at_scale(scale: int, inner: Transform) -> Transform:
    """`inner` at a scale of a multi-scale flow (Dinh et al. 2017, Section 3.6), as a map of whole examples.

    Between one scale and the next the image is squeezed and half of its channels leave. What has left
    keeps its place and is touched no more, so every block of the flow maps examples `(C, H, W)` to
    their like, and z is all of the last. `inner` maps what is left, of shape `scaled_shape`.
    """
    for _ in range(scale):
        inner = Through(Squeeze(), OnHalf(inner))
    return inner


def scaled_shape(shape: tuple[int, ...], scale: int) -> tuple[int, ...]:
    """The shape of what is left of an image at a scale."""
    C, H, W = shape
    return 2**scale * C, H // 2**scale, W // 2**scale


def halvings(shape: tuple[int, ...], most: int) -> int:
    """How many times, `most` at most, an image can be squeezed: height and width must be even."""
    return next((n for n in range(most) if shape[1] % 2 ** (n + 1) or shape[2] % 2 ** (n + 1)), most)


class Invertible1x1(Transform):
    """z = W x for the channels at each position, W = P L (U + diag s) (Kingma and Dhariwal 2018, Eq. 10).

    A vector's entries are its channels. W starts as a random rotation, or as a random permutation. P and
    the signs of s are fixed; log|s| is bounded smoothly at +-`bound`, so that W stays invertible in
    floating point.
    """

    def __init__(
        self, channels: int, *, start: Literal["rotation", "permutation"] = "rotation", bound: float = 5.0
    ) -> None:
        super().__init__()
        self.bound = bound
        W = torch.eye(channels, dtype=torch.float64)[torch.randperm(channels)]
        if start == "rotation":
            W = torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64)).Q
        P, L, U = torch.linalg.lu(W)
        s = U.diagonal()
        self.P = nn.Buffer(P.float())
        self.sign = nn.Buffer(s.sign().float())
        self.L, self.U = nn.Parameter(L.tril(-1).float()), nn.Parameter(U.triu(1).float())
        self.s = nn.Parameter((bound * torch.atanh(s.abs().log() / bound)).float())

    @property
    def log_s(self) -> Tensor:
        """log|s|."""
        return self.bound * torch.tanh(self.s / self.bound)

    def factors(self) -> tuple[Tensor, Tensor]:
        """L with its unit diagonal, and U with diagonal s."""
        s = self.sign * self.log_s.exp()
        return self.L.tril(-1) + torch.eye(len(s), dtype=s.dtype, device=s.device), self.U.triu(1) + s.diag()

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        L, U = self.factors()
        log_det = math.prod(x.shape[2:]) * self.log_s.sum()  # Eq. 11
        return _mix(self.P @ L @ U, x), log_det.expand(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        L, U = self.factors()
        back = solve_triangular(L, self.P.T, upper=False, unitriangular=True)
        return _mix(solve_triangular(U, back, upper=True), z)


def _mix(W: Tensor, x: Tensor) -> Tensor:
    """W times the channels of `(B, C)` or `(B, C, H, W)`."""
    return linear(x, W) if x.ndim == 2 else nn.functional.conv2d(x, W[:, :, None, None])
