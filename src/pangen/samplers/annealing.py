"""Annealed importance sampling from both ends: a normalising constant between two bounds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from pangen.samplers.mcmc import Annealed, annealed_importance
from pangen.space import LogZ


def annealed_walk(path: Annealed, n: int, sweeps: int, generator: torch.Generator) -> Iterator[Tensor]:
    """`n` chains `(n, dims)` of the model, beta rising from 0 to 1 over the first half of the sweeps."""
    x = path.start(n, generator)
    for i in range(sweeps):
        yield (x := path.move(x, min(1.0, 2 * (i + 1) / sweeps), generator))


def gibbs_walk(path: Annealed, n: int, sweeps: int, generator: torch.Generator) -> Iterator[Tensor]:
    """`n` chains `(n, dims)` of the model from where the path starts, at beta = 1 throughout: block Gibbs, for layers."""
    x = path.start(n, generator)
    for _ in range(sweeps):
        yield (x := path.move(x, 1.0, generator))


def tempered_walk(
    path: Annealed, x: Tensor, betas: list[float], sweeps: int, generator: torch.Generator | None
) -> Iterator[Tensor]:
    """Parallel tempering (Geyer 1991) along a path: states `(len(betas), n, dims)`, a chain for each beta.

    Before each move the chains of neighbouring betas swap states, even pairs and then odd ones, with
    probability min(1, p_i(x_j) p_j(x_i) / (p_i(x_i) p_j(x_j))). A move comes last, because of what a
    path sums out of its density a swapped state brings what fits another beta.
    """
    for _ in range(sweeps):
        x = x.clone()
        for first in (0, 1):
            for i in range(first, len(betas) - 1, 2):
                here, there = betas[i], betas[i + 1]
                log_ratio = path.log_ratio(x[i], here, there) + path.log_ratio(x[i + 1], there, here)
                u = torch.rand(log_ratio.shape, generator=generator, device=x.device)
                swap = (u.log() < log_ratio)[:, None]
                x[i], x[i + 1] = torch.where(swap, x[i + 1], x[i]), torch.where(swap, x[i], x[i + 1])
        x = torch.stack([path.move(x[i], beta, generator) for i, beta in enumerate(betas)])
        yield x


def reverse_annealed_importance(
    path: Annealed, x: Tensor, temperatures: int, generator: torch.Generator
) -> Tensor:
    """Log weights `(n,)` of the way back from samples `x` at beta = 1 (Burda et al. 2015).

    The mean of exp(-weight) estimates 1 / Z without bias if `x` are exact samples, so that log Z
    is too high on average.
    """
    log_w = torch.zeros(len(x), device=x.device)
    betas = torch.linspace(0, 1, max(temperatures, 2), dtype=torch.float64).tolist()
    for following, beta in pairwise(betas[::-1]):
        log_w += path.log_ratio(x, beta, following)
        x = path.move(x, beta, generator)
    return path.log_z0 + log_w


@torch.no_grad()
def log_z_interval(
    path: Annealed, x: Tensor, temperatures: int, generator: torch.Generator, groups: int = 1
) -> LogZ:
    """log Z `(groups,)` from as many chains each way as there are samples `x` of the model.

    Rows of `x` come in `groups` of equal size, for as many constants. See `between`.
    """
    forward = annealed_importance(path, len(x), temperatures, generator)
    back = reverse_annealed_importance(path, x, temperatures, generator)
    return between(forward.view(groups, -1), back.view(groups, -1))


def between(forward: Tensor, back: Tensor) -> LogZ:
    """log Z `(groups,)` from log weights `(groups, n)` of annealing forward and back.

    The value is Bennett's (1976) acceptance ratio, the z with mean sigmoid(forward - z) = mean
    sigmoid(z - back). The bounds are what either direction gives by itself, too low forward and too
    high back on average, widened by two standard errors. Chains that started back from where the
    model is not can give less than those forward: then the mean of their log weights is the upper
    bound, which no few of them can pull down.
    """
    forward, back, n = forward.double(), back.double(), forward.shape[1]
    low, low_error = log_mean_exp(forward)
    high, high_error = log_mean_exp(-back)
    high = -high
    unmixed = high + 2 * high_error < low - 2 * low_error
    high = torch.where(unmixed, back.mean(1), high).maximum(low)
    high_error = torch.where(unmixed, back.std(1) / math.sqrt(n), high_error)
    left, right = torch.minimum(forward, back).amin(1), torch.maximum(forward, back).amax(1)
    for _ in range(60):  # the equation's left side falls with z, its right side rises
        z = (left + right) / 2
        above = (forward - z[:, None]).sigmoid().mean(1) < (z[:, None] - back).sigmoid().mean(1)
        left, right = torch.where(above, left, z), torch.where(above, z, right)
    low, high = low - 2 * low_error, high + 2 * high_error
    return LogZ(z.clamp(low, high).float(), low.float(), high.float())


def log_mean_exp(log_w: Tensor) -> tuple[Tensor, Tensor]:
    """Of each row of `(groups, n)`, and its standard error, `(groups,)` each."""
    mean = log_w.logsumexp(1) - math.log(log_w.shape[1])
    return mean, (log_w - mean[:, None]).exp().std(1) / math.sqrt(log_w.shape[1])
