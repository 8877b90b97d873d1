"""Kernel density estimate: a Gaussian on each training example (Parzen 1962).

At most `POINTS` examples are kept, evenly spaced in the training split.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from pangen.model import GenerativeModel
from pangen.samplers.tokens import inverse_cdf
from pangen.settings import Natural
from pangen.space import Batch, LogProb, Space

POINTS, CHUNK, JUDGES = 10_000, 2048, 1000


class KDE(GenerativeModel):
    """p(x given y) = mean over the points m of class y of N(x; x_m, h^2 I).

    The null condition takes the points of all classes. One bandwidth h serves them all, the one
    that is best on (at most `JUDGES`) validation examples; distances are taken `CHUNK` points at a time.

    Args:
        points: how many examples are kept; 0 until `fit_exactly`.
    """

    def __init__(self, space: Space, *, points: Natural = 0) -> None:
        super().__init__(space)
        self.points: Tensor = nn.Buffer(torch.zeros(points, space.dims))
        self.center: Tensor = nn.Buffer(torch.zeros(space.dims))
        self.log_w: Tensor = nn.Buffer(torch.zeros(space.classes + 1, points))
        self.h: Tensor = nn.Buffer(torch.ones(()))

    def fit_exactly(self, train: Batch, validation: Batch) -> dict[str, Any]:
        every = math.ceil(len(train.x) / POINTS)
        x, rows = train.x.flatten(1)[::every], self.space.classes + 1
        self.center = x.mean(0)
        self.points = x - self.center
        member = torch.ones(rows, len(x))
        if rows > 1 and train.y is not None:
            member[:-1] = train.y[::every] == torch.arange(rows - 1)[:, None]
            member[member.sum(1) == 0] = 1  # a class without examples borrows those of all
        self.log_w = (member / member.sum(1, keepdim=True)).log()
        every = math.ceil(len(validation.x) / JUDGES)
        judges = validation.x[::every], None if validation.y is None else validation.y[::every]
        scale = x.var(0, correction=0).mean().sqrt().clamp(min=1e-6)
        for factor, tries in ((1.25, range(-28, 5)), (1.03, range(-7, 8))):  # coarse, then around the best
            scores = {}
            for i in tries:
                self.h = scale * factor**i
                scores[self.h] = float(self.log_prob(*judges).nats.mean())
            self.h = scale = max(scores, key=scores.__getitem__)
        return {"points": len(x)}

    def log_prob(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> LogProb:
        return LogProb(self._nats(x.flatten(1), y), "exact")

    def marginal_log_prob(self, x: Tensor, observed: Tensor, y: Tensor | None = None) -> LogProb:
        return LogProb(self._nats(x.flatten(1), y, observed.flatten(1)), "exact")

    def _nats(self, x: Tensor, y: Tensor | None, seen: Tensor | None = None) -> Tensor:
        """log p(x given y) `(B,)`, or that of what is seen of x `(B, D)`."""
        x = x - self.center
        x, dims = (x, x.shape[1]) if seen is None else (x * seen, seen.sum(1))
        row = torch.full((len(x),), self.space.classes, device=x.device) if y is None else y
        parts = []
        for points, log_w in zip(self.points.split(CHUNK), self.log_w.split(CHUNK, 1), strict=True):
            length = points.square().sum(1) if seen is None else seen.to(x) @ points.square().T
            square = x.square().sum(1, keepdim=True) - 2 * x @ points.T + length
            parts.append((log_w[row] - square.clamp(min=0) / (2 * self.h**2)).logsumexp(1))
        volume = dims * (self.h.log() + 0.5 * math.log(2 * math.pi))
        return torch.stack(parts).logsumexp(0) - volume

    def trajectory(self, n: int, y: Tensor | None = None, *, generator: torch.Generator) -> Iterator[Tensor]:
        u = torch.rand(n, generator=generator, device=self.device)
        noise = torch.randn(n, self.space.dims, generator=generator, device=self.device)
        row = torch.full((n,), self.space.classes, device=self.device) if y is None else y
        point = inverse_cdf(self.log_w[row], u)
        yield (self.center + self.points[point] + self.h * noise).view(n, *self.space.shape)
