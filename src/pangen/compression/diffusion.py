"""Bits-back coding over the steps of a diffusion (Ho et al. 2020, Kingma et al. 2021).

Each level of noise is a code of the one below it. z_0 is popped by q(z_0 given x) and x pushed by p(x given z_0); then, as
the noising chain needs no x, z_i is popped by q(z_i given z_{i-1}) and z_{i-1} pushed by p(z_{i-1} given z_i) at once, so
that two levels are on their way and no more (Kingma, Abbeel and Ho 2019). An example costs the negative bound of
so many steps, on average.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from pangen.compression.chain import ROWS, filled
from pangen.compression.coder import Discrete, pop_levels, push_levels
from pangen.compression.tape import Tape
from pangen.likelihoods import Bernoulli, GridNormal, Normal
from pangen.run import Run
from pangen.samplers.noise import posterior

STEPS = 100
"""Of a model whose bound is of infinitely many."""
CELLS = 2**6
"""In the narrowest deviation that numbers of a level have."""


@runtime_checkable
class HasChain(Protocol):
    """Bounds the likelihood by a chain of noise levels."""

    chain: int
    """Its length; 0: infinite."""

    def rungs(self, steps: int) -> Tensor:
        """Levels that fall, of a chain so long."""
        ...

    def widening(self, sigma: Tensor, lower: Tensor) -> Tensor:
        """The variance of p(z at `lower` given z at `sigma`), over that of q, which is told x as well."""
        ...

    def denoise(self, x: Tensor, sigma: Tensor, y: Tensor | None = None) -> Tensor: ...
    def error(self, sigma: Tensor) -> Tensor: ...


@dataclass
class StepsBack:
    """Of a model with a chain."""

    run: Run
    levels: int
    steps: int

    @property
    def name(self) -> str:
        """Tells how many steps, as the file must."""
        return f"bits back over {self.steps} steps"

    @property
    def model(self) -> HasChain:
        return cast("HasChain", self.run.model)

    @cached_property
    def sigmas(self) -> Tensor:
        """Levels `(K + 1,)` that rise, float64."""
        return self.model.rungs(self.steps).double().flip(0)

    @cached_property
    def cells(self) -> list[float]:
        """Widths of the cells of each level."""
        s = self.sigmas
        back = s[:-1] * (1 - (s[:-1] / s[1:]) ** 2).sqrt()
        ahead = (s[1:] ** 2 - s[:-1] ** 2).sqrt()
        least = torch.minimum(torch.cat([back, s[-1:]]), torch.cat([s[:1], ahead]))
        return [2.0 ** math.floor(math.log2(std)) / CELLS for std in least.tolist()]

    def write(self, tape: Tape, raw: Tensor, y: Tensor | None) -> float:
        below, walk = self._x(raw), Tally(tape)
        z = walk.pop(*self._noisy(0, below.double()[: len(raw)]))
        px = self._last(z, y)
        nats = -float(px.log_prob(below)[: len(raw)].double().sum())
        push_levels(tape.stack, lambda k: px.below(filled(k))[: len(raw)], self.levels, raw)
        for i in range(1, len(self.sigmas)):
            above = walk.pop(*self._noisy(i, self._value(z, i - 1)))
            walk.push(z, *self._cleaner(i, above, y))
            z = above
        walk.push(z, *self._top(z.shape))
        return nats + walk.nats

    def read(self, tape: Tape, n: int, y: Tensor | None) -> Tensor:
        shape = (n, *self.run.codec.data_space.shape)
        z = tape.pop_normal(*self._top(shape), sure=False)
        for i in range(len(self.sigmas) - 1, 0, -1):
            below = tape.pop_normal(*self._cleaner(i, z, y), sure=False)
            tape.push_normal(z, *self._noisy(i, self._value(below, i - 1)), sure=True)
            z = below
        px = self._last(z, y)
        raw = pop_levels(tape.stack, lambda k: px.below(filled(k))[:n], self.levels, shape)
        tape.push_normal(z, *self._noisy(0, self._x(raw).double()[:n]), sure=True)
        return raw

    def _x(self, raw: Tensor) -> Tensor:
        return self.run.codec.encode(filled(raw)).x

    def _value(self, z: Tensor, i: int) -> Tensor:
        """The middles of cells of a level."""
        return (z.double() + 0.5) * self.cells[i]

    def _noisy(self, i: int, below: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation, in cells, of level i given what is below it: another level, or x."""
        variance = self.sigmas[i] ** 2 - (self.sigmas[i - 1] ** 2 if i else 0)
        return below / self.cells[i], (variance.sqrt() / self.cells[i]).expand(below.shape)

    def _cleaner(self, i: int, z: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """Of level i - 1 given the cells of level i."""
        sigma, lower, cell = self.sigmas[i], self.sigmas[i - 1], self.cells[i - 1]
        value = self._value(z, i)
        mean, variance = posterior(value, self._estimate(value, i, y), sigma, lower)
        std = (variance * self.model.widening(sigma, lower).double()).sqrt() / cell
        return mean / cell, std.expand(mean.shape)

    def _top(self, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        mean = torch.zeros(shape).double()
        return mean, torch.full_like(mean, float(self.sigmas[-1]) / self.cells[-1])

    def _estimate(self, value: Tensor, i: int, y: Tensor | None) -> Tensor:
        x = filled(value).to(torch.get_default_dtype())
        return self.model.denoise(x, self.sigmas[i].to(x).expand(ROWS), y)[: len(value)].double()

    def _last(self, z: Tensor, y: Tensor | None) -> Discrete:
        """p(x given z_0), of `ROWS` rows."""
        mean = filled(self._estimate(self._value(z, 0), 0, y))
        if self.run.model.space.kind == "binary":
            return Bernoulli(mean.clamp(1e-4, 1 - 1e-4).logit()[:, None])
        std = self.model.error(self.sigmas[0]).double().sqrt()
        return GridNormal(Normal(mean, std.log().expand(mean.shape)), levels=self.levels)

    def probe(self) -> Tensor:
        """Estimates from a few fixed images at a few levels."""
        shape = (ROWS, *self.run.codec.data_space.shape)
        raw = (torch.arange(math.prod(shape)).view(shape) * 7919 // 3) % self.levels
        x, y = self._x(raw).double(), self.run.codec.space.filled(None, ROWS)
        some = {0, len(self.sigmas) // 2, len(self.sigmas) - 1}
        return torch.cat([self.sigmas, *(self._estimate(x, i, y).flatten() for i in sorted(some))])


@dataclass
class Tally:
    """Counts nats beside a tape, by densities of the same cells."""

    tape: Tape
    nats: float = 0.0

    def pop(self, mean: Tensor, std: Tensor) -> Tensor:
        z = self.tape.pop_normal(mean, std, sure=True)
        self.nats += self._log_prob(z, mean, std)
        return z

    def push(self, z: Tensor, mean: Tensor, std: Tensor) -> None:
        self.tape.push_normal(z, mean, std, sure=False)
        self.nats -= self._log_prob(z, mean, std)

    @staticmethod
    def _log_prob(z: Tensor, mean: Tensor, std: Tensor) -> float:
        return float(Normal(mean, std.log()).log_prob(z.double() + 0.5).sum())
