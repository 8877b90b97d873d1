"""Series from laws that are known: what a perfect forecaster could reach."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from pangen.data.dataset import Data, Modality
from pangen.data.known_truth.law import Law
from pangen.data.series import Clock, Series, series_data
from pangen.rng import generator as named_generator

STEPS = (20_000, 25_000, 35_000)
"""At which training, validation and testing end."""


class GaussianSeries(Law):
    """Windows of 64 steps from one stationary Gaussian path about a mean of 10.

    The autocovariance goes on from distances 0 and 1 as g_k = a g_{k-1} + b g_{k-2}, by the equations
    of Yule (1927) and Walker (1931).
    """

    modality: ClassVar[Modality] = "series"
    window: ClassVar[int] = 64
    mean: ClassVar[float] = 10.0
    a: ClassVar[float]
    b: ClassVar[float]

    @property
    @abstractmethod
    def autocovariance(self) -> tuple[float, float]:
        """At distances 0 and 1."""

    @abstractmethod
    def paths(self, n: int, steps: int, generator: torch.Generator) -> Tensor:
        """`n` stationary paths `(n, steps)` float64."""

    @cached_property
    def covariance(self) -> Tensor:
        """Of the steps of a window `(window, window)`."""
        g = list(self.autocovariance)
        while len(g) < self.window:
            g.append(self.a * g[-1] + self.b * g[-2])
        lag = torch.arange(self.window)
        return torch.tensor(g, dtype=torch.float64)[(lag[:, None] - lag).abs()]

    @cached_property
    def entropy(self) -> float:
        return float(self._normal(self.covariance).entropy())

    def log_prob(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        at = torch.arange(self.window) if seen is None else seen.flatten().nonzero()[:, 0]
        if not len(at):
            return torch.zeros(len(x), dtype=torch.float64)
        return self._normal(self.covariance[at[:, None], at]).log_prob(x[:, 0, at].double() - self.mean)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return self.paths(n, self.window, generator)[:, None].float()

    def data(self, name: str) -> Data:
        """One path, cut like any series."""
        path = self.paths(1, STEPS[-1], named_generator("cpu", "known truth", name))
        series = Series(path.float(), ("x",), Clock())
        return series_data(name, series, self.window, ends=STEPS, truth=self)

    @staticmethod
    def _normal(covariance: Tensor) -> MultivariateNormal:
        return MultivariateNormal(torch.zeros(len(covariance), dtype=torch.float64), covariance)


class AR2(GaussianSeries):
    """x_t = 10 + a (x_{t-1} - 10) + b (x_{t-2} - 10) + e_t, with e_t ~ N(0, 1).

    a = 1.4, b = -0.85: a cycle of about nine steps that wanders.
    """

    a: ClassVar[float] = 1.4
    b: ClassVar[float] = -0.85

    @property
    def autocovariance(self) -> tuple[float, float]:
        variance = (1 - self.b) / ((1 + self.b) * ((1 - self.b) ** 2 - self.a**2))
        return variance, variance * self.a / (1 - self.b)

    def paths(self, n: int, steps: int, generator: torch.Generator) -> Tensor:
        z = torch.randn(n, steps, generator=generator, dtype=torch.float64)
        rows = z.T.contiguous()
        rows[:2] = self._normal(self.covariance[:2, :2]).scale_tril @ rows[:2]
        v = rows.tolist()
        for t in range(2, steps):
            v[t] = [e + self.a * p + self.b * q for e, p, q in zip(v[t], v[t - 1], v[t - 2], strict=True)]
        return self.mean + torch.tensor(v, dtype=torch.float64).T


class ARMA(GaussianSeries):
    """x_t = 10 + a (x_{t-1} - 10) + e_t + c e_{t-1}, with e_t ~ N(0, 1).

    a = 0.95, c = -0.7: a slow drift under noise, of which no few last values tell all.
    """

    a: ClassVar[float] = 0.95
    b: ClassVar[float] = 0.0
    c: ClassVar[float] = -0.7

    @property
    def autocovariance(self) -> tuple[float, float]:
        variance = (1 + 2 * self.a * self.c + self.c**2) / (1 - self.a**2)
        return variance, self.a * variance + self.c

    def paths(self, n: int, steps: int, generator: torch.Generator) -> Tensor:
        e = torch.randn(steps + 1, n, generator=generator, dtype=torch.float64)
        # the first value shares e_0 with the second; the rest of it is noise of its own
        v = [e[1] + (self.autocovariance[0] - 1) ** 0.5 * e[0]]
        for before, now in pairwise(e[1:]):
            v.append(self.a * v[-1] + now + self.c * before)
        return self.mean + torch.stack(v, 1)
