"""Flows on grey levels: noise is popped into the levels' cells, and the code of what is there is pushed.

Ho, Lohn and Abbeel 2019, Section 3.5: the noise is uniform, or the model's own flow of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from pangen.codecs import Dequantise
from pangen.compression.chain import ROWS, filled
from pangen.compression.coder import constriction, table
from pangen.compression.tape import Tape
from pangen.compression.walk import CELL, Walk, units
from pangen.families.flow.flow import FlowModel
from pangen.networks.bijections.bases import BaseDensity, Mixture
from pangen.networks.bijections.bases import Normal as NormalBase
from pangen.run import Run

BITS, STEPS = 14, 2**12
"""A logistic number is coded by steps of so many bits of cells, so many."""
SHARP = 0.05
"""Deviation, in levels, of a level around the one whose cell a number is in."""


@dataclass(frozen=True)
class Fill:
    """A number w into its level's cell: v = logit(alpha + (1 - 2 alpha) (level + sigmoid(w)) / levels)."""

    level: Tensor
    levels: int
    alpha: float

    def forward(self, w: Tensor) -> tuple[Tensor, Tensor]:
        p = self.alpha + self.share * (self.level + w.sigmoid())
        return p.logit(), math.log(self.share) + log_logistic(w) - p.log() - (-p).log1p()

    def inverse(self, v: Tensor) -> tuple[Tensor, Tensor]:
        p = v.sigmoid()
        w = ((p - self.alpha) / self.share - self.level).clamp(1e-9, 1 - 1e-9).logit()
        return w, p.log() + (-p).log1p() - math.log(self.share) - log_logistic(w)

    @property
    def share(self) -> float:
        """Of the unit interval that a level has."""
        return (1 - 2 * self.alpha) / self.levels

    def around(self, v: Tensor) -> Tensor:
        """The level, float64, whose cell each v is in."""
        return ((v.sigmoid() - self.alpha) / self.share).floor().clamp(0, self.levels - 1)


@dataclass
class LocalBitsBack:
    """Of a flow behind noise that fills the levels, the codec's or its own."""

    name: ClassVar[str] = "local bits back"
    run: Run
    levels: int

    def __post_init__(self) -> None:
        own, self.flow = self.model.dequantiser, self.model.flow
        self.alpha = cast("Dequantise", self.run.codec).alpha if own is None else own.logit.alpha
        self.noise = [] if own is None or own.q is None else list(own.q.parts[1:-1])
        last = len(self.flow.base.last)  # of a uniform base the logit is logistic
        self.parts = list(self.flow.transform.parts)[: -last or None]

    @property
    def model(self) -> FlowModel:
        return cast("FlowModel", self.run.model)

    def write(self, tape: Tape, raw: Tensor, y: Tensor | None) -> float:
        x, context = self._x(raw), self.flow.context(y, ROWS)
        w = tape.pop_by(logistic, STEPS, BITS, tuple(raw.shape), sure=True)
        nats, walk = float(log_logistic(units(w)).sum()), Walk(tape, ahead=True)
        for part in self.noise:
            w = walk.through(part, w, x)
        fill = self._fill(raw)
        v = walk.step(w, fill)
        tape.push(raw.flatten(), *self._near(fill, v))
        for part in self.parts:
            v = walk.through(part, v, context)
        return nats - walk.log_det - push_base(tape, self.flow.base, v)

    def read(self, tape: Tape, n: int, y: Tensor | None) -> Tensor:
        context = self.flow.context(y, ROWS)
        shape, walk = (n, *self.run.codec.data_space.shape), Walk(tape, ahead=False)
        v = pop_base(tape, self.flow.base, shape)
        for part in reversed(self.parts):
            v = walk.through(part, v, context)
        raw = tape.pop(*self._near(self._fill(v), v)).view(shape)
        w, x = walk.step(v, self._fill(raw)), self._x(raw)
        for part in reversed(self.noise):
            w = walk.through(part, w, x)
        tape.push_by(w, logistic, STEPS, BITS, sure=True)
        return raw

    def _fill(self, raw: Tensor) -> Fill:
        return Fill(raw, self.levels, self.alpha)

    def _near(self, fill: Fill, v: Tensor) -> tuple[object, np.ndarray, np.ndarray]:
        """The level of v nearly surely; that of a neighbour where noise led over the edge."""
        mean = fill.around(units(v)).flatten().numpy()
        family = constriction().stream.model.QuantizedGaussian(0, self.levels - 1)
        return family, mean, np.full_like(mean, SHARP)

    def _x(self, raw: Tensor) -> Tensor | None:
        """What the noise is told."""
        return self.run.codec.encode(filled(raw)).x if self.noise else None

    def probe(self) -> Tensor:
        """The codes of a few fixed images, and what they are worth."""
        shape = (ROWS, *self.run.codec.data_space.shape)
        raw = (torch.arange(math.prod(shape)).view(shape) * 7919 // 3) % self.levels
        v = self._fill(raw).forward(torch.zeros(shape, dtype=torch.float64))[0].to(torch.get_default_dtype())
        context = self.flow.context(self.run.codec.space.filled(None, ROWS), ROWS)
        parts = [self.flow.transform(v, context)]
        x, e = self._x(raw), torch.zeros(shape)
        for part in self.noise:
            e, log_det = part(e, x)
            parts.append((e, log_det))
        return torch.cat([t.flatten() for pair in parts for t in pair])


def logistic(k: Tensor) -> Tensor:
    """The probability of the first k steps."""
    p = torch.sigmoid((k.double() - STEPS // 2) * 2**BITS * CELL)
    return torch.where(k < 1, 0.0, torch.where(k < STEPS, p, 1.0))


def log_logistic(w: Tensor) -> Tensor:
    return -softplus(w) - softplus(-w)


def push_base(tape: Tape, base: BaseDensity, z: Tensor) -> float:
    """Codes by their density, whose log is returned."""
    at = units(z)
    match base:
        case NormalBase():
            tape.push_normal(z, *_standard(z.shape), sure=False)
        case Mixture():  # bits-back: the component is popped given z
            k = tape.pop(tape.stack.family, table(_components(base, at)))
            tape.push_normal(z, *_normal(base, k, z.shape), sure=False)
            tape.push(k, tape.stack.family, table(base.logits.expand(len(z), -1)))
        case _:
            tape.push_by(z, logistic, STEPS, BITS, sure=False)
            return float(log_logistic(at).sum())
    return float(base.log_prob(at).sum())


def pop_base(tape: Tape, base: BaseDensity, shape: tuple[int, ...]) -> Tensor:
    """The inverse of `push_base`."""
    match base:
        case NormalBase():
            return tape.pop_normal(*_standard(shape), sure=False)
        case Mixture():
            k = tape.pop(tape.stack.family, table(base.logits.expand(shape[0], -1)))
            z = tape.pop_normal(*_normal(base, k, shape), sure=False)
            tape.push(k, tape.stack.family, table(_components(base, units(z))))
            return z
    return tape.pop_by(logistic, STEPS, BITS, shape, sure=False)


def _standard(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    return torch.zeros(shape).double(), torch.full(shape, 1 / CELL).double()


def _normal(base: Mixture, k: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Of each code given its component."""
    mean, deviation = base.means[k], base.log_deviations[k].exp()
    return mean.double().view(shape) / CELL, deviation.double().view(shape) / CELL


def _components(base: Mixture, z: Tensor) -> Tensor:
    """log p(component given z) `(n, K)`, but for a constant."""
    e = (z.flatten(1)[:, None] - base.means) * (-base.log_deviations).exp()
    return base.logits - (e**2).sum(2) / 2 - base.log_deviations.sum(1)
