"""Bits-back coding of latent models (Townsend et al. 2019), chained over examples on one stack.

To write x: z is popped by q(z given x), x is pushed by p(x given z), and z by p(z). Reading does the opposite and
gives back the bits that z was made of, so that an example costs log q(z given x) - log p(x, z): the negative bound.
Groups of codes are popped from the top down and pushed from the bottom up. The order of Bit-Swap (Kingma et al. 2019),
which begins with the bits of one group alone, is for a q that climbs from x; here q of each group knows those above, and x
is told by all of them. What there has to be at first is less because cells are no finer than q of a group asks for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from pangen.capabilities import HasLatent
from pangen.compression.coder import Discrete, Stack, pop_levels, push_levels, table
from pangen.likelihoods import Normal
from pangen.run import Run
from pangen.space import Space

REACH = 2**8
FINEST = 12
"""2^-12 is the narrowest cell."""
SPARE = 64
"""Bits that are never popped, so that the stack can tell where it ends."""
ROWS, FEWEST = 64, 16
"""Examples that one network call serves at most, and at least: oneDNN leaves small convolutions of fewer to slower code."""
VALUES = 2**14
"""That so many examples have together, about: what layers make of more does not stay in the cache, and its memory is
given back and fetched anew at each layer."""


@dataclass(frozen=True)
class Grid:
    """Codes are the middles of cells 2^-fine wide between -REACH and REACH; the outer ones are infinite."""

    fine: int

    @property
    def count(self) -> int:
        return 2 * REACH << self.fine

    def middle(self, cells: Tensor) -> Tensor:
        """The number that stands for a cell, float64."""
        return (cells.double() + 0.5) * 2.0**-self.fine - REACH

    def nearest(self, z: Tensor) -> Tensor:
        """The cell of a number."""
        return ((z.double() + REACH) * 2.0**self.fine).floor().long().clamp(0, self.count - 1)

    def below(self, normal: Normal) -> Callable[[Tensor], Tensor]:
        """The probability of the first k cells."""

        def cdf(k: Tensor) -> Tensor:
            p = normal.cdf(k.double() * 2.0**-self.fine - REACH)
            return torch.where(k < 1, 0.0, torch.where(k < self.count, p, 1.0))

        return cdf

    @classmethod
    def for_scale(cls, sigma: float) -> Grid:
        """Cells of half a standard deviation at most, which cost 0.01 nats more than endless precision."""
        return cls(min(max(math.ceil(-math.log2(sigma / 2)), 0), FINEST))


def rows_of(run: Run) -> int:
    """Examples that one call of a run's networks serves."""
    return min(max(VALUES // math.prod(run.codec.data_space.shape), FEWEST), ROWS)


Pick = Callable[[Grid, Normal], Tensor]
"""Cells for each group's distribution."""


@dataclass(frozen=True)
class Group:
    """A group's code as cells `(B, size)`, and its distributions given the groups above."""

    grid: Grid
    cells: Tensor
    p: Normal
    q: Normal

    @property
    def z(self) -> Tensor:
        return self.grid.middle(self.cells).to(self.p.mean)


@runtime_checkable
class OneGroup(Protocol):
    """A normal posterior, and a normal prior that is the same for all."""

    def prior(self, n: int) -> Normal: ...
    def q(self, x: Tensor, y: Tensor | None = None) -> Normal: ...
    def p(self, z: Tensor, y: Tensor | None = None) -> Discrete: ...


@runtime_checkable
class Ladder(Protocol):
    """Groups of normal codes from the top down, q relative to p."""

    latent_space: Space

    def up(self, x: Tensor, y: Tensor | None = None) -> list[Tensor]: ...
    def descend(self, e: Tensor, y: Tensor | None, d: Any = None, pick: Any = None) -> Any: ...
    def x_given(self, h: Tensor) -> Discrete: ...


def descend(
    model: Any, x: Tensor | None, y: Tensor | None, n: int, pick: Pick, grids: Iterator[Grid]
) -> tuple[list[Group], Callable[[], Discrete]]:
    """All groups, codes picked by q where there is an x and else by p, and what gives p(x given z)."""
    picked: list[tuple[Grid, Tensor]] = []

    def keep(normal: Normal) -> Tensor:
        grid = next(grids)
        picked.append((grid, pick(grid, normal)))
        return grid.middle(picked[-1][1]).to(normal.mean)

    if isinstance(model, Ladder):
        empty = torch.zeros(n, *model.latent_space.shape)
        d = None if x is None else model.up(x, y)
        steps, h = model.descend(empty, y, d, lambda normal, _: keep(normal))
        groups = [Group(*k, step.p, step.q) for k, step in zip(picked, steps, strict=True)]
        return groups, partial(model.x_given, h)
    p = model.prior(n)
    q = p if x is None else model.q(x, y)
    z = keep(q)
    return [Group(*picked[0], p, q)], partial(model.p, z, y)


def first(normal: Normal, n: int) -> Normal:
    return Normal(normal.mean[:n], normal.log_scale[:n])


class Stacked(NamedTuple):
    """Examples on a stack: its words, and what `BitsBack` says of them."""

    words: np.ndarray
    initial: int
    nats: float
    groups: list[int]


def stacked(
    initial: int,
    count: int,
    put: Callable[[Stack, slice], tuple[Stack, float, float]],
    *,
    room: float,
    rows: int = ROWS,
) -> Stacked:
    """`count` examples, as many at once, up to `rows`, as the stack has bits for, on `initial` bytes or, where these run
    out, more.

    `put` puts some examples on a stack, and says what they are worth in nats and how few bits there were in between;
    `room` is how much more than the last ones the next may need.
    """
    if not count:
        return Stacked(np.empty(0, np.uint32), initial, 0.0, [])
    stack, at, n, total, groups = Stack(noise(initial), sealed=False), 0, 1, 0.0, []
    while at < count:
        trial, nats, least = put(stack.copy(), slice(at, at + n))
        if least < SPARE:
            if n == 1:
                return stacked(2 * initial, count, put, room=room, rows=rows)
            n //= 2
            continue
        spent = (stack.bits - least) / n
        stack, total = trial, total + nats
        groups.append(n)
        at += n
        n = max(min(int(stack.bits / (room * spent + 1)), rows, count - at), 1)
    return Stacked(stack.words(), initial, total, groups)


@dataclass
class BitsBack:
    """Levels `(N, *shape)` of examples through a stack, whose first bits `initial` are arbitrary."""

    run: Run
    levels: int
    to_x: Callable[[Tensor], Tensor]
    """Levels as the model sees them."""
    prior: Tensor | None = None
    """log p(y), of a model of labels."""
    nats: float = 0.0
    initial: int = 0
    """Bytes that the stack has to begin with."""
    groups: list[int] = field(default_factory=list)
    """How many examples were coded together, one number after another."""
    fine: list[int] = field(default_factory=list)
    """Of the grid of each group of codes."""

    @property
    def rows(self) -> int:
        return rows_of(self.run)

    def write(self, raw: Tensor, labels: Tensor | None) -> np.ndarray:
        """The words of the stack; it grows with what is on it, so that little has to be there at the start."""
        if len(raw):
            self.fine = self._fine(raw[: self.rows], None if labels is None else labels[: self.rows])
            self.initial = self._needed(raw[:1], None if labels is None else labels[:1])
        found = stacked(
            self.initial, len(raw), partial(self._stacked, raw, labels), room=1.25, rows=self.rows
        )
        self.initial, self.nats, self.groups = found.initial, found.nats, found.groups
        return found.words

    def _stacked(
        self, raw: Tensor, labels: Tensor | None, stack: Stack, some: slice
    ) -> tuple[Stack, float, float]:
        y = None if labels is None else labels[some]
        groups, px, nats = self._popped(stack, raw[some], y)
        least = stack.bits
        if least >= SPARE:
            self._pushed(stack, raw[some], groups, px, y)
        return stack, nats, least

    def read(self, words: np.ndarray) -> Tensor:
        """The examples, the last first."""
        stack = Stack(words, sealed=True)
        found = [self._read(stack, size) for size in reversed(self.groups)]
        if self.groups and not np.array_equal(stack.ans.get_compressed(unseal=True), noise(self.initial)):
            raise ValueError("the bits that the stack began with are others")
        return torch.cat(found[::-1]) if found else torch.empty(0, *self.run.codec.data_space.shape).long()

    def _fine(self, raw: Tensor, labels: Tensor | None) -> list[int]:
        """As the narrowest q of each group of codes asks for."""
        groups, _ = descend(
            self.run.model, self._x(raw), self._inputs(labels), self.rows, lambda grid, q: grid.nearest(q.mean), finest()
        )  # fmt: skip
        narrow = (float(group.q.log_scale[: len(raw)].min().exp()) for group in groups)
        return [Grid.for_scale(sigma).fine for sigma in narrow]

    def _grids(self) -> Iterator[Grid]:
        return map(Grid, self.fine)

    def _needed(self, raw: Tensor, labels: Tensor | None) -> int:
        """Bytes that the code of one example is popped from."""
        codes = cast("HasLatent", self.run.model).latent_space
        stack = Stack(noise(16 * codes.dims + 64), sealed=False)
        before = stack.bits
        self._popped(stack, raw, labels)
        return 4 * (-(-(before - stack.bits + SPARE) // 32) + 1)

    def _inputs(self, y: Tensor | None) -> Tensor | None:
        return self.run.codec.space.filled(y, self.rows)

    def _x(self, raw: Tensor) -> Tensor:
        return self.to_x(_filled(raw, self.rows))

    def _popped(
        self, stack: Stack, raw: Tensor, labels: Tensor | None
    ) -> tuple[list[Group], Discrete, float]:
        n, x, y = len(raw), self._x(raw), self._inputs(labels)

        groups, found = descend(self.run.model, x, y, self.rows, _popping(stack, n, self.rows), self._grids())
        px = found()
        nats = -px.log_prob(x)[:n].double()
        for group in groups:
            nats = nats + (group.q.log_prob(group.z) - group.p.log_prob(group.z))[:n].double()
        if labels is not None and self.prior is not None:
            nats = nats - self.prior[labels]
        return groups, px, float(nats.sum())

    def _pushed(
        self, stack: Stack, raw: Tensor, groups: list[Group], px: Discrete, labels: Tensor | None
    ) -> None:
        n = len(raw)
        push_levels(stack, lambda k: px.below(_filled(k, self.rows))[:n], self.levels, raw.long())
        for group in reversed(groups):
            _push(stack, group, group.p, n)
        if labels is not None and self.prior is not None:
            stack.push(table(self.prior.expand(n, -1)), labels.numpy().astype(np.int32))

    def _read(self, stack: Stack, n: int) -> Tensor:
        labels = None
        if self.prior is not None:
            labels = torch.from_numpy(stack.pop(table(self.prior.expand(n, -1))).astype(np.int64))
        y = self._inputs(labels)

        groups, found = descend(
            self.run.model, None, y, self.rows, _popping(stack, n, self.rows), self._grids()
        )
        px = found()
        shape = (n, *self.run.codec.data_space.shape)
        raw = pop_levels(stack, lambda k: px.below(_filled(k, self.rows))[:n], self.levels, shape)
        waiting = iter(groups)
        again, _ = descend(
            self.run.model, self._x(raw), y, self.rows, lambda grid, q: next(waiting).cells, self._grids()
        )
        for group in reversed(again):
            _push(stack, group, group.q, n)
        return raw


def _popping(stack: Stack, n: int, rows: int) -> Pick:
    """Codes of n of the rows from a stack, those of the others in the middle."""

    def pick(grid: Grid, normal: Normal) -> Tensor:
        mine = first(normal, n)
        cells = pop_levels(stack, grid.below(mine), grid.count, tuple(mine.mean.shape))
        return _filled(cells, rows, grid.count // 2)

    return pick


def _push(stack: Stack, group: Group, normal: Normal, n: int) -> None:
    push_levels(stack, group.grid.below(first(normal, n)), group.grid.count, group.cells[:n])


def finest() -> Iterator[Grid]:
    """For any number of groups."""
    return repeat(Grid(FINEST))


def _filled(levels: Tensor, rows: int, value: int = 0) -> Tensor:
    """With as many rows as the network sees."""
    return torch.cat([levels, levels.new_full((rows - len(levels), *levels.shape[1:]), value)])


def noise(size: int) -> np.ndarray:
    """Arbitrary words of so many bytes together, the top ones always the same."""
    return np.random.default_rng(0).integers(0, 2**32, size // 4, dtype=np.uint32)[::-1].copy()


def probe(run: Run, to_x: Callable[[Tensor], Tensor], levels: int) -> bytes:
    """What the networks say of a fixed example, to the last digit."""
    shape, rows = run.codec.data_space.shape, rows_of(run)
    raw = (torch.arange(rows * math.prod(shape)).view(rows, *shape) * 7919 // 3) % levels
    middles = [torch.zeros(0)]

    def pick(grid: Grid, normal: Normal) -> Tensor:
        middles.append(normal.mean)
        return grid.nearest(normal.mean)

    y = run.codec.space.filled(None, rows)
    groups, px = descend(run.model, to_x(raw), y, rows, pick, finest())
    middles += [group.p.log_scale for group in groups] + [px().mean]
    return b"".join(part.contiguous().numpy().tobytes() for part in middles)
