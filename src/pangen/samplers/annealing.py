"""Annealed importance sampling from both ends: a normalising constant between two bounds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from pangen.model import last
from pangen.samplers.mcmc import Annealed, annealed_importance


def annealed_walk(path: Annealed, n: int, sweeps: int, generator: torch.Generator) -> Iterator[Tensor]:
    """`n` chains of the model, beta rising from 0 to 1 over the first half of the sweeps."""
    x = path.start(n, generator)
    for i in range(sweeps):
        yield (x := path.move(x, min(1.0, 2 * (i + 1) / sweeps), generator))


def gibbs_walk(path: Annealed, n: int, sweeps: int, generator: torch.Generator) -> Iterator[Tensor]:
    """`n` chains of the model from where the path starts, at beta = 1 throughout."""
    x = path.start(n, generator)
    for _ in range(sweeps):
        yield (x := path.move(x, 1.0, generator))


class LogZ(NamedTuple):
    """Estimates of log Z that are too low, and too high, on average."""

    low: Tensor
    high: Tensor

    @property
    def pessimistic(self) -> Tensor:
        """The end that never flatters a likelihood."""
        return torch.maximum(self.low, self.high)


def reverse_annealed_importance(
    path: Annealed, x: Tensor, temperatures: int, generator: torch.Generator
) -> Tensor:
    """Log weights `(n,)` of the way back from samples `x` at beta = 1 (Burda et al. 2015).

    The mean of exp(-weight) estimates 1 / Z without bias if `x` are exact samples, so that log Z
    is too high on average.
    """
    log_w = torch.zeros(len(x), device=x.device)
    betas = torch.linspace(0, 1, temperatures, dtype=torch.float64).tolist()
    for following, beta in pairwise(betas[::-1]):
        log_w += path.log_ratio(x, beta, following)
        x = path.move(x, beta, generator)
    return path.log_z0 + log_w


def log_z_interval(path: Annealed, x: Tensor, temperatures: int, generator: torch.Generator) -> LogZ:
    """Both ends, with as many chains as there are samples `x` of the model."""
    forward = annealed_importance(path, len(x), temperatures, generator)
    back = reverse_annealed_importance(path, x, temperatures, generator)
    log_n = math.log(len(x))
    return LogZ(forward.logsumexp(0) - log_n, log_n - (-back).logsumexp(0))


@torch.no_grad()
def estimate_log_z(
    path: Annealed,
    chains: int,
    temperatures: int,
    generator: torch.Generator,
    samples: Iterator[Tensor] | None = None,
) -> Tensor:
    """log Z as a likelihood should have it: the pessimistic end of the interval.

    `samples` are the states of `chains` Markov chains, the last of them samples of the model.
    Without them the estimate is one-sided, at a fifth of the temperatures: enough to rank weights.
    """
    if samples is None:
        log_w = annealed_importance(path, chains, max(temperatures // 5, 2), generator)
        return log_w.logsumexp(0) - math.log(chains)
    return log_z_interval(path, last(samples), temperatures, generator).pessimistic
