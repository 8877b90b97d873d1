"""The last step of a chain: from the least noise to the data's own values."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pangen.samplers.denoise import precise
from pangen.space import Space


def log_last(space: Space, x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """log p(x0 given x_1) of each dimension, around the estimate from x_1 and with its error's scale."""
    if space.kind == "binary":  # the mean of a bit is its probability
        p = mean.clamp(1e-4, 1 - 1e-4)
        return torch.where(x > 0.5, p, 1 - p).log()
    if not space.is_grid:
        return -0.5 * ((x - mean) / std).square() - std.log() - 0.5 * math.log(2 * math.pi)
    half = 1 / (space.levels - 1)  # Ho et al. 2020, Eq. 13: each level's cell, the outer ones unbounded
    above = torch.where(x > 1 - half, torch.inf, (x + half - mean) / std)
    below = torch.where(x < -1 + half, -torch.inf, (x - half - mean) / std)
    flip = below > 0  # in the lower tail the difference keeps its digits
    above, below = torch.where(flip, -below, above), torch.where(flip, -above, below)
    upper, lower = torch.special.log_ndtr(precise(above)), torch.special.log_ndtr(precise(below))
    return (upper + torch.log1p(-(lower - upper).exp())).to(x.dtype)
