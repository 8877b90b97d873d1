"""Examples after one another on one stack, as many at once as it has bits for."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pangen.compression.bits_back import ROWS, SPARE, noise, stacked
from pangen.compression.coder import Stack, table
from pangen.compression.tape import Tape
from pangen.run import Run

AMPLE = 2**22
"""Bytes that a single example's first bits are taken from, to see how many it asks for."""


class Scheme(Protocol):
    """How a kind of model codes a few examples, all popping and pushing in one order and back in the other."""

    @property
    def name(self) -> str: ...

    def write(self, tape: Tape, raw: Tensor, y: Tensor | None) -> float:
        """Levels `(n, *shape)` and the conditions of `ROWS` examples; returns the nats that they are worth."""
        ...

    def read(self, tape: Tape, n: int, y: Tensor | None) -> Tensor:
        """The inverse of `write`."""
        ...

    def probe(self) -> Tensor:
        """What the networks say of fixed examples, to the last digit."""
        ...


@dataclass
class Chain:
    """Levels `(N, *shape)` of examples through a stack, whose first bits `initial` are arbitrary."""

    run: Run
    scheme: Scheme
    prior: Tensor | None = None
    """log p(y), of a model of labels."""
    nats: float = 0.0
    initial: int = 0
    """Bytes that the stack has to begin with."""
    groups: list[int] = field(default_factory=list)
    """How many examples were coded together, one number after another."""

    def write(self, raw: Tensor, labels: Tensor | None) -> np.ndarray:
        """The words of the stack; it grows with what is on it, so that little has to be there at the start."""
        self.initial = self._needed(raw, labels) if len(raw) else 0
        found = stacked(self.initial, len(raw), partial(self._stacked, raw, labels), room=1.1)
        self.initial, self.nats, self.groups = found.initial, found.nats, found.groups
        return found.words

    def _stacked(
        self, raw: Tensor, labels: Tensor | None, stack: Stack, some: slice
    ) -> tuple[Stack, float, float]:
        tape, nats = self._taped(stack, raw, labels, some)
        return tape.stack, nats, tape.least

    def _needed(self, raw: Tensor, labels: Tensor | None) -> int:
        """Bytes that the first example asks for."""
        tape, _ = self._taped(Stack(noise(AMPLE), sealed=False), raw, labels, slice(1))
        return 4 * (-(-(8 * AMPLE - tape.least + SPARE) // 32) + 1)

    def _taped(self, stack: Stack, raw: Tensor, labels: Tensor | None, some: slice) -> tuple[Tape, float]:
        """The stack when some examples are on it, and what they are worth."""
        tape, raw, y = Tape(stack), raw[some], None if labels is None else labels[some]
        nats = self.scheme.write(tape, raw, self._inputs(y))
        if y is not None and self.prior is not None:
            tape.push(y, stack.family, table(self.prior.expand(len(y), -1)))
            nats -= float(self.prior[y].sum())
        return tape, nats

    def read(self, words: np.ndarray) -> Tensor:
        """The examples, the last first."""
        tape, found = Tape(Stack(words, sealed=True)), []
        for n in reversed(self.groups):
            labels = None
            if self.prior is not None:
                labels = tape.pop(tape.stack.family, table(self.prior.expand(n, -1)))
            found.append(self.scheme.read(tape, n, self._inputs(labels)))
        rest = tape.stack.ans.get_compressed(unseal=True) if self.groups else words
        if not np.array_equal(rest, noise(self.initial)):
            raise ValueError("the bits that the stack began with are others")
        return torch.cat(found[::-1]) if found else torch.empty(0, *self.run.codec.data_space.shape).long()

    def _inputs(self, y: Tensor | None) -> Tensor | None:
        return self.run.codec.space.filled(y, ROWS)


def filled(x: Tensor) -> Tensor:
    """With as many rows as networks see."""
    return torch.cat([x, x.new_zeros(ROWS - len(x), *x.shape[1:])])
