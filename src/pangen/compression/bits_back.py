"""Bits-back coding of latent models (Townsend et al. 2019), chained over examples on one stack.

To write x: z is popped by q(z given x), x is pushed by p(x given z), and z by p(z). Reading does the opposite and
gives back the bits that z was made of, so that an example costs log q(z given x) - log p(x, z): the negative bound.
Groups of codes (Ho et al. 2019, Kingma et al. 2019) are popped from the top down and pushed from the bottom up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from pangen.compression.coder import Stack, pop_levels, push_levels, table
from pangen.likelihoods import Normal
from pangen.run import Run
from pangen.space import Distribution

REACH, STEP = 2.0**8, 2.0**-12
"""Codes are the middles of cells of this width between -REACH and REACH; the outer ones are infinite."""
CELLS = int(2 * REACH / STEP)
SPARE = 64
"""Bits that are never popped, so that the stack can tell where it ends."""
ROWS = 64
"""Examples that one network call serves at most."""

Pick = Callable[[Normal], Tensor]
"""A code for each group's distribution."""


@dataclass(frozen=True)
class Group:
    """A group's code as cells `(B, size)`, and its distributions given the groups above."""

    cells: Tensor
    p: Normal
    q: Normal


@runtime_checkable
class OneGroup(Protocol):
    """A normal posterior, and a normal prior that is the same for all."""

    def prior(self, n: int) -> Normal: ...
    def q(self, x: Tensor, y: Tensor | None = None) -> Normal: ...
    def p(self, z: Tensor, y: Tensor | None = None) -> Distribution: ...


@runtime_checkable
class Ladder(Protocol):
    """Groups of normal codes from the top down, q relative to p."""

    def up(self, x: Tensor, y: Tensor | None = None) -> list[Tensor]: ...
    def descend(self, e: Tensor, y: Tensor | None, d: Any = None, pick: Any = None) -> Any: ...
    def x_given(self, h: Tensor) -> Distribution: ...


def descend(
    model: Any, x: Tensor | None, y: Tensor | None, n: int, pick: Pick
) -> tuple[list[Group], Callable[[], Distribution]]:
    """All groups, codes picked by q where there is an x and else by p, and what gives p(x given z)."""
    cells: list[Tensor] = []

    def keep(normal: Normal) -> Tensor:
        cells.append(pick(normal))
        return middle(cells[-1]).to(normal.mean)

    if isinstance(model, Ladder):
        empty = torch.zeros(n, *model.latent_space.shape)
        d = None if x is None else model.up(x, y)
        steps, h = model.descend(empty, y, d, lambda normal, _: keep(normal))
        groups = [Group(k, step.p, step.q) for k, step in zip(cells, steps, strict=True)]
        return groups, partial(model.x_given, h)
    p = model.prior(n)
    q = p if x is None else model.q(x, y)
    z = keep(q)
    return [Group(cells[0], p, q)], partial(model.p, z, y)


def middle(cells: Tensor) -> Tensor:
    """The number that stands for a cell."""
    return (cells.double() + 0.5) * STEP - REACH


def below(normal: Normal) -> Callable[[Tensor], Tensor]:
    """The probability of the first k cells."""

    def cdf(k: Tensor) -> Tensor:
        p = normal.cdf(k.double() * STEP - REACH)
        return torch.where(k < 1, 0.0, torch.where(k < CELLS, p, 1.0))

    return cdf


def first(normal: Normal, n: int) -> Normal:
    return Normal(normal.mean[:n], normal.log_scale[:n])


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

    def write(self, raw: Tensor, labels: Tensor | None) -> np.ndarray:
        """The words of the stack; it grows with what is on it, so that little has to be there at the start."""
        words = None if len(raw) else np.empty(0, np.uint32)
        self.initial = self._needed(raw[:1], None if labels is None else labels[:1]) if len(raw) else 0
        while words is None:
            words = self._written(raw, labels)
            self.initial += 0 if words is not None else self.initial
        return words

    def _written(self, raw: Tensor, labels: Tensor | None) -> np.ndarray | None:
        """None where the stack ran empty."""
        stack, at, n = Stack(noise(self.initial), sealed=False), 0, 1
        self.nats, self.groups = 0.0, []
        while at < len(raw):
            trial = stack.copy()
            y = None if labels is None else labels[at : at + n]
            groups, px, nats = self._popped(trial, raw[at : at + n], y)
            if trial.bits < SPARE:
                if n == 1:
                    return None
                n //= 2
                continue
            spent = (stack.bits - trial.bits) / n
            self._pushed(trial, raw[at : at + n], groups, px, y)
            self.nats, stack = self.nats + nats, trial
            self.groups.append(n)
            at += n
            n = max(min(int(stack.bits / (1.25 * spent + 1)), ROWS, len(raw) - at), 1)
        return stack.words()

    def read(self, words: np.ndarray) -> Tensor:
        """The examples, the last first."""
        stack = Stack(words, sealed=True)
        found = [self._read(stack, size) for size in reversed(self.groups)]
        if self.groups and not np.array_equal(stack.ans.get_compressed(unseal=True), noise(self.initial)):
            raise ValueError("the bits that the stack began with are others")
        return torch.cat(found[::-1]) if found else torch.empty(0, *self.run.codec.data_space.shape).long()

    def _needed(self, raw: Tensor, labels: Tensor | None) -> int:
        """Bytes that the code of one example is popped from."""
        stack = Stack(noise(16 * self.run.model.latent_space.dims + 64), sealed=False)
        before = stack.bits
        self._popped(stack, raw, labels)
        return 4 * (-(-(before - stack.bits + SPARE) // 32) + 1)

    def _inputs(self, y: Tensor | None) -> Tensor | None:
        return self.run.codec.space.filled(y, ROWS)

    def _x(self, raw: Tensor) -> Tensor:
        whole = torch.zeros(ROWS, *raw.shape[1:], dtype=raw.dtype)
        whole[: len(raw)] = raw
        return self.to_x(whole)

    def _popped(
        self, stack: Stack, raw: Tensor, labels: Tensor | None
    ) -> tuple[list[Group], Distribution, float]:
        n, x, y = len(raw), self._x(raw), self._inputs(labels)

        def pick(q: Normal) -> Tensor:
            mine = first(q, n)
            return _filled(pop_levels(stack, below(mine), CELLS, tuple(mine.mean.shape)), CELLS // 2)

        groups, found = descend(self.run.model, x, y, ROWS, pick)
        px = found()
        nats = -px.log_prob(x)[:n].double()
        for group in groups:
            z = middle(group.cells).to(group.p.mean)
            nats = nats + (group.q.log_prob(z) - group.p.log_prob(z))[:n].double()
        if labels is not None:
            nats = nats - self.prior[labels]
        return groups, px, float(nats.sum())

    def _pushed(
        self, stack: Stack, raw: Tensor, groups: list[Group], px: Distribution, labels: Tensor | None
    ) -> None:
        n = len(raw)
        levels = torch.zeros(ROWS, *raw.shape[1:], dtype=torch.int64)
        levels[:n] = raw
        push_levels(stack, lambda k: px.below(_filled(k))[:n], self.levels, levels[:n])
        for group in reversed(groups):
            push_levels(stack, below(first(group.p, n)), CELLS, group.cells[:n])
        if labels is not None:
            stack.push(self._table(n), labels.numpy().astype(np.int32))

    def _read(self, stack: Stack, n: int) -> Tensor:
        labels = None
        if self.prior is not None:
            labels = torch.from_numpy(stack.pop(self._table(n)).astype(np.int64))
        y = self._inputs(labels)

        def pick(p: Normal) -> Tensor:
            mine = first(p, n)
            return _filled(pop_levels(stack, below(mine), CELLS, tuple(mine.mean.shape)), CELLS // 2)

        groups, found = descend(self.run.model, None, y, ROWS, pick)
        px = found()
        shape = (n, *self.run.codec.data_space.shape)
        raw = pop_levels(stack, lambda k: px.below(_filled(k))[:n], self.levels, shape)
        waiting = [group.cells for group in groups]
        again, _ = descend(self.run.model, self._x(raw), y, ROWS, _in_turn(waiting))
        for group in reversed(again):
            push_levels(stack, below(first(group.q, n)), CELLS, group.cells[:n])
        return raw

    def _table(self, n: int) -> np.ndarray:
        return table(self.prior.expand(n, -1))


def _in_turn(waiting: list[Tensor]) -> Pick:
    turn = iter(waiting)
    return lambda _: next(turn)


def _filled(levels: Tensor, value: int = 0) -> Tensor:
    """With as many rows as the network sees."""
    return torch.cat([levels, levels.new_full((ROWS - len(levels), *levels.shape[1:]), value)])


def noise(size: int) -> np.ndarray:
    """Arbitrary words of so many bytes together, the top ones always the same."""
    return np.random.default_rng(0).integers(0, 2**32, size // 4, dtype=np.uint32)[::-1].copy()


def probe(run: Run, to_x: Callable[[Tensor], Tensor], levels: int) -> bytes:
    """What the networks say of a fixed example, to the last digit."""
    shape = run.codec.data_space.shape
    raw = (torch.arange(ROWS * int(np.prod(shape))).view(ROWS, *shape) * 7919 // 3) % levels
    middles = [torch.zeros(0)]

    def pick(normal: Normal) -> Tensor:
        middles.append(normal.mean)
        return ((normal.mean.double() + REACH) / STEP).floor().long().clamp(0, CELLS - 1)

    y = run.codec.space.filled(None, ROWS)
    groups, px = descend(run.model, to_x(raw), y, ROWS, pick)
    middles += [group.p.log_scale for group in groups] + [px().mean]
    return b"".join(part.contiguous().numpy().tobytes() for part in middles)
