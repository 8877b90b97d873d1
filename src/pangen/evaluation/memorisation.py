"""Near-copies: samples nearer to a training example than unseen real data almost ever are."""

from __future__ import annotations

import torch
from torch import Tensor

ALPHA = 0.01
"""Share of unseen real examples that the threshold calls near-copies."""
ROWS = 256
FEW = 64
"""Dimensions up to which distances are computed without matrix products."""


def nearest_distances(x: Tensor, train: Tensor) -> Tensor:
    """Distance `(N,)` of each row of `x` `(N, d)` to its nearest row of `train` `(M, d)`; 0 if equal."""
    # by matrix products a distance loses digits, the fewer the nearer the rows are to the origin
    centre = train.mean(0)
    x, train = x - centre, train - centre
    mode = "donot_use_mm_for_euclid_dist" if x.shape[1] <= FEW else "use_mm_for_euclid_dist"
    nearest = [torch.cdist(part, train, compute_mode=mode).argmin(1) for part in x.split(ROWS)]
    return torch.linalg.vector_norm(x - train[torch.cat(nearest)], dim=1)


def copy_threshold(held_out: Tensor, train: Tensor, alpha: float = ALPHA) -> float:
    """The alpha-quantile of nearest distances from held-out real examples to training examples."""
    return float(torch.quantile(nearest_distances(held_out, train), alpha))


def near_copies(samples: Tensor, train: Tensor, threshold: float) -> Tensor:
    """Which samples are near-copies, `(N,)` bool."""
    return nearest_distances(samples, train) < threshold
