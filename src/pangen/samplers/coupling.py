"""Which example and which noise make a pair in training: the ends of a line."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pangen.capabilities import HasDenoiser
from pangen.errors import PangenError
from pangen.samplers.denoise import Sampler

Coupling = Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor]]
"""Examples of variance 1 and the labels that the network sees, to pairs (x0, e) for these labels.

Over all pairs x0 has the law of the examples, and e is standard normal.
"""


def independent(x0: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
    """Noise that knows nothing of the examples `(B, *shape)`."""
    return x0, torch.randn_like(x0)


def optimal(x0: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
    """Noise dealt to the examples `(B, *shape)` so that the squared distances add up to the least.

    Tong et al. 2024, Algorithm 3, with an exact plan. Noise is dealt among examples of the same label,
    or it would tell of labels.
    """
    from scipy.optimize import linear_sum_assignment

    e = torch.randn_like(x0)
    cost = torch.cdist(x0.flatten(1), e.flatten(1)).square()
    if y is not None:
        y = y.view(len(y), -1)
        cost = torch.where((y[:, None] == y).all(2), cost, cost.sum() + 1)
    _, chosen = linear_sum_assignment(cost.cpu().numpy())
    return x0, e[torch.from_numpy(chosen).to(e.device)]


def reflow(teacher: HasDenoiser, by: Sampler, unit: Callable[[Tensor], Tensor]) -> Coupling:
    """Noise and where a teacher's path leads from it, with the labels of the examples (Liu et al. 2023, Algorithm 1).

    Pairs are drawn anew each time, at the cost of `by`, whose noise is the start alone; `unit` gives the end
    variance 1. A function, so that the teacher is no part of a module that has it, nor copied with it.
    """

    def pairs(x0: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        e = torch.randn_like(x0)
        with torch.no_grad():
            *_, end = by(teacher, e, y, generator=torch.Generator(e.device))
        return unit(end), e

    return pairs


def untaught(x0: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
    """In the place of the pairs `(B, *shape)` of a reflow whose teacher is not at hand.

    Raises:
        PangenError: always, naming what is missing.
    """
    raise PangenError("a reflow learns only beside its teacher, the run that model.teacher names.")
