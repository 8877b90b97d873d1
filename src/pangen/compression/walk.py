"""Local bits-back coding (Ho, Lohn and Abbeel 2019): an exact bijection of cells out of one that rounds.

A map x -> y of numbers one by one, told by others, is made reversible by a little noise: y is popped around f(x) with the
deviation sigma f'(x), and x is pushed around f^-1(y) with the deviation sigma. Each direction needs the one side that it
knows, and on average a step gives log f'(x). Layers follow one another so (Section 3.4), and no Jacobian of all
dimensions is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from pangen.compression.chain import filled
from pangen.compression.tape import Tape
from pangen.families.flow.tarflow import CausalAffine, Patches
from pangen.networks.autoregressive import Autoregressive
from pangen.networks.bijections import (
    Additive,
    Compose,
    Coupling,
    Elementwise,
    Flatten,
    Invertible1x1,
    MaskedCoupling,
    OnHalf,
    Scale,
    Shift,
    Sigmoid,
    Sorted,
    Squeeze,
    Through,
    Transform,
)

CELL, SIGMA = 2.0**-20, 2.0**-10
"""The width of a cell, and the deviation of a step's noise, where data has deviations of about 1."""
KNOWN = (
    Compose, Through, OnHalf, Shift, Scale, Coupling, MaskedCoupling, Autoregressive, CausalAffine, Invertible1x1,
    Flatten, Squeeze, Sorted, Patches, Sigmoid,
)  # fmt: skip
"""Transforms that cells go through, what only moves them about, and the end of a uniform base."""


class Map(Protocol):
    """A rising map of numbers of one shape, and the log of its slope."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]: ...
    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class Told:
    """A map whose parameters are known."""

    of: Elementwise
    raw: Tensor

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.of.forward(x, self.raw)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.of.inverse(y, self.raw)


@dataclass(frozen=True)
class Line:
    """y = exp(s) (x - mu)."""

    s: Tensor
    mu: Tensor | float = 0.0

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return (x - self.mu) * self.s.exp(), self.s.expand(x.shape)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return y * (-self.s).exp() + self.mu, -self.s.expand(y.shape)


@dataclass
class Walk:
    """Cells `(n, *shape)` through transforms: `ahead` from data to codes, else back."""

    tape: Tape
    ahead: bool
    log_det: float = 0.0

    def through(self, t: Transform, v: Tensor, context: Tensor | None) -> Tensor:
        """A transform of what networks see `ROWS` rows of, the context too."""
        match t:
            case Compose():
                for part in t.parts if self.ahead else reversed(t.parts):
                    v = self.through(part, v, context)
                return v
            case Through():
                return t.change.inverse(self.through(t.inner, t.change.arrange(v), context))
            case OnHalf():
                a, b = v.chunk(2, 1)
                return torch.cat([self.through(t.inner, a, context), b], 1)
            case Shift():
                return self.shifted(v, t.b.double())
            case Scale():
                return self.step(v, Line(t.s.double()))
            case Coupling():
                lower, upper = v[:, : t.cut], v[:, t.cut :]
                seen, moved = (lower, upper) if t.upper else (upper, lower)
                moved = self.told(moved, t.map, numbers(t.net, seen, context))
                return torch.cat([seen, moved] if t.upper else [moved, seen], 1)
            case MaskedCoupling():
                raw = numbers(t.net, v * t.mask.long(), context).flatten(2)
                flat, at = v.flatten(1).clone(), t.moved.flatten().nonzero()[:, 0]
                flat[:, at] = self.told(flat[:, at], t.map, raw[..., at])
                return flat.view_as(v)
            case Invertible1x1():
                return self.mixed(t, v.movedim(1, 0)).movedim(0, 1)
        return self.in_turn(t, v, context)

    def in_turn(self, t: Any, v: Tensor, context: Tensor | None) -> Tensor:
        """A transform in which each entry is told by those before it."""
        match t:
            case Autoregressive():
                flat = self.one_by_one(
                    v.flatten(1),
                    t.net.order,
                    lambda x: numbers(t.net, x, context),
                    lambda raw, d: Told(t.map, raw[..., d]),
                )
                return flat.view_as(v)
            case CausalAffine():
                v = v.flip(1) if t.reverse else v
                v = self.one_by_one(
                    v,
                    list(range(v.shape[1])),
                    lambda x: torch.stack(t.mu_alpha(t.net(t.inputs(real(x)[:, :-1], context)))).double(),
                    lambda found, i: Line(-found[1, : len(v), i], found[0, : len(v), i]),
                )
                return v.flip(1) if t.reverse else v
        raise TypeError(f"no way through {type(t).__name__}")

    def told(self, v: Tensor, of: Elementwise, raw: Tensor) -> Tensor:
        return self.shifted(v, raw[0]) if isinstance(of, Additive) else self.step(v, Told(of, raw))

    def shifted(self, v: Tensor, by: Tensor) -> Tensor:
        """A translation by whole cells is exact."""
        cells = (by / CELL).round().long()
        return v + cells if self.ahead else v - cells

    def step(self, v: Tensor, f: Map) -> Tensor:
        """Of each number its image is popped, and the number pushed; a deviation is a cell at least, on both sides."""
        there, back = (f.forward, f.inverse) if self.ahead else (f.inverse, f.forward)
        mean, log_slope = there(units(v))
        found = self.tape.pop_normal(mean / CELL, self._std(log_slope, self.ahead), sure=self.ahead)
        self.log_det += float(log_slope.sum())
        mean, log_slope = back(units(found))
        self.tape.push_normal(v, mean / CELL, self._std(log_slope, not self.ahead), sure=not self.ahead)
        return found

    def _std(self, log_slope: Tensor, of_y: bool) -> Tensor:
        """Of y given x by the slope there, of x given y by the slope of the inverse."""
        noise, slope = SIGMA / CELL, log_slope.exp()
        return (noise * slope).clamp(min=1) if of_y else slope.clamp(min=noise)

    def one_by_one(
        self,
        v: Tensor,
        order: list[int],
        network: Callable[[Tensor], Tensor],
        map_of: Callable[[Tensor, int], Map],
    ) -> Tensor:
        """Entries `(n, D, ...)` in an order; ahead from the last, so that they come back from the first."""
        found = torch.zeros_like(v)
        raw = network(v) if self.ahead else None
        for d in reversed(order) if self.ahead else order:
            found[:, d] = self.step(v[:, d], map_of(network(found) if raw is None else raw, d))
        return found

    def mixed(self, t: Invertible1x1, v: Tensor) -> Tensor:
        """P L U of channels `(C, n, ...)`: U is a diagonal and a shear, L a shear, and shears are exact."""
        column = (-1, *[1] * (v.ndim - 1))
        sign, s = t.sign.double(), t.log_s.double()
        L, U = (factor.double() for factor in t.factors())
        U = U / (sign * s.exp())
        signs, line, place = sign.long().view(column), Line(s.view(column)), t.P.argmax(1)
        if self.ahead:
            v = self.step(v * signs, line)
            return self.sheared(self.sheared(v, U, upper=True), L, upper=False)[place]
        v = self.sheared(self.sheared(v[place.argsort()], L, upper=False), U, upper=True)
        return self.step(v, line) * signs

    def sheared(self, v: Tensor, M: Tensor, *, upper: bool) -> Tensor:
        """Each channel moved by those that have not been, as the triangle M with a unit diagonal has it."""
        v, C = v.clone(), len(v)
        for i in range(C) if upper == self.ahead else reversed(range(C)):
            rest = slice(i + 1, C) if upper else slice(0, i)
            if rest.start < rest.stop:
                v[i] = self.shifted(v[i], torch.tensordot(M[i, rest], units(v[rest]), 1))
        return v


def walkable(t: Transform) -> bool:
    """Whether cells can go through a transform."""
    return all(isinstance(part, KNOWN) for part in t.modules() if isinstance(part, Transform))


def units(cells: Tensor) -> Tensor:
    """The numbers, float64, that cells stand for."""
    return (cells.double() + 0.5) * CELL


def real(cells: Tensor) -> Tensor:
    """Cells as networks see them, with as many rows."""
    return filled(units(cells)).to(torch.get_default_dtype())


def numbers(net: Callable[..., Tensor], seen: Tensor, context: Tensor | None) -> Tensor:
    """A network's parameters `(k, n, *shape)`, told cells and the context."""
    return net(real(seen), context)[..., : len(seen)].movedim(-1, 1).double()
