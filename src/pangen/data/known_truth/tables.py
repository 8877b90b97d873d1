"""Tables whose law is known: a Bayesian network of categories and numbers, some of whose cells are missing."""

from __future__ import annotations

import math
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from pangen.data.dataset import Column, Modality
from pangen.data.known_truth.law import Law, uniform

POINTS, REACH = 4001, 10.0
"""Of the sum that an integral over a number is, and how many deviations beyond its means it goes."""


class Network(Law):
    """kind -> grade -> count, kind -> size, and (grade, size) -> weight; kind alone is never missing.

    p(kind), p(grade | kind) and p(count | grade) are tables; size ~ N(m_kind, s_kind^2) and weight ~ N(o_grade +
    b size, t^2). Each cell is missing with a probability of its column and kind, whatever it holds. Where a
    grade is missing, a weight is drawn from a mixture over grades: the only entropy that takes a sum over a grid.
    """

    modality: ClassVar[Modality] = "table"

    def __init__(
        self,
        table: tuple[Column, ...],
        kind: list[float],
        grade: list[list[float]],
        count: list[list[float]],
        size: list[tuple[float, float]],
        offset: list[float],
        slope: float,
        noise: float,
        gaps: list[list[float]],
    ) -> None:
        """`size`: mean and deviation by kind; `gaps`: P(missing) by kind, of grade, count, size and weight."""
        self.table, self.slope, self.noise = table, slope, noise
        self.kind, self.grade, self.count = (_double(table) for table in (kind, grade, count))
        self.mean, self.std = _double(size).T
        self.offset = _double(offset)
        self.gaps = torch.cat([torch.zeros(len(kind), 1, dtype=torch.float64), _double(gaps)], 1)
        self.modes = len(kind)

    @classmethod
    def orchard(cls) -> Network:
        """Fruit: one cell of twelve is missing, of plums more."""
        table = (
            Column("kind", ("apple", "pear", "plum")),
            Column("grade", ("a", "b", "c", "d")),
            Column("spots", points=(0.0, 1.0, 2.0, 3.0, 4.0)),
            Column("size"),
            Column("weight"),
        )
        return cls(
            table,
            kind=[0.5, 0.3, 0.2],
            grade=[[0.4, 0.3, 0.2, 0.1], [0.1, 0.5, 0.2, 0.2], [0.25, 0.25, 0.25, 0.25]],
            count=[
                [0.7, 0.2, 0.1, 0.0, 0.0],
                [0.4, 0.3, 0.2, 0.1, 0.0],
                [0.1, 0.2, 0.4, 0.2, 0.1],
                [0.0, 0.1, 0.2, 0.3, 0.4],
            ],
            size=[(75.0, 6.0), (65.0, 8.0), (38.0, 3.0)],
            offset=[20.0, 8.0, -2.0, -10.0],
            slope=2.2,
            noise=6.0,
            gaps=[[0.05, 0.1, 0.1, 0.1], [0.05, 0.1, 0.1, 0.1], [0.3, 0.1, 0.0, 0.25]],
        )

    @classmethod
    def survey(cls) -> Network:
        """Answers: who does not tell the one often does not tell the other, by region."""
        table = (
            Column("region", ("east", "north", "south", "west")),
            Column("answer", ("maybe", "no", "yes")),
            Column("children", points=(0.0, 1.0, 2.0, 3.0)),
            Column("age"),
            Column("income"),
        )
        return cls(
            table,
            kind=[0.1, 0.4, 0.3, 0.2],
            grade=[[0.2, 0.7, 0.1], [0.3, 0.3, 0.4], [0.1, 0.2, 0.7], [0.4, 0.4, 0.2]],
            count=[[0.4, 0.3, 0.2, 0.1], [0.6, 0.2, 0.1, 0.1], [0.2, 0.3, 0.3, 0.2]],
            size=[(60.0, 8.0), (45.0, 12.0), (35.0, 6.0), (50.0, 15.0)],
            offset=[0.0, -8.0, 8.0],
            slope=0.3,
            noise=3.0,
            gaps=[[0.6, 0.5, 0.0, 0.7], [0.1, 0.1, 0.05, 0.2], [0.05, 0.0, 0.0, 0.4], [0.3, 0.4, 0.1, 0.5]],
        )

    @cached_property
    def joint(self) -> Tensor:
        """p(kind, grade, count)."""
        return self.kind[:, None, None] * self.grade[:, :, None] * self.count

    @cached_property
    def entropy(self) -> float:
        """By the chain rule: the kind, which cells are missing, categories, the size, and the weight given all these."""
        found = _entropy(self.kind)
        for k, p in enumerate(self.kind):
            gap, cells = self.gaps[k], self.joint[k] / p
            no_grade, no_count, no_size, no_weight = gap[1:].tolist()
            mine = _entropy(torch.stack([gap, 1 - gap]))
            mine += (1 - no_grade) * _entropy(cells.sum(1)) + (1 - no_count) * _entropy(cells.sum(0))
            both = _entropy(cells) - _entropy(cells.sum(1)) - _entropy(cells.sum(0))
            mine += (1 - no_grade) * (1 - no_count) * both
            mine += (1 - no_size) * _of_normal(float(self.std[k]))
            far = math.hypot(self.slope * float(self.std[k]), self.noise)
            for chance, std in ((1 - no_size, self.noise), (no_size, far)):
                counts = [(float(q), cells[:, c] / q) for c, q in enumerate(cells.sum(0)) if q > 0]
                told = sum(q * self._mixture(grades, std) for q, grades in counts)
                blind = no_count * self._mixture(cells.sum(1), std) + (1 - no_count) * told
                weight = no_grade * blind + (1 - no_grade) * _of_normal(std)
                mine += (1 - no_weight) * chance * weight
            found += float(p) * mine
        return found

    def _mixture(self, weights: Tensor, std: float) -> float:
        """Entropy of normals of one deviation about the offsets of grades."""
        ends = float(self.offset.min()) - REACH * std, float(self.offset.max()) + REACH * std
        grid = torch.linspace(*ends, POINTS, dtype=torch.float64)
        p = _normal(grid[:, None], self.offset, _double(std)).exp() @ weights
        return float(-torch.xlogy(p, p).sum() * (grid[1] - grid[0]))

    def log_prob(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        seen = torch.ones(len(self.table), dtype=torch.bool) if seen is None else seen
        here, x = ~x.isnan(), x.double()
        found = self.joint.log().expand(len(x), -1, -1, -1)
        for j in seen.nonzero().flatten().tolist():
            told = torch.where(here[:, j, None], (1 - self.gaps[:, j]).log(), self.gaps[:, j].log())
            found = found + told[:, :, None, None]
        here = here & seen
        for j, options in enumerate(self.joint.shape):  # the first three are the axes of `joint`
            fits = x[:, j, None] == torch.arange(options)
            shape = [-1 if axis in (0, j + 1) else 1 for axis in range(4)]
            shape[0] = len(x)
            found = torch.where((fits | ~here[:, j, None]).view(shape), found, -math.inf)
        size, weight = (torch.where(here[:, j], x[:, j], 0.0)[:, None, None, None] for j in (3, 4))
        has_size, has_weight = (here[:, j, None, None, None] for j in (3, 4))
        mean, std = self.mean[:, None, None], self.std[:, None, None]
        found = found + torch.where(has_size, _normal(size, mean, std), 0.0)
        about = self.offset[:, None] + self.slope * torch.where(has_size, size, mean)
        spread = torch.where(has_size, 0.0, self.slope * std).square().add(self.noise**2).sqrt()
        found = found + torch.where(has_weight, _normal(weight, about, spread), 0.0)
        return found.flatten(1).logsumexp(1)

    def mode(self, x: Tensor) -> Tensor:
        """The kind."""
        return torch.where(self.log_prob(x).isfinite(), x[:, 0], -1.0).long()

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        def among(rows: Tensor) -> Tensor:
            """One index for each row of probabilities."""
            return (uniform(n, generator)[:, None] > rows.cumsum(1)[:, :-1]).sum(1)

        kind = among(self.kind.expand(n, -1))
        grade = among(self.grade[kind])
        count = among(self.count[grade])
        noise = torch.randn(2, n, generator=generator, dtype=torch.float64)
        size = self.mean[kind] + self.std[kind] * noise[0]
        weight = self.offset[grade] + self.slope * size + self.noise * noise[1]
        missing = torch.rand(n, len(self.table), generator=generator, dtype=torch.float64) < self.gaps[kind]
        x = torch.stack([kind.double(), grade.double(), count.double(), size, weight], 1)
        return torch.where(missing, math.nan, x).float()


def _double(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _normal(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Log density."""
    return -(((x - mean) / std) ** 2) / 2 - std.log() - math.log(2 * math.pi) / 2


def _of_normal(std: float) -> float:
    return math.log(std) + (1 + math.log(2 * math.pi)) / 2


def _entropy(p: Tensor) -> float:
    return float(-torch.xlogy(p, p).sum())
