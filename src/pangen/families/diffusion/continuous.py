"""Likelihood by the probability flow, for members whose time is continuous (Song et al. 2021b, Section 4.3)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pangen.families.diffusion.last_step import log_last
from pangen.families.diffusion.weighted import Weighted
from pangen.samplers.ode import DormandPrince
from pangen.samplers.probability_flow import directions, log_density
from pangen.space import LogProb, Space, Trust, weaker


class Continuous(Weighted):
    """`log_prob` follows the probability flow from the data to noise.

    The trace of its divergence is computed in up to `exact` dimensions, beyond them estimated with one
    random direction (Hutchinson 1989); both up to the solver's tolerance. Of levels, whose density has
    no bounds, the flow gives the law of z = x + sigma_min e: log P(x) >= E[log p(z) + log p(x given z)
    - log q(z given x)], taken at one draw of e.

    Args:
        space: of the examples.
        exact: dimensions up to which the trace is computed.
        settings: of `Weighted`.
    """

    def __init__(self, space: Space, *, exact: int, **settings: Any) -> None:
        super().__init__(space, **settings)
        self.probes = 0 if space.dims <= exact else 1

    def log_prob(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> LogProb:
        kind: Trust = "estimate" if self.probes else "exact"
        v = directions(x, self.probes, generator)
        if not self.space.levels:
            return LogProb(self._flow(x, y, v), kind)
        e = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        sigma = x.new_full((len(x),), self.sigma_min)
        z = x + self.sigma_min * e
        entropy = e.square() / 2 + math.log(self.sigma_min * math.sqrt(2 * math.pi))  # -log q(z given x)
        last = log_last(self.space, x, self.denoise(z, sigma, y), self.error(sigma[0]).sqrt())
        return LogProb(self._flow(z, y, v) + (entropy + last).flatten(1).sum(1), weaker(kind, "lower bound"))

    def _flow(self, x: Tensor, y: Tensor | None, v: Tensor) -> Tensor:
        loose = 10 if self.probes else 1  # an estimate's noise is far more than the solver's error
        return log_density(self, x, y, v, DormandPrince(loose * self.tolerance))
