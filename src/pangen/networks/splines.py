"""Monotone rational-quadratic splines with linear tails (Durkan et al. 2019, Eqs. 4 to 8).

A spline maps [-bound, bound] onto itself through K bins and is the identity beyond. Its 3K - 1
unconstrained numbers come *first*, `(3K - 1, *x.shape)`: K widths, K heights, K - 1 derivatives
at the inner knots. Everything about a bin is then a few rows of numbers that lie side by side in
memory, which is many times faster than a short last dimension. Zeros give the identity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus


@dataclass(frozen=True)
class Spline:
    """A monotone map of each number, given `k` numbers for it.

    Args:
        bins: K, at least 2.
        bound: beyond +-bound the map is the identity.
        least: the least derivative at a knot, and the least width and height of a bin as a share of
            2 bound / K.
    """

    bins: int = 8
    bound: float = 5.0
    least: float = 1e-3

    @property
    def k(self) -> int:
        return 3 * self.bins - 1

    def forward(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """z and log dz/dx, each of the shape of x, for `raw` `(k, *x.shape)`."""
        z, log_slope = _Forward.apply(x.reshape(-1), raw.reshape(self.k, -1), self)
        return z.view(x.shape), log_slope.view(x.shape)

    def inverse(self, z: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """x and log dx/dz, each of the shape of z."""
        flat = z.reshape(-1)
        inside, v = flat.abs() < self.bound, flat.clamp(-self.bound, self.bound)
        w, h, x_k, y_k, d_k, d_next = _find(v, raw.reshape(self.k, -1), self, axis=1).numbers
        s, eta = h / w, ((v - y_k) / h).clamp(0, 1)
        # Eqs. 6 to 8, solved for xi and 1 - xi at once: both are sums of what is positive, so nothing cancels
        tilt, g = d_k * (1 - eta) - d_next * eta, 4 * s * s * eta * (1 - eta)
        root = (tilt * tilt + g).sqrt()
        larger = root + tilt.abs()
        left, right = 2 * s * eta, torch.where(tilt >= 0, larger, g / larger)
        xi = left / (left + right)
        x = torch.where(inside, torch.addcmul(x_k, xi, w), flat)
        log_slope = _in_bin(xi, s, d_k, d_next).log_slope
        return x.view(z.shape), torch.where(inside, -log_slope, 0.0).view(z.shape)


class _Place(NamedTuple):
    """The bin that each of N numbers falls into."""

    numbers: tuple[Tensor, ...]
    """Width, height, x and y of the left knot, derivative at the left and the right knot: `(N,)` each."""
    bin: Tensor
    share: Tensor
    """The softmax of widths and heights `(2, K, N)`."""
    rows: Tensor
    """Where among the k numbers the two derivatives stand `(2, N)`; anywhere, if a knot is an end."""
    inner: Tensor
    """Whether a knot is no end `(2, N)`."""
    before: Tensor
    """Each derivative before its softplus `(2, N)`."""


def _find(v: Tensor, raw: Tensor, spline: Spline, axis: int) -> _Place:
    """Find v `(N,)` among the knots' x (`axis` 0) or y (`axis` 1)."""
    K, B, least = spline.bins, spline.bound, spline.least
    share = raw[: 2 * K].view(2, K, -1).softmax(1)
    size = (share * (2 * B * (1 - least))).add_(2 * B * least / K)
    right = size.cumsum(1).sub_(B)
    # to count the knots that v has passed is vectorised, to search them is not
    bin_ = (v >= right[axis, : K - 1]).sum(0)
    (w, h), (x_next, y_next) = (t.gather(1, bin_.expand(2, 1, -1)).squeeze(1) for t in (size, right))
    rows = bin_ + torch.arange(2 * K - 1, 2 * K + 1, device=v.device)[:, None]
    inner = rows != torch.arange(2 * K - 1, 3 * K, K, device=v.device)[:, None]
    rows = rows.clamp(2 * K, 3 * K - 2)
    before = raw.gather(0, rows).mul(inner).add(_unit(least))
    d_k, d_next = softplus(before).add(least)
    return _Place((w, h, x_next - w, y_next - h, d_k, d_next), bin_, share, rows, inner, before)


def _unit(least: float) -> float:
    """Where softplus + least is 1, the derivative of the tails."""
    return math.log(math.expm1(1 - least))


class _InBin(NamedTuple):
    """A spline within its bin: `ratio` = (z - y_k) / h, and what its derivatives are made of."""

    ratio: Tensor
    log_slope: Tensor
    over: Tensor
    """The numerator of Eq. 5 over s^2."""
    under: Tensor
    """The denominator of Eq. 4, whose square is that of Eq. 5."""


def _in_bin(xi: Tensor, s: Tensor, d_k: Tensor, d_next: Tensor) -> _InBin:
    rest, square = 1 - xi, xi * xi
    p = xi * rest
    ps = p * s
    under = torch.addcmul(s, p, d_k + d_next).sub_(ps, alpha=2)
    ratio = torch.addcmul(s * square, d_k, p).div_(under)  # Eq. 4
    over = torch.addcmul(d_next * square, d_k, rest * rest).add_(ps, alpha=2)
    q = s / under
    return _InBin(ratio, (q * q).mul_(over).log_(), over, under)  # Eq. 5


def _forward(x: Tensor, raw: Tensor, spline: Spline) -> tuple[Tensor, Tensor, tuple]:
    """z, its log-derivative, and what the backward pass needs."""
    inside, v = x.abs() < spline.bound, x.clamp(-spline.bound, spline.bound)
    place = _find(v, raw, spline, axis=0)
    w, h, x_k, y_k, d_k, d_next = place.numbers
    xi, s = ((v - x_k) / w).clamp(0, 1), h / w
    here = _in_bin(xi, s, d_k, d_next)
    z = torch.where(inside, torch.addcmul(y_k, h, here.ratio), x)
    kept = (inside, xi, s, w, h, d_k, d_next, *here, *place[1:])
    return z, torch.where(inside, here.log_slope, 0.0), kept


class _Forward(torch.autograd.Function):
    """`_forward` with its gradient written out: a third of the work of differentiating every line."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, raw: Tensor, spline: Spline) -> tuple[Tensor, Tensor]:
        z, log_slope, kept = _forward(x, raw, spline)
        ctx.spline = spline
        ctx.save_for_backward(x, raw, *kept)
        return z, log_slope

    @staticmethod
    def backward(ctx: Any, to_z: Tensor, to_slope: Tensor) -> tuple[Tensor | None, ...]:
        x, raw, *kept = ctx.saved_tensors
        if torch.is_grad_enabled():  # someone will differentiate the gradient
            out = _forward(x, raw, ctx.spline)[:2]
            return *torch.autograd.grad(out, (x, raw), (to_z, to_slope), create_graph=True), None
        return *_gradient(to_z, to_slope, kept, ctx.spline), None


def _gradient(to_z: Tensor, to_slope: Tensor, kept: list[Tensor], spline: Spline) -> tuple[Tensor, Tensor]:
    """The gradient with respect to x and the k numbers, from that with respect to z and its log-derivative."""
    inside, xi, s, w, h, d_k, d_next, ratio, _, over, under, bin_, share, rows, inner, before = kept
    K, B, least = spline.bins, spline.bound, spline.least
    g_z, g_slope = to_z * inside, to_slope * inside
    rest = 1 - xi
    p, slant = xi * rest, rest - xi
    # z = y_k + h ratio; log_slope = 2 log s + log over - 2 log under
    a = g_z * h / (under * under)
    b, c = g_slope / over, 2 * g_slope / under
    rise, fall = d_next * xi, d_k * rest
    g_xi = a * s * over + 2 * b * (rise - fall + s * slant) - c * (d_k + d_next - 2 * s) * slant
    g_s = p * (a * (rise * xi - fall * rest) + 2 * b) + 2 * g_slope / s - c * (1 - 2 * p)
    shared, n = (a * under - c) * p, a * p * ratio * under
    g_d = torch.stack([shared - n + b * rest * rest, -n - c * p + b * xi * xi])
    # xi = (x - x_k) / w, s = h / w
    g_x = g_xi / w
    g_w, g_h = -(g_s * s + g_xi * xi) / w, g_z * ratio + g_s / w
    # a knot is the sum of the sizes before it, a size a softmax
    passed = torch.arange(K, device=w.device)[:, None] < bin_
    g_size = torch.stack([-g_x, g_z])[:, None] * passed
    g_size.scatter_(1, bin_.expand(2, 1, -1), torch.stack([g_w, g_h])[:, None])
    g_raw = torch.zeros(3 * K - 1, len(w), dtype=w.dtype, device=w.device)
    g_share = g_size.mul_(share)
    scale = 2 * B * (1 - least)
    g_raw[: 2 * K].view(2, K, -1).copy_(g_share).addcmul_(share, g_share.sum(1, keepdim=True), value=-1).mul_(
        scale
    )
    g_raw.scatter_add_(0, rows, g_d * before.sigmoid() * inner)
    return torch.where(inside, g_x, to_z), g_raw
