"""A series from a law that is known: what a perfect forecaster could reach."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from pangen.data.dataset import Data, Modality
from pangen.data.known_truth.law import Law
from pangen.data.series import Clock, Series, series_data
from pangen.rng import generator as named_generator

STEPS = (20_000, 25_000, 35_000)
"""At which training, validation and testing end."""


class AR2(Law):
    """Windows of 64 steps from one stationary path of x_t = 10 + a (x_{t-1} - 10) + b (x_{t-2} - 10) + e_t.

    a = 1.4, b = -0.85, e_t ~ N(0, 1): a cycle of about nine steps that wanders. The first two steps of a
    window have the stationary covariance, by the equations of Yule (1927) and Walker (1931).
    """

    modality: ClassVar[Modality] = "series"
    window: ClassVar[int] = 64
    mean: ClassVar[float] = 10.0
    a: ClassVar[float] = 1.4
    b: ClassVar[float] = -0.85

    @property
    def autocovariance(self) -> tuple[float, float]:
        """At distances 0 and 1."""
        variance = (1 - self.b) / ((1 + self.b) * ((1 - self.b) ** 2 - self.a**2))
        return variance, variance * self.a / (1 - self.b)

    @property
    def start(self) -> torch.distributions.MultivariateNormal:
        """Of two neighbours, less the mean."""
        at0, at1 = self.autocovariance
        covariance = torch.tensor([[at0, at1], [at1, at0]], dtype=torch.float64)
        return torch.distributions.MultivariateNormal(torch.zeros(2, dtype=torch.float64), covariance)

    @property
    def entropy(self) -> float:
        return float(self.start.entropy()) + (self.window - 2) * 0.5 * math.log(2 * math.pi * math.e)

    def log_prob(self, x: Tensor) -> Tensor:
        v = x[:, 0].double() - self.mean
        e = v[:, 2:] - self.a * v[:, 1:-1] - self.b * v[:, :-2]
        return self.start.log_prob(v[:, :2]) - 0.5 * (e**2 + math.log(2 * math.pi)).sum(1)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return self._paths(n, self.window, generator)[:, None].float()

    def data(self, name: str) -> Data:
        """One path, cut like any series."""
        path = self._paths(1, STEPS[-1], named_generator("cpu", "known truth", name))
        series = Series(path.float(), ("x",), Clock())
        return series_data(name, series, self.window, ends=STEPS, truth=self)

    def _paths(self, n: int, steps: int, generator: torch.Generator) -> Tensor:
        z = torch.randn(n, steps, generator=generator, dtype=torch.float64)
        rows = z.T.contiguous()
        rows[:2] = self.start.scale_tril @ rows[:2]
        v = rows.tolist()
        for t in range(2, steps):
            v[t] = [e + self.a * p + self.b * q for e, p, q in zip(v[t], v[t - 1], v[t - 2], strict=True)]
        return self.mean + torch.tensor(v, dtype=torch.float64).T
