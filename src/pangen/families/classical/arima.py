"""ARIMA with seasons (Box and Jenkins 1970), fitted by exact maximum likelihood with statsmodels.

phi(B) Phi(B^s) (w_t - mu) = theta(B) Theta(B^s) e_t, e_t ~ N(0, sigma^2), w_t = (1 - B)^d (1 - B^s)^D x_t; B x_t is
x_{t-1}. Orders are chosen by the AICc of Hannan and Rissanen's (1982) regressions, numbers of differences by
the likelihood of validation windows, for an AICc compares likelihoods of the same data alone.
"""

from __future__ import annotations

import math
from itertools import product as every
from typing import Any

import torch
from torch import Tensor, nn

from pangen.errors import PangenError
from pangen.families.classical.regressions import Coefficients, Regressions
from pangen.families.classical.series import (
    GaussianSeries,
    differences,
    exact,
    filtered,
    product,
    season,
    stitched,
)
from pangen.settings import Natural
from pangen.space import Batch, Space

RECENT, LONGEST = 1000, 4000
"""The last values, on which choices are made, and on which the chosen model is fitted."""


class ARIMA(GaussianSeries):
    """ARIMA(p, d, q)(P, D, Q)_s; mu is 0 where there are two differences or more.

    The first d + s D values, which have no difference, are normal with the moments of such stretches.

    Args:
        order: p, d, q; empty: chosen by `fit_exactly`.
        seasonal: P, D, Q; empty: chosen.
        period: s; 1: no season; 0: found.
    """

    phi: Tensor
    theta: Tensor
    Phi: Tensor
    Theta: Tensor
    mu: Tensor
    sigma: Tensor

    def __init__(
        self,
        space: Space,
        *,
        order: tuple[Natural, ...] = (),
        seasonal: tuple[Natural, ...] = (),
        period: Natural = 0,
    ) -> None:
        for name, given in (("order", order), ("seasonal", seasonal)):
            if len(given) not in (0, 3):
                raise PangenError(f"model.{name} = {list(given)} takes three numbers, such as [2, 0, 1].")
        p, d, q, P, D, Q = *(order or (0, 0, 0)), *(seasonal or (0, 0, 0))
        super().__init__(space, d + D * max(period, 1))
        self.order, self.seasonal, self.period = order, seasonal, period
        self.phi, self.theta = nn.Buffer(torch.zeros(p)), nn.Buffer(torch.zeros(q))
        self.Phi, self.Theta = nn.Buffer(torch.zeros(P)), nn.Buffer(torch.zeros(Q))
        self.mu = nn.Buffer(torch.zeros(1))
        self.sigma = nn.Buffer(torch.ones(()))

    def delta(self) -> Tensor:
        return differences(self.period, self.seasonal[1], self.order[1])

    def stationary(self, n: int) -> tuple[Tensor, Tensor]:
        ar = -product(polynomial(-self.phi, 1), polynomial(-self.Phi, self.period))[1:]
        ma = product(polynomial(self.theta, 1), polynomial(self.Theta, self.period))[1:]
        lag = torch.arange(n)
        toeplitz = autocovariance(ar, ma, n)[(lag[:, None] - lag).abs()]
        return exact(self.mu), exact(self.sigma) * torch.linalg.cholesky(toeplitz)

    def fit_exactly(self, train: Batch, validation: Batch) -> dict[str, Any]:
        x = stitched(train.x)
        s = self.period or season(x, self.space.shape[1] // 2)
        if s == 1 and any(self.seasonal):
            raise PangenError("no season is found in the series; give model.period beside model.seasonal.")
        order, seasonal = self.order, self.seasonal or (() if s > 1 else (0, 0, 0))
        best, score = None, -math.inf
        for d, D in every((order[1],) if order else (0, 1), (seasonal[1],) if seasonal else (0, 1)):
            w = filtered(x, differences(s, D, d))
            regressions = Regressions(w, s, order[::2], seasonal[::2])
            p, q, P, Q = regressions.best()
            start = regressions.start(p, q, P, Q)
            candidate = (p, d, q), (P, D, Q), s if P or D or Q else 1
            found = self._estimate(x, w[-RECENT:], *candidate, start, steps=10)
            nats = float(self.log_prob(validation.x).nats.mean())
            if nats > score:
                best, score = (x, w[-LONGEST:], *candidate, found), nats
        if best is not None:
            self._estimate(*best)
        return {"order": self.order, "seasonal": self.seasonal, "period": self.period}

    def _estimate(
        self,
        x: Tensor,
        w: Tensor,
        order: tuple[int, ...],
        seasonal: tuple[int, ...],
        s: int,
        start: Coefficients,
        *,
        steps: int = 50,
    ) -> Coefficients:
        """Maximum likelihood given the orders, from the differences w; the coefficients."""
        try:
            from statsmodels.tsa.statespace.sarimax import SARIMAX
        except ImportError:
            raise PangenError(
                "arima is fitted by statsmodels; get it with pip install 'pangen[series]'."
            ) from None
        (p, d, q), (P, D, Q) = order, seasonal
        free = int(d + D < 2)  # whether there is a mu
        model = SARIMAX(
            w.numpy(), order=(p, 0, q), seasonal_order=(P, 0, Q, s if P or Q else 0), trend="nc"[free]
        )
        mu = w.mean() * (1 - start.phi.sum()) * (1 - start.Phi.sum())
        first = torch.cat([mu.expand(free), *start, w.var().expand(1) / 2])
        fitted = model.fit(first.numpy(), disp=False, warn_convergence=False, maxiter=steps)
        constant, *found, variance = torch.from_numpy(fitted.params).split([free, p, q, P, Q, 1])
        found = Coefficients(*found).stable(1 - 1e-6)  # rounding leaves no root on the unit circle
        self.order, self.seasonal, self.period = order, seasonal, s
        self.phi, self.theta, self.Phi, self.Theta = (c.float() for c in found)
        self.mu = constant.sum(0, keepdim=True).float() / ((1 - self.phi.sum()) * (1 - self.Phi.sum()))
        self.sigma = variance[0].sqrt().float()
        self.start_from(x, d + D * s, self.sigma)
        return found


def polynomial(coefficients: Tensor, step: int) -> Tensor:
    """1 + c_1 B^step + c_2 B^(2 step) + .., float64."""
    found = torch.zeros(len(coefficients) * step + 1, dtype=torch.float64)
    found[0], found[step::step] = 1.0, exact(coefficients)
    return found


def autocovariance(ar: Tensor, ma: Tensor, n: int) -> Tensor:
    """At distances 0 .. n - 1, for sigma = 1: that of a_t = T a_{t-1} + R e_t, whose first entry is w_t (Harvey 1989)."""
    r = max(len(ar), len(ma) + 1)
    T, R = torch.diag(torch.ones(r - 1), 1).double(), torch.zeros(r, 1).double()
    T[: len(ar), 0], R[0], R[1 : len(ma) + 1, 0] = ar, 1.0, ma
    P, power = R @ R.T, T
    for _ in range(30):  # P = sum_i T^i R R^T T^i', twice as many terms each time
        P, power = P + power @ P @ power.T, power @ power
    gamma, g = [], P[:, 0]
    for _ in range(n):
        gamma.append(g[0])
        g = T @ g
    return torch.stack(gamma)
