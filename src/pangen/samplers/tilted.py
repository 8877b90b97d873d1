"""Densities that are a unit Gaussian times exp(-f): chains from the Gaussian, and normalising constants (Neal 2001)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pangen.model import last
from pangen.samplers.annealing import between, log_mean_exp, reverse_annealed_importance
from pangen.samplers.langevin import MALA, Independence
from pangen.samplers.mcmc import annealed_importance
from pangen.space import LogZ

FEW, DRAWS = 3, 2**16
"""Dimensions up to which Z is a mean over so many draws of the Gaussian."""


@dataclass(frozen=True)
class FromNormal:
    """N(u; 0, I) exp(-beta f(u)), f the `tilt`: the path of annealing from a Gaussian (beta 0) to a model.

    A move is a MALA step and a proposal from the Gaussian.
    """

    tilt: Callable[[Tensor], Tensor]
    shape: tuple[int, ...]
    step: Tensor
    """Of MALA at beta = 1; it is step^beta before, as the unit Gaussian takes steps of about 1."""
    beta: float = 1.0

    @property
    def log_z0(self) -> Tensor:
        return torch.zeros_like(self.step)

    def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.beta * self.tilt(x) + x.flatten(1).square().sum(1) / 2

    def start(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.randn(n, *self.shape, generator=generator, device=self.step.device)

    def log_ratio(self, x: Tensor, beta: float, following: float) -> Tensor:
        return (beta - following) * self.tilt(x)

    def move(self, x: Tensor, beta: float, generator: torch.Generator | None) -> Tensor:
        at = replace(self, beta=beta)
        x = last(MALA(self.step**beta)(at, x, generator=generator)).x
        return last(Independence()(at, x, generator=generator)).x


@torch.no_grad()
def advance(path: FromNormal, x: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Chains `(n, *shape)` after some MALA steps at beta = 1 and a proposal from the Gaussian, and the share of steps taken `()`."""
    taken = []
    for state in MALA(path.step, steps)(path, x, generator=None):
        x = state.x
        taken.append(state.accepted.float().mean())
    return last(Independence()(path, x, generator=None)).x, torch.stack(taken).mean()


@torch.no_grad()
def tilted_log_z(
    path: FromNormal,
    tilts: Callable[[Tensor], Tensor],
    x: Tensor,
    temperatures: int,
    generator: torch.Generator,
) -> LogZ:
    """log Z of each of the `tilts` `(classes,)`; that of `path` is all of them together.

    In few dimensions by importance sampling from the Gaussian, which is annealing in one step. Else
    annealed, back from samples `x` of the model `(n, *shape)`, with Z_y = Z E[p(y given x)].
    """
    if math.prod(path.shape) <= FEW:
        mean, error = log_mean_exp(-tilts(path.start(DRAWS, generator)).T)
        return LogZ(mean, mean - 2 * error, mean + 2 * error)
    forward = annealed_importance(path, len(x), temperatures, generator)
    back = reverse_annealed_importance(path, x, temperatures, generator)
    shares = (-tilts(x)).log_softmax(1).logsumexp(0) - math.log(len(x))
    return between(forward[None], back[None]).plus(shares)
