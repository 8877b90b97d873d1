"""Have the chains mixed: effective sample size and R-hat of what they visited.

Draws are `(chains, draws, *features)`; each feature is judged alone, all at once, in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from pangen.errors import DivergedError
from pangen.samplers.langevin import State
from pangen.space import Progress


class Mixing(NamedTuple):
    """What is known of a sampler's run: taken proposals, and the worst of the features watched."""

    acceptance: float
    """Share of the proposals that were taken."""
    effective_sample_size: float
    """Independent draws that would tell as much, of all chains together."""
    r_hat: float
    """Above 1.01 the chains have not mixed (Vehtari et al. 2021)."""


def mixing(states: Iterator[State], watch: Callable[[Tensor], Tensor] = lambda x: x.flatten(1)) -> Mixing:
    """Run chains to their end and judge the features `watch(x)` `(n, features)`, and the energy."""
    traces, accepted = [], []
    for state in states:
        seen = watch(state.x).detach().double()
        traces.append(torch.cat([seen, state.energy.detach().double()[:, None]], 1))
        accepted.append(state.accepted.double().mean())
    return judged(torch.stack(traces, 1), float(torch.stack(accepted).mean()))


def judged(draws: Tensor, acceptance: float) -> Mixing:
    """The worst of the features of draws `(chains, draws, features)`."""
    return Mixing(acceptance, float(effective_sample_size(draws).min()), float(r_hat(draws).max()))


def effective_sample_size(draws: Tensor) -> Tensor:
    """Number of independent draws with the same standard error of the mean, `(*features)`.

    Autocorrelations of all chains together (Vehtari et al. 2021, Eq. 10), summed by Geyer's (1992)
    initial monotone positive sequence. A feature that never moves has none.
    """
    chains, length = draws.shape[:2]
    x = draws.double()
    centred = x - x.mean(1, keepdim=True)
    spectrum = torch.fft.rfft(centred, n=2 * length, dim=1).abs().square()
    covariance = torch.fft.irfft(spectrum, n=2 * length, dim=1)[:, :length].mean(0) / length
    within = covariance[0] * length / (length - 1)
    total = covariance[0] + (x.mean(1).var(0) if chains > 1 else 0)
    rho = 1 - (within - covariance * length / (length - 1)) / total
    rho[0] = 1
    pairs = rho[: length // 2 * 2].unflatten(0, (-1, 2)).sum(1)
    positive = (pairs > 0).cumprod(0)
    time = 2 * (pairs.cummin(0).values * positive).sum(0) - 1
    # chains that swing around their mean tell more than independent draws, but not without bound
    size = chains * length / time.clamp(min=1 / torch.tensor(chains * length).log10().item())
    return torch.where(total > 0, size, 0.0)


def r_hat(draws: Tensor) -> Tensor:
    """Rank-normalised split R-hat `(*features)`, near 1 for chains of one law (Vehtari et al. 2021).

    The larger of that of the draws and that of their distances from the median, which sees chains
    of the same place and unequal widths. A feature that is the same everywhere has 1.
    """
    length = draws.shape[1] // 2
    halves = torch.cat([draws[:, :length], draws[:, -length:]]).double()
    flat = halves.flatten(0, 1)
    folded = (halves - flat.median(0).values).abs()
    return torch.maximum(_r_hat(_rank_normal(halves)), _r_hat(_rank_normal(folded)))


def _r_hat(x: Tensor) -> Tensor:
    within, between = x.var(1).mean(0), x.mean(1).var(0)
    length = x.shape[1]
    ratio = ((length - 1) / length * within + between) / within
    return torch.where(between + within > 0, ratio.sqrt(), 1.0)


def _rank_normal(x: Tensor) -> Tensor:
    """Normal scores of the ranks among all draws, ties sharing their mean rank (Eq. 14)."""
    flat = x.flatten(0, 1).flatten(1).T.contiguous()  # (features, chains * draws)
    ordered = flat.sort(1).values
    below = torch.searchsorted(ordered, flat)
    upto = torch.searchsorted(ordered, flat, right=True)
    rank = (below + upto + 1).double() / 2
    scores = torch.special.ndtri((rank - 3 / 8) / (flat.shape[1] + 1 / 4))
    return scores.T.reshape(x.shape)


def check_gap(gap: Tensor, dims: int, progress: Progress) -> None:
    """Stop a training in which the energies of data and chains have come apart beyond sense.

    With chains that follow the model the gap is some nats a dimension; chains that are left behind
    let it grow without bound.
    """
    if not abs(float(gap.detach())) < 100 + 50 * dims:
        raise DivergedError(
            f"the energy ran away at step {progress.step}: data and chains are {float(gap.detach()):.3g} nats apart"
        )
