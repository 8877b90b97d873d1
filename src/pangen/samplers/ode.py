"""Solvers of dz/dt = f(z, t): fixed steps to train through, adaptive steps of each example's own to trust.

Libraries share one step size among the rows of a batch, so that a row's answer depends on its
neighbours. Here every row has its own time, step and error, and is left alone once it arrives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Protocol

import torch
from torch import Tensor

Field = Callable[[Tensor, Tensor], Tensor]
"""f(z, t): states `(B, n)` and their times `(B,)` to velocities `(B, n)`, row by row."""

# Dormand and Prince 1980, Table 2: nodes, stages (the last is the fifth-order solution), and by how
# much it differs from the embedded fourth-order one
C = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
A = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
E = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)

SAFETY, SHRINK, GROW = 0.9, 0.2, 5.0
"""A new step is this part of the one that would just pass, and this far from the last one."""


class Solver(Protocol):
    """Takes states `(B, n)` from time `start` to `end`, which may be the earlier."""

    def __call__(self, f: Field, z: Tensor, start: float, end: float) -> Tensor: ...


@dataclass(frozen=True)
class RungeKutta4:
    """The classical method with `steps` equal steps: 4 evaluations each, error of order 4."""

    steps: int = 8

    def __call__(self, f: Field, z: Tensor, start: float, end: float) -> Tensor:
        h = (end - start) / self.steps
        for i in range(self.steps):
            t = z.new_full((len(z),), start + i * h)
            a = f(z, t)
            b = f(z + h / 2 * a, t + h / 2)
            c = f(z + h / 2 * b, t + h / 2)
            d = f(z + h * c, t + h)
            z = z + h / 6 * (a + 2 * b + 2 * c + d)
        return z


@dataclass(frozen=True)
class DormandPrince:
    """The pair of orders 5 and 4, with a step size for each row (Hairer et al. 1993, Section II.4).

    A step is taken where the root mean square over the row of error / (tolerance (1 + |z|)) is at
    most 1. Gradients pass through the steps taken, not through the choice of their sizes. A row
    that does not arrive in `attempts` steps, as under a tolerance below the rounding of its
    numbers, ends as NaN.
    """

    tolerance: float = 1e-5
    attempts: int = 1000

    def __call__(self, f: Field, z: Tensor, start: float, end: float) -> Tensor:
        t, h = (z.new_full((len(z),), value) for value in (start, (end - start) / 20))
        velocity = f(z, t)
        for _ in range(self.attempts):
            left = end - t
            if not left.any():
                return z
            last = h.abs() >= left.abs()
            h = torch.where(last, left, h)
            stages = [velocity]
            for weights, node in zip(A, C, strict=True):
                new = z + h[:, None] * _sum(weights, stages)
                stages.append(f(new, t + node * h))
            with torch.no_grad():
                scale = self.tolerance * (1 + torch.maximum(z.abs(), new.abs()))
                error = (h[:, None] * _sum(E, stages) / scale).square().mean(1).sqrt()
                taken = (error <= 1) & (left != 0)  # an error that is NaN is no small one
                factor = (SAFETY * error**-0.2).nan_to_num(SHRINK).clamp(SHRINK, GROW)
            z = torch.where(taken[:, None], new, z)
            velocity = torch.where(taken[:, None], stages[-1], velocity)
            t = torch.where(taken, torch.where(last, end, t + h), t)
            h = h * factor
        return torch.where((t == end)[:, None], z, torch.nan)


def _sum(weights: Sequence[float], stages: Sequence[Tensor]) -> Tensor:
    return reduce(torch.add, [w * k for w, k in zip(weights, stages, strict=True) if w])
