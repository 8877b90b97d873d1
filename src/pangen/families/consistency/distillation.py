"""What a teacher has to say: clean examples, and with them its path (Song et al. 2023, Algorithm 2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from pangen.capabilities import HasDenoiser
from pangen.networks.preconditioning import Preconditioned, column

Estimate = Callable[[Tensor, Tensor], Tensor]
"""x `(B, *shape)` and noise levels `(B,)`, in units of the student, to clean examples."""


class Teacher(Protocol):
    """The same of examples with labels."""

    def __call__(self, x: Tensor, sigma: Tensor, y: Tensor | None = None) -> Tensor: ...


def seen(teacher: HasDenoiser, net: Preconditioned) -> Teacher:
    """A teacher's estimate in the units of `net`; beyond the levels that it knows, that at the nearest one.

    A function, so that the teacher is no part of a module that has it, nor copied with it.
    """

    def estimate(x: Tensor, sigma: Tensor, y: Tensor | None = None) -> Tensor:
        level = (sigma * net.scale).clamp(teacher.sigma_min, teacher.sigma_max)
        return net.unit(teacher.denoise(net.data(x), level, y))

    return estimate


def heun(teacher: Estimate, x: Tensor, upper: Tensor, lower: Tensor) -> Tensor:
    """x at the lower level, by one step of Heun's method along the teacher's path from the upper (Eq. 6)."""

    def slope(x: Tensor, sigma: Tensor) -> Tensor:
        return (x - teacher(x, sigma)) / column(sigma, x)

    h, start = column(lower - upper, x), slope(x, upper)
    return x + h * (start + slope(x + h * start, lower)) / 2
