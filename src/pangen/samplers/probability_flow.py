"""The probability-flow equation of a denoiser: the path without noise through the same laws at every level.

In u = log sigma it reads dx/du = x - D(x, sigma) (Song et al. 2021b, Eq. 13; Karras et al. 2022, Eq. 1 and 3).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pangen.capabilities import HasDenoiser
from pangen.samplers.denoise import denoised, precise
from pangen.samplers.ode import Solver


def carry(
    model: HasDenoiser, x: Tensor, y: Tensor | None, by: Solver, *, start: float, end: float, like: Tensor
) -> Tensor:
    """The state `(n, *shape)` at noise `end` of the path through `x` at `start`.

    The model is asked in the type of `like`.
    """

    def slope(state: Tensor, u: Tensor) -> Tensor:
        here = state.view_as(x)
        return (here - denoised(model, here, u.exp(), y, like)).flatten(1)

    return by(slope, x.flatten(1), math.log(start), math.log(end)).view_as(x)


def log_density(model: HasDenoiser, x: Tensor, y: Tensor | None, v: Tensor, by: Solver) -> Tensor:
    """Nats `(n,)` of `x` under the law that the path carries N(0, sigma_max^2) to, at sigma_min.

    It is the density where the path ends, more the integral over u of the divergence on the way, which
    is the number of dimensions less the trace of dD/dx. `v` `(k, n, *shape)` are directions whose v.J v
    average to that trace: the unit vectors times sqrt(k), or random signs.
    """
    n, dims, k = len(x), x[0].numel(), len(v)
    high = model.sigma_max
    every = None if y is None else y.repeat(k, *[1] * (y.ndim - 1))

    def slope(state: Tensor, u: Tensor) -> Tensor:
        with torch.enable_grad():
            here = state[:, :dims].reshape(x.shape).repeat(k, *[1] * (x.ndim - 1)).requires_grad_()
            found = denoised(model, here, u.exp().repeat(k), every, x)
            (vJ,) = torch.autograd.grad(found, here, v.flatten(0, 1).to(found))
        trace = (vJ.view(v.shape) * v).flatten(2).sum(2).mean(0)
        moved = (here[:n] - found[:n]).detach().flatten(1)
        return torch.cat([moved, (dims - trace)[:, None]], 1)

    start = precise(x).flatten(1)
    state = torch.cat([start, start.new_zeros(n, 1)], 1)
    state = by(slope, state, math.log(model.sigma_min), math.log(high))
    e, integral = state[:, :dims] / high, state[:, dims]
    prior = -e.square().sum(1) / 2 - dims * math.log(high * math.sqrt(2 * math.pi))
    return (prior + integral).to(x.dtype)


def directions(x: Tensor, probes: int, generator: torch.Generator | None) -> Tensor:
    """What `log_density` takes for `x`, `(k, B, *shape)`: without probes unit vectors, which make the trace exact, else signs."""
    if not probes:
        dims = x[0].numel()
        units = math.sqrt(dims) * torch.eye(dims, dtype=x.dtype, device=x.device)
        return units.view(dims, 1, *x.shape[1:]).expand(dims, *x.shape)
    signs = torch.randint(2, (probes, *x.shape), generator=generator, device=x.device)
    return (2 * signs - 1).to(x.dtype)
