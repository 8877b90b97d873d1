"""FFJORD: a continuous flow (Grathwohl et al. 2019), after neural differential equations (Chen et al. 2018).

An example is carried by dz/dt = f(z, t) from noise at t = 0 to data at t = 1. Its log-density falls
by the trace of df/dz on the way: exact in few dimensions, beyond them Hutchinson's estimate, whose
noise is drawn once for a solve. Likelihoods and samples come from an adaptive solver that keeps a
step size for each example. Training differentiates through a few fixed steps, and a penalty on
speed and Jacobian keeps paths straight enough for them (Finlay et al. 2020), where the paper solves
an adjoint equation. The data are standardised first by an affine map that is learnt with the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from pangen.model import GenerativeModel
from pangen.networks.bijections import actnorm, make_base
from pangen.networks.dynamics import Dynamics
from pangen.networks.labels import hide
from pangen.samplers.interpolation import spherical
from pangen.samplers.ode import DormandPrince, RungeKutta4, Solver
from pangen.settings import Count, Natural, NonNegative, Positive, Share
from pangen.space import Batch, LogProb, Loss, Progress, Space


class FFJORD(GenerativeModel):
    """log p(z(1)) = log N(z(0); 0, I) - integral of tr(df/dz) from 0 to 1 (Eq. 3).

    "Exact" is exact up to `tolerance`.

    Args:
        width: units of a layer of f; convolutions have a sixteenth as many channels.
        depth: hidden layers of f.
        exact: dimensions up to which the trace is computed, not estimated.
        probes: of Hutchinson's estimate in a likelihood; training takes one.
        tolerance: of a step of the adaptive solver, absolute and relative; in float32 at least 1e-6.
        train_steps: of the fixed solver in training; 0: the adaptive one.
        kinetic: weight of the squared speed along the path.
        jacobian: weight of the squared Frobenius norm of df/dz along the path.
        unlabelled: share of labels hidden in training, so that p(x) is learnt beside p(x given y).
    """

    training_defaults: ClassVar[dict[str, Any]] = {
        "lr": 3e-3, "betas": (0.9, 0.999), "clip": 10.0, "ema": 0.998,
    }  # fmt: skip

    def __init__(
        self,
        space: Space,
        *,
        width: Count = 64,
        depth: Count = 3,
        exact: Natural = 8,
        probes: Count = 4,
        tolerance: Positive = 1e-5,
        train_steps: Natural = 4,
        kinetic: NonNegative = 0.02,
        jacobian: NonNegative = 0.01,
        unlabelled: Share = 0.1,
    ) -> None:
        super().__init__(space)
        self.exact, self.probes, self.unlabelled = space.dims <= exact, probes, unlabelled
        self.kinetic, self.jacobian = kinetic, jacobian
        self.base, self.standardise = make_base("normal", space.shape), actnorm(space.shape)
        self.latent_space = Space("real", (space.dims,))
        self.f = Dynamics(space, width, depth)
        self.adaptive = DormandPrince(tolerance)
        self.fixed = RungeKutta4(train_steps) if train_steps else self.adaptive

    @torch.no_grad()
    def initialize(self, batch: Batch) -> None:
        self.standardise.initialize(batch.x)

    def directions(self, z: Tensor, probes: int, generator: torch.Generator | None) -> Tensor:
        """Unit vectors e_d, whose e_d.J e_d add up to the trace, or random signs for which it is the mean."""
        if self.exact:
            units = torch.eye(self.space.dims, dtype=z.dtype, device=z.device)
            return units.view(-1, 1, *self.space.shape).expand(-1, len(z), *self.space.shape)
        signs = torch.randint(2, (probes, *z.shape), generator=generator, device=z.device)
        return (2 * signs - 1).to(z.dtype)

    def carry(self, z: Tensor, y: Tensor | None, start: float, end: float) -> Tensor:
        """z(end) from z(start)."""

        def f(state: Tensor, t: Tensor) -> Tensor:
            return self.f(state.view_as(z), t, y)[0].flatten(1)

        return self.adaptive(f, z.flatten(1), start, end).view_as(z)

    def back(
        self, z1: Tensor, y: Tensor | None, v: Tensor, by: Solver, *, penalised: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """z(0), the integral of the trace from 0 to 1 `(B,)`, and that of the penalty (Eqs. 4 and 8)."""
        D, share = self.space.dims, 1.0 if self.exact else 1 / len(v)

        def augmented(state: Tensor, t: Tensor) -> Tensor:
            f, Jv = self.f(state[:, :D].view_as(z1), t, y, v)
            trace = share * (v * Jv).sum(0).flatten(1).sum(1)
            rates = [-trace]  # all integrals run from 1 to 0
            if penalised:
                speed, norm = f.square().flatten(1).sum(1), share * Jv.square().sum(0).flatten(1).sum(1)
                rates.append(-self.kinetic * speed - self.jacobian * norm)
            return torch.cat([f.flatten(1), torch.stack(rates, 1)], 1)

        start = torch.cat([z1.flatten(1), z1.new_zeros(len(z1), 1 + penalised)], 1)
        state = by(augmented, start, 1.0, 0.0)
        return state[:, :D].reshape(z1.shape), state[:, D], state[:, -1]

    def _nats(
        self, x: Tensor, y: Tensor | None, v: Tensor, by: Solver, *, penalised: bool = False
    ) -> tuple[Tensor, Tensor]:
        z1, log_scale = self.standardise(x)
        z0, trace, penalty = self.back(z1, y, v, by, penalised=penalised)
        return self.base.log_prob(z0) - trace + log_scale, penalty

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        x, y = batch.x, hide(batch.y, self.space, self.unlabelled)
        nats, penalty = self._nats(x, y, self.directions(x, 1, None), self.fixed, penalised=True)
        nll, penalty = -nats.mean(), penalty.mean()
        return Loss(nll + penalty, {"nll": nll, "penalty": penalty})

    def log_prob(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> LogProb:
        nats, _ = self._nats(x, y, self.directions(x, self.probes, generator), self.adaptive)
        return LogProb(nats, "exact" if self.exact else "estimate")

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """z(0) `(B, dims)`."""
        return self.carry(self.standardise(x)[0], y, 1.0, 0.0).flatten(1)

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """x `(B, *shape)`."""
        return self.standardise.inverse(self.carry(z.view(-1, *self.space.shape), y, 0.0, 1.0))

    def interpolate(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        """On the sphere, near which normal codes lie."""
        return spherical(a, b, t)

    def trajectory(self, n: int, y: Tensor | None = None, *, generator: torch.Generator) -> Iterator[Tensor]:
        """Noise, and the data it is carried to."""
        z = self.base.sample(n, generator)
        yield z
        yield self.decode(z.flatten(1), y)
