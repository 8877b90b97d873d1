"""Markov chains along a path of densities: annealed importance sampling for normalising constants."""

from __future__ import annotations

from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor


def binomial(p: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
    """Successes among `count` trials of probability `p`, elementwise; of the dtype of `p`."""
    if count == 1:
        return (torch.rand(p.shape, generator=generator, device=p.device, dtype=p.dtype) < p).to(p.dtype)
    hits = torch.zeros_like(p)
    block = max(1, min(count, 2**22 // max(p.numel(), 1)))  # trials held in memory at once
    for start in range(0, count, block):
        trials = (min(block, count - start), *p.shape)
        hits += (torch.rand(trials, generator=generator, device=p.device, dtype=p.dtype) < p).sum(0)
    return hits


class Annealed(Protocol):
    """Unnormalised densities p_beta from one with a known constant (beta 0) to that asked for (beta 1)."""

    @property
    def log_z0(self) -> Tensor:
        """Log normalising constant at beta = 0 `()`."""
        ...

    def start(self, n: int, generator: torch.Generator) -> Tensor:
        """`n` exact samples `(n, dims)` at beta = 0."""
        ...

    def log_ratio(self, x: Tensor, beta: float, following: float) -> Tensor:
        """log p_following(x) - log p_beta(x) `(n,)`."""
        ...

    def move(self, x: Tensor, beta: float, generator: torch.Generator | None) -> Tensor:
        """One step `(n, dims)` of a Markov chain that leaves p_beta invariant."""
        ...


def annealed_importance(path: Annealed, n: int, temperatures: int, generator: torch.Generator) -> Tensor:
    """Log importance weights `(n,)`; the mean of their exponentials estimates Z (Neal 2001).

    The estimate of Z is unbiased, so that of log Z is too low on average. Temperatures lie denser
    towards beta = 1, where modes part and the weights vary most.
    """
    x = path.start(n, generator)
    log_w = torch.zeros(n, device=x.device)
    betas = (1 - torch.linspace(1, 0, max(temperatures, 2), dtype=torch.float64) ** 2).tolist()
    for beta, following in pairwise(betas):
        log_w += path.log_ratio(x, beta, following)
        x = path.move(x, following, generator)
    return path.log_z0 + log_w
