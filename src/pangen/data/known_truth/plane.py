"""Densities on the plane: two moons, mixtures of Gaussians, a checkerboard."""

from __future__ import annotations

import math
from functools import cached_property
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from pangen.data.dataset import Modality
from pangen.data.known_truth.law import Law, uniform

CHUNK = 4096


def integrate(
    law: Law, low: tuple[float, float], high: tuple[float, float], step: float
) -> tuple[float, float]:
    """The integrals of p and of -p log p over a rectangle, by the trapezoid rule.

    For a smooth density that vanishes at the edges its error falls exponentially as `step` does.
    """
    axes = [torch.arange(a, b + step, step, dtype=torch.float64) for a, b in zip(low, high, strict=True)]
    log_p = law.log_prob(torch.cartesian_prod(*axes))
    p = log_p.exp()
    return float(p.sum() * step**2), float(-torch.xlogy(p, p).sum() * step**2)


class _SmoothLaw(Law):
    """A mixture of equal isotropic Gaussians, whose centres `(K, 2)` have weights `(K,)`.

    Centres of one mode stand side by side, and as many belong to each.
    """

    modality: ClassVar[Modality] = "vector"

    def __init__(self, centres: Tensor, weights: Tensor, std: float, modes: int) -> None:
        self.centres, self.weights, self.std = centres.double(), weights.double(), std
        self.modes = modes

    def log_prob(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        axes = range(2) if seen is None else seen.nonzero().flatten().tolist()
        constant = self.weights.log() - len(axes) / 2 * math.log(2 * math.pi * self.std**2)
        parts = []
        for points in x.double().split(CHUNK):
            # |x - c|^2 as sums of squares: expanding the product would cancel digits far away
            none = torch.zeros(len(points), len(self.centres), dtype=torch.float64)
            squares = sum(((points[:, i, None] - self.centres[:, i]) ** 2 for i in axes), none)
            parts.append(torch.logsumexp(constant - squares / (2 * self.std**2), 1))
        return torch.cat(parts) if parts else x.new_empty(0, dtype=torch.float64)

    def mode(self, x: Tensor) -> Tensor:
        """That of the nearest centre."""
        nearest = [torch.cdist(points, self.centres).argmin(1) for points in x.double().split(CHUNK)]
        return torch.cat(nearest) // (len(self.centres) // self.modes)

    @cached_property
    def entropy(self) -> float:
        margin = 8 * self.std
        low, high = self.centres.amin(0) - margin, self.centres.amax(0) + margin
        return integrate(self, tuple(low.tolist()), tuple(high.tolist()), self.std / 4)[1]


class GaussianMixture(_SmoothLaw):
    """Equally likely Gaussians."""

    def __init__(self, centres: Tensor, std: float) -> None:
        weights = torch.full((len(centres),), 1 / len(centres), dtype=torch.float64)
        super().__init__(centres, weights, std, modes=len(centres))

    @classmethod
    def ring(cls) -> Self:
        """Eight on a circle: radius 4 and standard deviation 0.5, all divided by sqrt(2).

        The "8gaussians" of Grathwohl et al. 2019 (FFJORD).
        """
        angles = torch.arange(8, dtype=torch.float64) * (math.pi / 4)
        return cls(4 / math.sqrt(2) * torch.stack([angles.cos(), angles.sin()], 1), 0.5 / math.sqrt(2))

    @classmethod
    def grid(cls) -> Self:
        """Twenty-five on a 5x5 grid of spacing 2 about the origin, standard deviation 0.05.

        The "25gaussians" of Gulrajani et al. 2017, not scaled.
        """
        axis = torch.arange(-4.0, 5.0, 2.0, dtype=torch.float64)
        return cls(torch.cartesian_prod(axis, axis), 0.05)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        which = torch.randint(len(self.centres), (n,), generator=generator)
        noise = torch.randn(n, 2, generator=generator, dtype=torch.float64)
        return (self.centres[which] + self.std * noise).float()


class Moons(_SmoothLaw):
    """Two half circles, t uniform on [0, pi], under Gaussian noise of standard deviation 0.05.

    The outer is (cos t, sin t), the inner (1 - cos t, 1/2 - sin t), as in scikit-learn's
    `make_moons`. The integral over t is a Gauss-Legendre sum, which makes the law a mixture of
    Gaussians: with 256 nodes on each arc they stand less than half a standard deviation apart,
    where the sum is the integral to more than ten digits.
    """

    NODES = 256

    def __init__(self, std: float = 0.05) -> None:
        nodes, weights = np.polynomial.legendre.leggauss(self.NODES)
        arcs = self._arcs(torch.from_numpy(nodes + 1) * (math.pi / 2))
        super().__init__(torch.cat(arcs), torch.from_numpy(weights / 4).repeat(2), std, modes=2)

    @staticmethod
    def _arcs(t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.stack([t.cos(), t.sin()], -1), torch.stack([1 - t.cos(), 0.5 - t.sin()], -1)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        outer, inner = self._arcs(math.pi * uniform(n, generator))
        is_outer = torch.randint(2, (n, 1), generator=generator).bool()
        noise = torch.randn(n, 2, generator=generator, dtype=torch.float64)
        return (torch.where(is_outer, outer, inner) + self.std * noise).float()


class Checkerboard(Law):
    """Uniform on 8 of the 16 squares of side 2 that tile [-4, 4)^2; the square at (0, 0) is one."""

    modality: ClassVar[Modality] = "vector"
    entropy: float = math.log(32)
    modes: int = 8

    def log_prob(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        axes = torch.ones(2, dtype=torch.bool) if seen is None else seen
        within = ((x >= -4) & (x < 4) | ~axes).all(1)
        column, row = (x.double() / 2).floor().unbind(1)
        inside = within & ((row + column) % 2 == 0 if axes.all() else True)
        # of the two coordinates each alone is uniform on all of [-4, 4)
        volume = {0: 1, 1: 8, 2: 32}[int(axes.sum())]
        return torch.where(inside, 0.0, -math.inf).double() - math.log(volume)

    def mode(self, x: Tensor) -> Tensor:
        column, row = (x.double() / 2).floor().long().unbind(1)
        return torch.where(self.log_prob(x).isfinite(), 2 * (row + 2) + (column + 2) // 2, -1)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        column = torch.randint(-2, 2, (n,), generator=generator)
        row = 2 * torch.randint(-1, 1, (n,), generator=generator) + column % 2
        # the clamp keeps float32 from rounding up to the next square
        within = torch.rand(n, 2, generator=generator, dtype=torch.float64).clamp(max=1 - 2**-22)
        return (2 * (torch.stack([column, row], 1) + within)).float()
