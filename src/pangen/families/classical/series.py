"""Gaussian laws of one series: a start, and after it differences that are a stationary process.

x_1 .. x_k ~ N(m, S), where k lags enter the differences w_t = x_t + delta_1 x_{t-1} + .. + delta_k x_{t-k}, and
w_{k+1}, w_{k+2}, .. ~ N(mu, R R^T). All of it together is x ~ N(mean, M M^T) with M lower triangular, from
which likelihoods, samples and forecasts follow without a further word.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from functools import reduce

import torch
from torch import Tensor, nn
from torch.linalg import solve_triangular

from pangen.model import GenerativeModel
from pangen.space import LogProb, Space

SMALLEST, SURE = 0.05, 5
"""Share of the variance of differences that a season explains, at least; and in standard errors of that."""
NEARLY = 0.8
"""The shortest season that comes so near to the best is taken."""


class GaussianSeries(GenerativeModel):
    """x ~ N(mean, M M^T) of windows `(1, T)`; computed in float64, on the processor, from the buffers of its few parameters.

    Args:
        lags: k.
    """

    def __init__(self, space: Space, lags: int) -> None:
        super().__init__(space)
        self.m: Tensor = nn.Buffer(torch.zeros(lags))
        self.S: Tensor = nn.Buffer(torch.eye(lags))

    @abstractmethod
    def delta(self) -> Tensor:
        """1, delta_1 .. delta_k, float64."""

    @abstractmethod
    def stationary(self, n: int) -> tuple[Tensor, Tensor]:
        """mu, a number, and R `(n, n)`, float64."""

    def law(self, n: int) -> tuple[Tensor, Tensor]:
        """mean `(n,)` and M `(n, n)` of the first n values."""
        k = min(len(self.m), n)
        mu, R = self.stationary(n - k)
        L = torch.linalg.cholesky(exact(self.S)[:k, :k])
        differences = torch.cat(
            [torch.cat([exact(self.m)[:k], mu.expand(n - k)])[:, None], torch.block_diag(L, R)], 1
        )
        D = torch.eye(n, dtype=torch.float64)  # takes x to its start and its differences
        for lag, coefficient in enumerate(self.delta()[1:].tolist(), 1):
            t = torch.arange(k, n)
            D[t, t - lag] = coefficient
        x = solve_triangular(D, differences, upper=False, unitriangular=True)
        return x[:, 0], x[:, 1:]

    def log_prob(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> LogProb:
        mean, M = self.law(x.shape[2])
        z = solve_triangular(M, (exact(x[:, 0]) - mean).T, upper=False)
        nats = -0.5 * (z**2 + math.log(2 * math.pi)).sum(0) - M.diagonal().log().sum()
        return LogProb(nats.to(x), "exact")

    def trajectory(self, n: int, y: Tensor | None = None, *, generator: torch.Generator) -> Iterator[Tensor]:
        yield self.follow(torch.zeros(n, 1, 0, device=self.device), self.space.shape[1], generator=generator)

    def follow(
        self, past: Tensor, steps: int, y: Tensor | None = None, *, generator: torch.Generator
    ) -> Tensor:
        """As `HasForecast`."""
        t = past.shape[2]
        mean, M = self.law(t + steps)
        z = solve_triangular(M[:t, :t], (exact(past[:, 0]) - mean[:t]).T, upper=False)
        noise = exact(torch.randn(len(past), steps, generator=generator, device=past.device))
        x = mean[t:, None] + M[t:] @ torch.cat([z, noise.T])
        return x.T[:, None].to(past)

    def start_from(self, x: Tensor, lags: int, noise: Tensor) -> None:
        """m and S of stretches of a series; to S is added the variance of a step's noise, for they are few."""
        stretches = x.unfold(0, lags, 1) if lags else x.new_zeros(1, 0)
        away = stretches - stretches.mean(0)
        S = away.T @ away / len(stretches) + exact(noise) ** 2 * torch.eye(lags)
        self.m, self.S = stretches.mean(0).float(), S.float()


def exact(x: Tensor) -> Tensor:
    """float64, which not every device has."""
    return x.cpu().double()


def stitched(windows: Tensor) -> Tensor:
    """The series float64 `(n,)` that windows `(N, 1, T)` were cut from, by steps of one, or more, or side by side."""
    x = exact(windows[:, 0])
    T = x.shape[1]
    shift = next((s for s in range(1, T) if len(x) > 1 and torch.equal(x[0, s:], x[1, :-s])), T)
    return torch.cat([x[0], x[1:, -shift:].flatten()])


def differences(period: int, seasonal: int, once: int) -> Tensor:
    """(1 - B)^once (1 - B^period)^seasonal as the coefficients of a polynomial in B, float64."""
    season = torch.zeros(period + 1, dtype=torch.float64)
    season[0], season[-1] = 1.0, -1.0
    step = torch.tensor([1.0, -1.0], dtype=torch.float64)
    return reduce(product, [season] * seasonal + [step] * once, torch.ones(1, dtype=torch.float64))


def product(a: Tensor, b: Tensor) -> Tensor:
    """Of two polynomials."""
    found = a.new_zeros(len(a) + len(b) - 1)
    for i, coefficient in enumerate(a.tolist()):
        found[i : i + len(b)] += coefficient * b
    return found


def filtered(x: Tensor, delta: Tensor) -> Tensor:
    """w_t = sum_j delta_j x_{t-j}, where all of them are known."""
    n = len(x) - len(delta) + 1
    return sum(d * x[len(delta) - 1 - j :][:n] for j, d in enumerate(delta.tolist()))


def season(x: Tensor, longest: int) -> int:
    """Steps of the season that explains the differences of a series best; 1: none does.

    What the mean of each of its s phases explains of their variance, of which s - 1 means explain (s - 1) / (n - 1)
    of mere noise.
    """
    w = x.diff()
    w, n = w - w.mean(), len(w)
    t, total, shares = torch.arange(n), w.square().sum(), {}
    for s in range(2, min(longest, n // 3) + 1):
        sums = torch.zeros(s, dtype=w.dtype).index_add(0, t % s, w)
        explained = (sums**2 / torch.bincount(t % s, minlength=s)).sum() / total
        share = 1 - (1 - float(explained)) * (n - 1) / (n - s)
        if share > max(SMALLEST, SURE * math.sqrt(2 * s) / n):
            shares[s] = share
    return next((s for s in shares if shares[s] >= NEARLY * max(shares.values())), 1)
