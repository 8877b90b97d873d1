"""Examples after one another on one stack, as many at once as it has bits for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pangen.compression.bits_back import ROWS, SPARE, noise
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
        words = None if len(raw) else np.empty(0, np.uint32)
        self.initial = self._needed(raw, labels) if len(raw) else 0
        while words is None:
            words = self._written(raw, labels)
            self.initial += 0 if words is not None else self.initial
        return words

    def _written(self, raw: Tensor, labels: Tensor | None) -> np.ndarray | None:
        """None where the stack ran empty."""
        stack, at, n = Stack(noise(self.initial), sealed=False), 0, 1
        self.nats, self.groups = 0.0, []
        while at < len(raw):
            tape, nats = self._taped(stack.copy(), raw, labels, slice(at, at + n))
            if tape.least < SPARE:
                if n == 1:
                    return None
                n //= 2
                continue
            spent = (stack.bits - tape.least) / n
            stack, self.nats = tape.stack, self.nats + nats
            self.groups.append(n)
            at += n
            n = max(min(int(stack.bits / (1.1 * spent + 1)), ROWS, len(raw) - at), 1)
        return stack.words()

    def _needed(self, raw: Tensor, labels: Tensor | None) -> int:
        """Bytes that the first example asks for."""
        tape, _ = self._taped(Stack(noise(AMPLE), sealed=False), raw, labels, slice(1))
        return 4 * (-(-(8 * AMPLE - tape.least + SPARE) // 32) + 1)

    def _taped(self, stack: Stack, raw: Tensor, labels: Tensor | None, some: slice) -> tuple[Tape, float]:
        """The stack when some examples are on it, and what they are worth."""
        tape, raw, y = Tape(stack), raw[some], None if labels is None else labels[some]
        nats = self.scheme.write(tape, raw, self._inputs(y))
        if y is not None:
            tape.push(y, stack.family, self._table(len(y)))
            nats -= float(self.prior[y].sum())
        return tape, nats

    def read(self, words: np.ndarray) -> Tensor:
        """The examples, the last first."""
        tape, found = Tape(Stack(words, sealed=True)), []
        for n in reversed(self.groups):
            labels = None
            if self.prior is not None:
                labels = tape.pop(tape.stack.family, self._table(n))
            found.append(self.scheme.read(tape, n, self._inputs(labels)))
        rest = tape.stack.ans.get_compressed(unseal=True) if self.groups else words
        if not np.array_equal(rest, noise(self.initial)):
            raise ValueError("the bits that the stack began with are others")
        return torch.cat(found[::-1]) if found else torch.empty(0, *self.run.codec.data_space.shape).long()

    def _inputs(self, y: Tensor | None) -> Tensor | None:
        return self.run.codec.space.filled(y, ROWS)

    def _table(self, n: int) -> np.ndarray:
        return table(self.prior.expand(n, -1))


def filled(x: Tensor) -> Tensor:
    """With as many rows as networks see."""
    return torch.cat([x, x.new_zeros(ROWS - len(x), *x.shape[1:])])
