"""Laws over small grey images: templates under noise, and a texture of neighbours that are alike."""

from __future__ import annotations

import math
from functools import cached_property, reduce
from typing import ClassVar

import torch
from torch import Tensor

from pangen.data.dataset import Modality
from pangen.data.known_truth.law import Law, draw, uniform


class Templates(Law):
    """Four waves, 6x6 with 8 levels, with weights 0.4, 0.3, 0.2, 0.1, each pixel drawn on its own about its level.

    p(v) is proportional to 2^(-2 |v - c|) about level c. Entropy = H(weights) + the mean entropy of
    a template: no image leaves a doubt of more than e^-30 which template it came from.
    """

    modality: ClassVar[Modality] = "image"
    levels = 8
    side: ClassVar[int] = 6
    waves: ClassVar[tuple[tuple[int, int], ...]] = ((1, 0), (0, 1), (1, 1), (1, -1))
    """Periods across and down."""
    modes: int = 4

    def __init__(self) -> None:
        self.weights = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
        at = torch.arange(self.side, dtype=torch.float64)
        turns = torch.stack([m * at[None, :] + n * at[:, None] for m, n in self.waves]) / self.side
        top = self.levels - 1
        self.templates = ((1 + (2 * math.pi * turns).cos()) * top / 2).round().long()
        levels = torch.arange(self.levels, dtype=torch.float64)
        away = (levels - self.templates.flatten(1)[..., None]).abs()
        self.log_pixel = (-2 * math.log(2) * away).log_softmax(2)
        """log p(level) of each template's pixels `(templates, pixels, levels)`."""

    @cached_property
    def entropy(self) -> float:
        each = -(self.log_pixel.exp() * self.log_pixel).sum((1, 2))
        return float((self.weights * (each - self.weights.log())).sum())

    def joint(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """log p(template, x) `(B, templates)`."""
        chosen = torch.nn.functional.one_hot(x.flatten(1).long(), self.levels).double()
        if seen is not None:
            chosen = chosen * seen.flatten()[:, None]
        return self.weights.log() + torch.einsum("npv,kpv->nk", chosen, self.log_pixel)

    def log_prob(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        return self.joint(x, seen).logsumexp(1)

    def mode(self, x: Tensor) -> Tensor:
        """The most probable template."""
        return self.joint(x).argmax(1)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        which = draw(self.weights, n, generator)
        below = self.log_pixel.exp().cumsum(2)[..., :-1]
        u = torch.rand(n, self.side**2, generator=generator, dtype=torch.float64)
        x = reduce(torch.add, [(below[which, :, v] <= u).to(torch.uint8) for v in range(self.levels - 1)])
        return x.view(n, 1, self.side, self.side)


class Texture(Law):
    """p(x) proportional to exp(-beta sum over neighbours of |x_i - x_j|): 5x5, 4 levels, beta = 0.8.

    A row has 4^5 = 1024 states, and rows are a Markov chain whose matrices are found from the last
    row upwards: Z, the entropy, exact samples and all conditionals follow by products of matrices.
    """

    modality: ClassVar[Modality] = "image"

    def __init__(self, side: int = 5, levels: int = 4, beta: float = 0.8) -> None:
        self.side, self.levels = side, levels
        states = torch.cartesian_prod(*[torch.arange(levels)] * side).view(-1, side)
        self.rows = states.to(torch.uint8)
        """Every row `(states, side)`, the first pixel the most significant digit."""
        self.digits = levels ** torch.arange(side - 1, -1, -1)
        row = states.double()
        self.within = (-beta * row.diff(dim=1).abs().sum(1)).exp()
        self.between = (-beta * torch.cdist(row, row, p=1)).exp()
        # weights of all that is below a row, given it, scaled; the scales are collected in log Z
        self.steps: list[Tensor] = []
        below, self.log_z = torch.ones_like(self.within), 0.0
        for _ in range(side - 1):
            weight = self.between * (self.within * below)
            total = weight.sum(1)
            self.steps.insert(0, weight / total[:, None])
            scale = float(total.max())
            below, self.log_z = total / scale, self.log_z + math.log(scale)
        first = self.within * below
        self.log_z += math.log(float(first.sum()))
        self.first = first / first.sum()
        """p of the first row; `steps` are p of each next row, given the one above."""

    @cached_property
    def entropy(self) -> float:
        row, found = self.first, -torch.xlogy(self.first, self.first).sum()
        for step in self.steps:
            found = found - (row @ torch.xlogy(step, step)).sum()
            row = row @ step
        return float(found)

    def log_prob(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        codes = (x[:, 0].long() * self.digits).sum(2)
        seen = torch.ones(self.side, self.side, dtype=torch.bool) if seen is None else seen[0]
        if seen.all():
            found = self.first[codes[:, 0]].log()
            for i, step in enumerate(self.steps):
                found = found + step[codes[:, i], codes[:, i + 1]].log()
            return found
        found, row = torch.zeros(len(x), dtype=torch.float64), self.first.expand(len(x), -1)
        for i, known in enumerate(seen):
            row = row if i == 0 else row @ self.steps[i - 1]
            fits = ((self.rows == x[:, 0, i, None]) | ~known).all(2)
            total = (row * fits).sum(1, keepdim=True)
            found, row = found + total[:, 0].log(), row * fits / total
        return found

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        state = draw(self.first, n, generator)
        picked = [state]
        for step in self.steps:
            # one rising sequence of all rows' sums, the s-th of which goes from s to s + 1
            rising = step.cumsum(1).clamp(max=1) + torch.arange(len(step))[:, None]
            rising[:, -1] = torch.arange(1, len(step) + 1)
            flat = torch.searchsorted(rising.flatten(), state + uniform(n, generator), right=True)
            state = (flat - state * len(step)).clamp(0, len(step) - 1)
            picked.append(state)
        return self.rows[torch.stack(picked, 1)][:, None]
