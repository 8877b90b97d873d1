"""Codes of given examples, found by descent where no encoder was learnt."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Decode = Callable[[Tensor, Tensor | None], Tensor]
"""Codes `(B, ...)` and labels to examples, row by row."""


def nearest_codes(
    decode: Decode, x: Tensor, y: Tensor | None, starts: Tensor, *, steps: int = 100, rate: float = 0.1
) -> Tensor:
    """The code `(B, ...)` whose example is nearest to each x `(B, *shape)`, as far as descent finds it.

    From the nearest of the `starts` `(S, ...)`, the same for all rows, `steps` steps of Adam (Kingma and Ba
    2015) whose rate falls to 0. Each row keeps the nearest code that it met. `rate` is in standard
    deviations of the starts.
    """
    scale = starts.std(0).mean()
    with torch.no_grad():
        tried = torch.stack([_error(decode(s.expand(len(x), *s.shape), y), x) for s in starts])
        error, w = tried.min(0).values, starts[tried.argmin(0)]
    best, first, second = w.clone(), torch.zeros_like(w), torch.zeros_like(w)
    for t in range(1, steps + 1):
        with torch.enable_grad():
            w = w.detach().requires_grad_()
            found = _error(decode(w, y), x)
            (gradient,) = torch.autograd.grad(found.sum(), w)
        with torch.no_grad():
            nearer = found < error
            error = torch.where(nearer, found, error)
            best = torch.where(nearer.view(-1, *[1] * (w.dim() - 1)), w, best)
            first, second = first.lerp(gradient, 0.1), second.lerp(gradient.square(), 0.001)
            step = first / (1 - 0.9**t) / ((second / (1 - 0.999**t)).sqrt() + 1e-12)
            w = w - rate * (1 - t / steps) * scale * step
    return best


def _error(found: Tensor, x: Tensor) -> Tensor:
    return (found - x).square().flatten(1).sum(1)
