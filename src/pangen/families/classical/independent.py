"""Independent dimensions: p(x) = prod_d p(x_d), each a histogram; given a class, naive Bayes (Maron 1961).

Discrete values have smoothed frequencies. Real values have a histogram of equal bins between the
extremes, and exponential tails beyond them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from pangen.likelihoods import Categorical
from pangen.model import GenerativeModel
from pangen.samplers.tokens import inverse_cdf
from pangen.settings import Natural, NonNegative
from pangen.space import Batch, LogProb, Space

TAIL = 0.01
"""Probability of each of the two tails of a real dimension."""
BINS = (5, 8, 12, 20, 32, 50, 80, 128)
SMOOTHING = (1.0, 0.5, 0.2, 0.1)


class Independent(GenerativeModel):
    """A histogram for each dimension and class; the null condition has one over all classes.

    Args:
        bins: bins of a real dimension; 0: the number that is best on validation data.
        smoothing: counts added to each value of a discrete dimension, and to all bins together;
            0: what is best on validation data.
    """

    def __init__(self, space: Space, *, bins: Natural = 0, smoothing: NonNegative = 0.0) -> None:
        super().__init__(space)
        self.bins, self.smoothing = bins, smoothing
        cells = bins + 2 if space.kind == "real" else space.levels or 2
        self.log_p: Tensor = nn.Buffer(torch.zeros(space.classes + 1, space.dims, cells))
        self.low: Tensor = nn.Buffer(torch.zeros(space.dims))
        self.step: Tensor = nn.Buffer(torch.ones(space.dims))

    def fit_exactly(self, train: Batch, validation: Batch) -> dict[str, Any]:
        bins = [self.bins] if self.bins or self.space.kind != "real" else BINS
        choices = list(product(bins, [self.smoothing] if self.smoothing else SMOOTHING))
        scores = []
        for choice in choices if len(choices) > 1 else ():
            self._count(train, *choice)
            scores.append(float(self.log_prob(validation.x, validation.y).nats.mean()))
        best = choices[scores.index(max(scores))] if scores else choices[0]
        self._count(train, *best)
        return {"bins": self.bins, "smoothing": self.smoothing}

    def _count(self, batch: Batch, bins: int, smoothing: float) -> None:
        self.bins, self.smoothing = bins, smoothing
        if self.space.kind == "real":  # equal bins between the extremes of each dimension
            x = batch.x.flatten(1)
            self.low, self.step = x.amin(0), (x.amax(0) - x.amin(0)).clamp(min=1e-6) / bins
            self.log_p = x.new_zeros(self.space.classes + 1, self.space.dims, bins + 2)
        rows, D, cells = self.log_p.shape
        place = torch.arange(D) * cells + self._cell(batch.x.flatten(1))  # (N, D), in a flat histogram
        counts = torch.zeros(rows, D, cells, dtype=torch.float64)
        for row in range(rows):
            mine = place if row == self.space.classes or batch.y is None else place[batch.y == row]
            counts[row] = torch.bincount(mine.flatten(), minlength=D * cells).view(D, cells)
        if self.space.kind == "real":
            inside = counts[..., 1:-1] + self.smoothing / self.bins
            counts[..., 1:-1] = (1 - 2 * TAIL) * inside / inside.sum(-1, keepdim=True)
            counts[..., 0] = counts[..., -1] = TAIL
        else:
            counts += self.smoothing
        self.log_p = (counts / counts.sum(-1, keepdim=True)).log().float()

    def _cell(self, x: Tensor) -> Tensor:
        """The histogram cell `(B, D)` of each value; of real values 0 and bins + 1 are the tails."""
        if self.space.kind != "real":
            return x.long()
        cell = ((x - self.low) / self.step).floor().long() + 1
        top = self.low + self.bins * self.step
        cell = torch.where((x >= self.low) & (x <= top), cell.clamp(1, self.bins), cell)
        return cell.clamp(0, self.bins + 1)

    def log_prob(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> LogProb:
        return LogProb(self._nats(x.flatten(1), y).sum(1), "exact")

    def marginal_log_prob(self, x: Tensor, observed: Tensor, y: Tensor | None = None) -> LogProb:
        return LogProb((self._nats(x.flatten(1), y) * observed.flatten(1)).sum(1), "exact")

    def _nats(self, x: Tensor, y: Tensor | None) -> Tensor:
        """log p(x_d given y) `(B, D)`."""
        cell, dims = self._cell(x), torch.arange(self.space.dims, device=x.device)
        nats = self.log_p[self._rows(y, len(x))[:, None], dims, cell]
        if self.space.kind == "real":  # density: of a cell, or of an exponential tail as wide as the range
            width, top = self.bins * self.step, self.low + self.bins * self.step
            outside = torch.relu(self.low - x) + torch.relu(x - top)
            tail = (cell == 0) | (cell == self.bins + 1)
            nats = nats - torch.where(tail, outside / width + width.log(), self.step.log())
        return nats

    def factors(self, n: int, y: Tensor | None = None) -> Categorical:
        """p(x given y) of discrete x, `n` rows of it."""
        return Categorical(self.log_p[self._rows(y, n)].mT.unflatten(2, self.space.shape))

    def trajectory(self, n: int, y: Tensor | None = None, *, generator: torch.Generator) -> Iterator[Tensor]:
        u, v = torch.rand(2, n, self.space.dims, generator=generator, device=self.device)
        cell = inverse_cdf(self.log_p[self._rows(y, n)], u)
        if self.space.kind == "real":
            width, top = self.bins * self.step, self.low + self.bins * self.step
            tail = -torch.log1p(-v) * width
            x = torch.where(cell == 0, self.low - tail, self.low + (cell - 1 + v) * self.step)
            x = torch.where(cell == self.bins + 1, top + tail, x)
        else:
            x = cell if self.space.kind == "tokens" else cell.float()
        yield x.view(n, *self.space.shape)

    def _rows(self, y: Tensor | None, n: int) -> Tensor:
        return torch.full((n,), self.space.classes, device=self.device) if y is None else y
