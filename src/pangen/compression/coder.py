"""Entropy coding of integer tables by `constriction`: a queue, and a stack for bits-back.

A probability is a whole number of 2^-24 before any symbol is coded, so that what stands in a file is a function of
integers alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from pangen.errors import PangenError
from pangen.space import Distribution

BITS = 24
"""Of a probability."""
ONE = 1 << BITS

Symbols = np.ndarray
"""int32 `(n,)`."""


class Discrete(Distribution, Protocol):
    """A distribution over whole levels."""

    def below(self, k: Tensor) -> Tensor:
        """The probability of the first k levels."""
        ...


class Coder(Protocol):
    """One direction: symbols that are known are written and returned, others are read."""

    def code(self, table: np.ndarray, known: Symbols | None = None) -> Symbols:
        """Symbols `(n,)` of which each has a row of the table `(n, K)`."""
        ...


class Writer:
    """A queue that is written."""

    def __init__(self) -> None:
        self.library = constriction()
        self.queue = self.library.stream.queue.RangeEncoder()
        self.family = self.library.stream.model.Categorical(perfect=False)

    def code(self, table: np.ndarray, known: Symbols | None = None) -> Symbols:
        if known is None:
            raise ValueError("a queue is written of known symbols")
        self.queue.encode(known, self.family, table)
        return known

    def words(self) -> np.ndarray:
        return self.queue.get_compressed()


class Reader:
    """The same queue, read from its start."""

    def __init__(self, words: np.ndarray) -> None:
        library = constriction()
        self.queue = library.stream.queue.RangeDecoder(words)
        self.family = library.stream.model.Categorical(perfect=False)

    def code(self, table: np.ndarray, known: Symbols | None = None) -> Symbols:
        return self.queue.decode(self.family, table)


class Stack:
    """Asymmetric numeral systems: what was pushed last is popped first, and any bits can be popped as symbols."""

    def __init__(self, words: np.ndarray, *, sealed: bool) -> None:
        library = constriction()
        self.ans = library.stream.stack.AnsCoder(words, seal=not sealed)
        self.family = library.stream.model.Categorical(perfect=False)

    @property
    def bits(self) -> int:
        return self.ans.num_valid_bits()

    def pop(self, table: np.ndarray) -> Symbols:
        return self.ans.decode(self.family, table)

    def push(self, table: np.ndarray, symbols: Symbols) -> None:
        self.ans.encode_reverse(symbols, self.family, table)

    def copy(self) -> Stack:
        """Another that goes on from the same bits."""
        again = object.__new__(Stack)
        again.ans, again.family = self.ans.clone(), self.family
        return again

    def words(self) -> np.ndarray:
        return self.ans.get_compressed()


def table(logits: Tensor) -> np.ndarray:
    """Whole numbers from 1 on, 2^24 together at most, float32 `(n, K)`, by logits `(n, K)`."""
    p = logits.double().softmax(-1).numpy()
    return (np.floor(p * (ONE - p.shape[1])) + 1).astype(np.float32)


def bisect(
    below: Callable[[Tensor], Tensor],
    size: int,
    shape: tuple[int, ...],
    choose: Callable[[int, np.ndarray], Symbols],
) -> Tensor:
    """Levels 0 .. size - 1 `(shape)`, each found by halving the range it is in.

    `below(k)` is the probability float64 `(shape)` of the first k `(shape)` levels; `choose(bit, table)` says of which
    half each is, by the integer table of the two. A level costs what its probability is worth, whatever `size`.
    """
    low = torch.zeros(shape, dtype=torch.int64)
    p_low, p_high = torch.zeros(shape, dtype=torch.float64), torch.ones(shape, dtype=torch.float64)
    for bit in reversed(range(max(size - 1, 1).bit_length())):
        middle = low + (1 << bit)
        inside = middle < size
        p_middle = torch.where(inside, below(middle.clamp(max=size)).double(), p_high)
        p_middle = torch.minimum(torch.maximum(p_middle, p_low), p_high)
        upper = torch.nan_to_num((p_high - p_middle) / (p_high - p_low), nan=0.5)
        n = (torch.where(inside, upper, 0.0) * ONE).floor().clamp(1, ONE - 1).flatten().numpy()
        chosen = choose(bit, np.stack([ONE - n, n], 1).astype(np.float32))
        up = torch.from_numpy(chosen.astype(np.int64)).view(shape).bool()
        low = torch.where(up, middle, low)
        p_low, p_high = torch.where(up, p_middle, p_low), torch.where(up, p_high, p_middle)
    return low


def code_levels(
    coder: Coder,
    below: Callable[[Tensor], Tensor],
    size: int,
    shape: tuple[int, ...],
    known: Tensor | None = None,
) -> Tensor:
    """Levels through a queue."""
    return bisect(
        below,
        size,
        shape,
        lambda bit, halves: coder.code(halves, None if known is None else digit(known, bit)),
    )


def pop_levels(stack: Stack, below: Callable[[Tensor], Tensor], size: int, shape: tuple[int, ...]) -> Tensor:
    """Levels from a stack."""
    return bisect(below, size, shape, lambda bit, halves: stack.pop(halves))


def push_levels(stack: Stack, below: Callable[[Tensor], Tensor], size: int, known: Tensor) -> None:
    """The inverse of `pop_levels`."""
    waiting = []

    def keep(bit: int, halves: np.ndarray) -> Symbols:
        waiting.append((halves, digit(known, bit)))
        return waiting[-1][1]

    bisect(below, size, tuple(known.shape), keep)
    for halves, bits in reversed(waiting):
        stack.push(halves, bits)


def digit(levels: Tensor, bit: int) -> Symbols:
    """A binary digit of each level."""
    return ((levels >> bit) & 1).flatten().numpy().astype(np.int32)


def constriction() -> Any:
    """The package that does the coding."""
    try:
        import constriction
    except ImportError:
        raise PangenError(
            "compressing needs the package constriction; `pip install 'pangen[compress]'` brings it."
        ) from None
    return constriction
