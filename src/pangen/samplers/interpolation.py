"""Ways from one code to another."""

from __future__ import annotations

import torch
from torch import Tensor


def straight(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """(1 - t) a + t b, for `a` and `b` `(B, ...)` and `t` `(B,)`."""
    return torch.lerp(a, b, _like(t, a))


def spherical(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Along a great circle, the length changing evenly (Shoemake 1985; White 2016, Section 2.1); shapes as `straight`'s.

    Codes are `(B, ...)` and `t` is `(B,)`.
    Normal codes of many dimensions have nearly one length, which a straight way would cut short.
    """
    flat_a, flat_b = a.flatten(1), b.flatten(1)
    length_a, length_b = (v.norm(dim=1, keepdim=True) for v in (flat_a, flat_b))
    cosine = (flat_a * flat_b).sum(1, keepdim=True) / (length_a * length_b).clamp(min=1e-12)
    angle, t_ = cosine.clamp(-1, 1).acos(), t[:, None].to(flat_a)
    unit_a, unit_b = flat_a / length_a.clamp(min=1e-12), flat_b / length_b.clamp(min=1e-12)
    way = (torch.sin((1 - t_) * angle) * unit_a + torch.sin(t_ * angle) * unit_b) / angle.sin()
    found = torch.lerp(length_a, length_b, t_) * way
    aligned = angle.sin() < 1e-6  # no great circle, or every one
    return torch.where(aligned, torch.lerp(flat_a, flat_b, t_), found).view_as(a)


def _like(t: Tensor, a: Tensor) -> Tensor:
    return t.to(a).view(-1, *[1] * (a.dim() - 1))
