"""Log-densities of several Gaussians at once, whole or of some of their dimensions."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def log_gaussians(x: Tensor, mean: Tensor, L: Tensor, seen: Tensor | None = None) -> Tensor:
    """log N(x; mu_k, L_k L_k^T) `(K, B)` of `x` `(B, D)`; L is `(K, D, D)`, or `(K, D)` where diagonal.

    With `seen` `(B, D)` bool, the density of those dimensions of each x, all others integrated out.
    """
    away = x[None] - mean[:, None]  # (K, B, D)
    away = away if seen is None else away * seen
    dims = x.shape[1] if seen is None else seen.sum(1)
    if L.dim() == 2:
        z, log_L = away / L[:, None], L.log()[:, None]
        log_det = (log_L if seen is None else log_L * seen).sum(-1)
    elif seen is None:
        z = torch.linalg.solve_triangular(L, away.mT, upper=False).mT
        log_det = L.diagonal(dim1=-2, dim2=-1).log().sum(-1)[:, None]
    else:
        parts = [_seen_part(*of_k, seen) for of_k in zip(away, L, strict=True)]
        z, log_det = (torch.stack(column) for column in zip(*parts, strict=True))
    return -0.5 * z.square().sum(-1) - 0.5 * dims * math.log(2 * math.pi) - log_det


def _seen_part(away: Tensor, L: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """z `(B, D)` and log-determinants `(B,)` of the covariances of what is seen."""
    # dimensions that are not seen become N(0, 1), apart from all others: they add nothing to either
    sigma = (L @ L.mT).double()
    both = seen[:, :, None] & seen[:, None]
    root = torch.linalg.cholesky(torch.where(both, sigma, torch.eye(len(L)).to(sigma)))
    z = torch.linalg.solve_triangular(root, away.double()[..., None], upper=False)[..., 0]
    return z.to(away), root.diagonal(dim1=-2, dim2=-1).log().sum(-1).to(away)
