"""Consistency distillation: the lower point of a pair lies on a teacher's path (Song et al. 2023, Algorithm 2)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from pangen.capabilities import HasDenoiser
from pangen.networks.preconditioning import Preconditioned, column

Step = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""x `(B, *shape)` at the upper level `(B,)`, the lower level and labels, to x at the lower level."""


def heun(teacher: HasDenoiser, net: Preconditioned) -> Step:
    """One step of Heun's method along the probability flow of a teacher, in the units of `net` (Eq. 6).

    Beyond the levels that it knows a teacher says what it says at the nearest one. A function, so that
    the teacher is no part of a module that has it, nor copied with it.
    """

    def slope(x: Tensor, sigma: Tensor, y: Tensor | None) -> Tensor:
        level = (sigma * net.scale).clamp(teacher.sigma_min, teacher.sigma_max)
        return (x - net.unit(teacher.denoise(net.data(x), level, y))) / column(sigma, x)

    def step(x: Tensor, upper: Tensor, lower: Tensor, y: Tensor | None = None) -> Tensor:
        h, start = column(lower - upper, x), slope(x, upper, y)
        return x + h * (start + slope(x + h * start, lower, y)) / 2

    return step
