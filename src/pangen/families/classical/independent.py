"""Independent dimensions: p(x) = prod_d p(x_d), each a histogram; given a class, naive Bayes (Maron 1961).

Discrete values have add-one smoothed frequencies. Real values have a histogram of equal bins
between the extremes, whose number is chosen on validation data, and exponential tails beyond it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from pangen.model import GenerativeModel
from pangen.space import Batch, LogProb, Space

TAIL = 0.01
"""Probability of each of the two tails of a real dimension."""


class Independent(GenerativeModel):
    """A histogram for each dimension and class.

    Args:
        bins: bins of a real dimension; 0 until they are chosen by `fit_exactly`.
        smoothing: counts added to each value of a discrete dimension.
    """

    def __init__(self, space: Space, *, bins: int = 0, smoothing: float = 1.0) -> None:
        super().__init__(space)
        self.bins, self.smoothing = bins, smoothing
        cells = bins + 2 if space.kind == "real" else space.levels
        rows = space.classes + 1  # the last row, the null condition, is over all classes
        self.register_buffer("log_p", torch.zeros(rows, space.dims, cells))
        self.register_buffer("low", torch.zeros(space.dims))
        self.register_buffer("step", torch.ones(space.dims))

    def fit_exactly(self, train: Batch, validation: Batch) -> dict[str, Any]:
        if self.space.kind != "real":
            self._count(train)
            return {}
        scores = {}
        for bins in (5, 8, 12, 20, 32, 50, 80, 128):
            self.__init__(self.space, bins=bins, smoothing=self.smoothing)
            self._count(train)
            scores[bins] = float(self.log_prob(validation.x, validation.y).nats.mean())
        best = max(scores, key=scores.__getitem__)
        self.__init__(self.space, bins=best, smoothing=self.smoothing)
        self._count(train)
        return {"bins": best}

    def _count(self, batch: Batch) -> None:
        x = batch.x.flatten(1)
        if self.space.kind == "real":
            self.low, self.step = x.amin(0), (x.amax(0) - x.amin(0)).clamp(min=1e-6) / self.bins
        cell = self._cell(x)
        cells = self.log_p.shape[-1]
        counts = torch.zeros_like(self.log_p, dtype=torch.float64)
        for row in range(len(counts)):
            mine = cell if row == self.space.classes or batch.y is None else cell[batch.y == row]
            counts[row] = torch.nn.functional.one_hot(mine, cells).sum(0)
        if self.space.kind == "real":
            inside = counts[..., 1:-1] + self.smoothing / self.bins
            counts[..., 1:-1] = (1 - 2 * TAIL) * inside / inside.sum(-1, keepdim=True)
            counts[..., 0] = counts[..., -1] = TAIL
        else:
            counts += self.smoothing
        self.log_p = (counts / counts.sum(-1, keepdim=True)).log().float()

    def _cell(self, x: Tensor) -> Tensor:
        if self.space.kind != "real":
            return x.long()
        cell = ((x - self.low) / self.step).floor().long() + 1
        top = self.low + self.bins * self.step
        return torch.where(x == top, self.bins, cell).clamp(0, self.bins + 1)

    def log_prob(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> LogProb:
        x = x.flatten(1)
        cell = self._cell(x)
        nats = self._rows(y, len(x)).gather(-1, cell[..., None])[..., 0]
        if self.space.kind == "real":  # density: of a cell, or of an exponential tail as wide as the range
            width, top = self.bins * self.step, self.low + self.bins * self.step
            outside = torch.relu(self.low - x) + torch.relu(x - top)
            tail = (cell == 0) | (cell == self.bins + 1)
            nats = nats - torch.where(tail, outside / width + width.log(), self.step.log())
        return LogProb(nats.sum(1), "exact")

    def trajectory(
        self, n: int, y: Tensor | None = None, *, generator: torch.Generator, **how: Any
    ) -> Iterator[Tensor]:
        p = self._rows(y, n).exp()
        cell = torch.multinomial(p.flatten(0, 1), 1, generator=generator).view(n, -1)
        if self.space.kind != "real":
            yield cell.view(n, *self.space.shape).to(
                torch.int64 if self.space.kind == "tokens" else torch.float32
            )
            return
        u = torch.rand(cell.shape, generator=generator, device=cell.device)
        width, top = self.bins * self.step, self.low + self.bins * self.step
        x = self.low + (cell - 1 + u) * self.step
        tail = -torch.log1p(-u) * width
        x = torch.where(cell == 0, self.low - tail, torch.where(cell == self.bins + 1, top + tail, x))
        yield x.view(n, *self.space.shape)

    def _rows(self, y: Tensor | None, n: int) -> Tensor:
        null = self.space.classes
        return self.log_p[torch.full((n,), null, device=self.device) if y is None else y]
