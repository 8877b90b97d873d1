"""Orders and first estimates of an ARMA process by least squares (Hannan and Rissanen 1982).

A long regression of w on its own past leaves residuals that estimate e; then w is regressed on its past and
that of e. All orders are parts of one table, of which the inner products are needed alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.nn.functional import pad

MOST, SEASONAL = 3, 1
"""Largest p and q, P and Q that are tried."""
REACH = 0.98
"""Inverse of the smallest root of a polynomial that starts an optimizer, at most."""


class Coefficients(NamedTuple):
    """Of phi(B) Phi(B^s) w_t = theta(B) Theta(B^s) e_t, float64."""

    phi: Tensor
    theta: Tensor
    Phi: Tensor
    Theta: Tensor

    def stable(self, reach: float) -> Self:
        """With all roots of all polynomials moved away from 0, as far as 1 / reach where they are nearer."""
        phi, theta, Phi, Theta = (
            sign * _stable(sign * c, reach) for sign, c in zip((1, -1, 1, -1), self, strict=True)
        )
        return type(self)(phi, theta, Phi, Theta)


class Regressions:
    """The table of a series `w` `(n,)` float64 with a season of `s` steps.

    `order` is p and q, `seasonal` P and Q, where they are given; those that are not are to be tried.
    """

    def __init__(self, w: Tensor, s: int, order: Sequence[int], seasonal: Sequence[int]) -> None:
        free = [min(MOST, len(w) // 20)] * 2, [SEASONAL * (s > 1)] * 2
        self.tried = [
            (given[i],) if given else range(most[i] + 1)
            for given, most in zip((order, seasonal), free, strict=True)
            for i in (0, 1)
        ]
        p, q, P, Q = map(max, self.tried)
        self.s, self.names = (
            s,
            [*(("w", lag) for lag in lags(p, P, s)), *(("e", lag) for lag in lags(q, Q, s))],
        )
        w = w - w.mean()
        long = min(max(2 * s, math.ceil(10 * math.log10(len(w)))), len(w) // 4)
        past = torch.stack([delayed(w, lag, long) for lag in range(1, long + 1)], 1)
        e = torch.zeros_like(w)
        e[long:] = w[long:] - past @ solution(past.T @ past, past.T @ w[long:])
        first = min(long + max((lag for _, lag in self.names), default=0), len(w) // 2)
        columns = [delayed({"w": w, "e": e}[of], lag, first) for of, lag in self.names]
        table = torch.stack([*columns, w[first:]], 1)
        self.products, self.n = table.T @ table, len(table)

    def best(self) -> tuple[int, int, int, int]:
        """p, q, P, Q of the least AICc."""
        p, q, P, Q = min(product(*self.tried), key=lambda orders: self._fit(*orders)[0])
        return p, q, P, Q

    def start(self, p: int, q: int, P: int, Q: int) -> Coefficients:
        """Of a process that is stationary and can be inverted, near the regression's."""
        at = self._fit(p, q, P, Q)[1]

        def read(of: str, n: int, step: int) -> Tensor:
            return torch.tensor([at[of, step * i] for i in range(1, n + 1)], dtype=torch.float64)

        found = Coefficients(read("w", p, 1), read("e", q, 1), read("w", P, self.s), read("e", Q, self.s))
        return found.stable(REACH)

    def _fit(self, p: int, q: int, P: int, Q: int) -> tuple[float, dict[tuple[str, int], float]]:
        """AICc, and the coefficient of each lag of w and e."""
        wanted = {*(("w", lag) for lag in lags(p, P, self.s)), *(("e", lag) for lag in lags(q, Q, self.s))}
        i = [j for j, name in enumerate(self.names) if name in wanted]
        b = self.products[i, -1]
        c = solution(self.products[i][:, i], b)
        rest, k = float(self.products[-1, -1] - b @ c), len(i) + 1
        aicc = self.n * math.log(max(rest, 1e-12) / self.n) + 2 * k * self.n / max(self.n - k - 1, 1)
        return aicc, {self.names[j]: float(value) for j, value in zip(i, c, strict=True)}


def _stable(c: Tensor, reach: float) -> Tensor:
    """Of 1 - c_1 B - c_2 B^2 - ..., whose roots are the inverses of its companion matrix's eigenvalues."""
    if not len(c):
        return c
    companion = torch.diag(torch.ones(len(c) - 1), 1).to(c)
    companion[:, 0] = c
    largest = float(torch.linalg.eigvals(companion).abs().max())
    return c * min(1.0, reach / max(largest, 1e-9)) ** torch.arange(1, len(c) + 1)


def lags(short: int, seasonal: int, s: int) -> list[int]:
    """Where the product of two polynomials in B and B^s has its coefficients."""
    return sorted({i + s * j for i in range(short + 1) for j in range(seasonal + 1)} - {0})


def delayed(x: Tensor, lag: int, first: int) -> Tensor:
    """x_{t - lag} for t from `first` on, 0 before there is any."""
    return pad(x, (lag, 0))[first : len(x)]


def solution(A: Tensor, b: Tensor) -> Tensor:
    """Of A c = b for inner products A, which a ridge far below them keeps apart."""
    ridge = 1e-10 * A.diagonal().mean() if len(A) else 0.0
    return torch.linalg.solve(A + ridge * torch.eye(len(A)).to(A), b)
