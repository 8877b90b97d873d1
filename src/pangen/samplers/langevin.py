"""Markov chains over real values that follow an energy's gradient: Langevin, MALA, HMC, tempering.

Each sampler is called with a model that has an energy and a state `(n, *shape)`, and yields the
state after each transition. The n chains are independent, and all noise is the generator's (None:
the global one's), so a chain is a function of its own start and of its own row of the noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from pangen.capabilities import HasEnergy
from pangen.model import last


class State(NamedTuple):
    """Where the chains stand: `x` `(n, *shape)`, their energies `(n,)`, and whose last proposal was taken `(n,)`."""

    x: Tensor
    energy: Tensor
    accepted: Tensor


@dataclass(frozen=True)
class Langevin:
    """Unadjusted Langevin: x' = x - step grad E(x) + sqrt(2 step) noise (Parisi 1981).

    It has no rejections and a bias: on a Gaussian of precision a, the variance is
    1 / (a (1 - a step / 2)) instead of 1 / a.
    """

    step: float | Tensor
    """Time step, in squared units of x; one number, or one for each chain `(n,)`."""
    steps: int = 1

    def __call__(
        self, model: HasEnergy, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None
    ) -> Iterator[State]:
        taken = torch.ones(len(x), dtype=torch.bool, device=x.device)
        step = _column(self.step, x)
        energy, slope = gradient(model, x, y)
        for _ in range(self.steps):
            x = x - step * slope + (2 * step).sqrt() * _normal(x, generator)
            energy, slope = gradient(model, x, y)
            yield State(x, energy, taken)

    def heated(self, beta: Tensor) -> Langevin:
        """The sampler with its step fit for the energy times `beta`."""
        return replace(self, step=self.step / beta)


@dataclass(frozen=True)
class MALA:
    """Metropolis-adjusted Langevin (Rossky et al. 1978; Roberts and Tweedie 1996): exact for any step.

    About 0.57 of the proposals taken is best in many dimensions (Roberts and Rosenthal 1998).
    """

    step: float | Tensor
    """As `Langevin.step`."""
    steps: int = 1

    def __call__(
        self, model: HasEnergy, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None
    ) -> Iterator[State]:
        step = _column(self.step, x)
        energy, slope = gradient(model, x, y)
        for _ in range(self.steps):
            noise = _normal(x, generator)
            proposal = x - step * slope + (2 * step).sqrt() * noise
            following, following_slope = gradient(model, proposal, y)
            # log q(x' given x) = -|noise|^2 / 2, and back -|x - x' + step grad E(x')|^2 / (4 step)
            back = (x - proposal + step * following_slope) / (2 * step).sqrt()
            log_ratio = energy - following + (_square(noise) - _square(back)) / 2
            taken = _accept(log_ratio, generator)
            x, slope = _where(taken, proposal, x), _where(taken, following_slope, slope)
            energy = torch.where(taken, following, energy)
            yield State(x, energy, taken)

    def heated(self, beta: Tensor) -> MALA:
        """The sampler with its step fit for the energy times `beta`."""
        return replace(self, step=self.step / beta)


@dataclass(frozen=True)
class HMC:
    """Hamiltonian Monte Carlo with unit masses and the leapfrog scheme (Duane et al. 1987; Neal 2011).

    About 0.65 of the proposals taken is best in many dimensions (Beskos et al. 2013).
    """

    step: float | Tensor
    """Time step, in units of x; one number, or one for each chain `(n,)`."""
    leapfrog: int = 10
    """Steps of the integrator in a transition."""
    steps: int = 1

    def __call__(
        self, model: HasEnergy, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None
    ) -> Iterator[State]:
        step = _column(self.step, x)
        energy, slope = gradient(model, x, y)
        for _ in range(self.steps):
            momentum = _normal(x, generator)
            proposal, thrown, following, following_slope = leapfrog(
                lambda at: gradient(model, at, y), x, momentum, slope, step, self.leapfrog
            )
            log_ratio = energy - following + (_square(momentum) - _square(thrown)) / 2
            taken = _accept(log_ratio, generator)
            x, slope = _where(taken, proposal, x), _where(taken, following_slope, slope)
            energy = torch.where(taken, following, energy)
            yield State(x, energy, taken)

    def heated(self, beta: Tensor) -> HMC:
        """The sampler with its step fit for the energy times `beta`."""
        return replace(self, step=self.step / beta.sqrt())


def leapfrog(
    slope_at: Callable[[Tensor], tuple[Tensor, Tensor]],
    x: Tensor,
    momentum: Tensor,
    slope: Tensor,
    step: float | Tensor,
    steps: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Position, momentum, energy `(n,)` and its gradient after `steps` steps; reversible, second order.

    `slope` is the gradient at `x`; `slope_at` gives the energy and the gradient elsewhere.
    """
    for _ in range(steps):
        momentum = momentum - step / 2 * slope
        x = x + step * momentum
        energy, slope = slope_at(x)
        momentum = momentum - step / 2 * slope
    return x, momentum, energy, slope


@dataclass(frozen=True)
class Independence:
    """Metropolis with proposals that ignore the state: N(0, scale^2 I) (Hastings 1970; Tierney 1994).

    Carries chains between modes that no gradient connects, where the dimensions are few.
    """

    scale: float = 1.0
    steps: int = 1

    def __call__(
        self, model: HasEnergy, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None
    ) -> Iterator[State]:
        with torch.no_grad():
            energy = model.energy(x, y)
        for _ in range(self.steps):
            proposal = self.scale * _normal(x, generator)
            with torch.no_grad():
                following = model.energy(proposal, y)
            log_ratio = energy - following + (_square(proposal) - _square(x)) / (2 * self.scale**2)
            taken = _accept(log_ratio, generator)
            x, energy = _where(taken, proposal, x), torch.where(taken, following, energy)
            yield State(x, energy, taken)


@dataclass(frozen=True)
class Tempering:
    """Parallel tempering: chains of beta E swap states with their neighbours (Geyer 1991).

    Yields the chains of beta = 1 after each round; `accepted` tells whose swap with the next hotter
    chain was taken.
    """

    move: Langevin | MALA | HMC
    """Runs between swaps, its step fit to beta = 1."""
    betas: tuple[float, ...]
    """Inverse temperatures, falling from 1."""
    rounds: int = 1

    def __call__(
        self, model: HasEnergy, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None
    ) -> Iterator[State]:
        n, count = len(x), len(self.betas)
        betas = torch.tensor(self.betas, dtype=x.dtype, device=x.device)
        x, y = torch.cat([x] * count), None if y is None else torch.cat([y] * count)
        hot = _Heated(model, betas.repeat_interleave(n))
        move = self.move.heated(hot.beta)
        for _ in range(self.rounds):
            x, energy, _ = last(move(hot, x, y, generator=generator))
            x, energy = x.unflatten(0, (count, n)).clone(), (energy / hot.beta).view(count, n)
            taken = torch.ones(count - 1, n, dtype=torch.bool, device=x.device)
            for first in (0, 1):
                cold, warm = slice(first, count - 1, 2), slice(first + 1, count, 2)
                log_ratio = (betas[cold] - betas[warm])[:, None] * (energy[cold] - energy[warm])
                taken[cold] = swap = _accept(log_ratio, generator)
                x[cold], x[warm] = _where(swap, x[warm], x[cold]), _where(swap, x[cold], x[warm])
                energy[cold], energy[warm] = (
                    torch.where(swap, energy[warm], energy[cold]),
                    torch.where(swap, energy[cold], energy[warm]),
                )
            yield State(x[0], energy[0], taken[0])
            x = x.flatten(0, 1)


@dataclass(frozen=True)
class _Heated:
    model: HasEnergy
    beta: Tensor

    def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.beta * self.model.energy(x, y)


def gradient(model: HasEnergy, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Energies `(n,)` and their gradients `(n, *shape)` at `x`, both cut from the graph."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        energy = model.energy(x, y)
        (slope,) = torch.autograd.grad(energy.sum(), x)
    return energy.detach(), slope


def _normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)


def _accept(log_ratio: Tensor, generator: torch.Generator | None) -> Tensor:
    """True with probability min(1, exp(log_ratio)); an energy that is not a number is refused."""
    u = torch.rand(log_ratio.shape, generator=generator, device=log_ratio.device, dtype=log_ratio.dtype)
    return u.log() < log_ratio


def _column(step: float | Tensor, x: Tensor) -> Tensor:
    """A step for each row, of a shape that broadcasts over `x`."""
    return torch.as_tensor(step, dtype=x.dtype, device=x.device).view(-1, *[1] * (x.dim() - 1))


def _where(taken: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(taken.view(*taken.shape, *[1] * (a.dim() - taken.dim())), a, b)


def _square(x: Tensor) -> Tensor:
    return x.flatten(1).square().sum(1)
