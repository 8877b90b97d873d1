"""Real numbers on a stack, as cells of a grid so fine that a density is a probability.

Cells are int64; means and deviations of their distributions are float64, in cells. The high part of a number is coded
by its distribution and the low part, over which that hardly changes, with equal probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pangen.compression.coder import Stack, constriction, pop_levels, push_levels
from pangen.errors import PangenError

PART = 32
"""Of a deviation: the step of the high part, where a deviation has so many cells and more."""
DRAWN, TOLD = 7 * PART, 16 * PART
"""Steps on either side of a mean. Every one has a probability of 2^-24 at least: by what is drawn, that must not lead
far away; what is told may be anywhere."""
LOW = 23
"""Bits below the parts of a step at most, as a uniform distribution can have."""
WORD, WORDS = 16, 4
"""What is not where its distribution reaches is told in full, as so many words of so many bits."""
LEAST, MOST = 1 / 8, 2.0**50
"""The least deviation, and the largest mean, in cells."""


class Tape:
    """A stack that remembers how empty it has been.

    `sure` are cells that are drawn from the distribution by which they are coded, and so are within its reach.
    """

    def __init__(self, stack: Stack) -> None:
        models = constriction().stream.model
        self.stack, self.least = stack, stack.bits
        self.drawn, self.told = (models.QuantizedGaussian(-reach, reach) for reach in (DRAWN, TOLD))
        self.uniform, self.word = models.Uniform(), models.Uniform(1 << WORD)

    def pop(self, family: Any, *parameters: np.ndarray | int) -> Tensor:
        """Symbols int64 `(n,)` by the parameters of their distributions."""
        found = self.stack.ans.decode(family, *parameters).astype(np.int64)
        self.least = min(self.least, self.stack.bits)
        return torch.from_numpy(found)

    def push(self, symbols: Tensor, family: Any, *parameters: np.ndarray) -> None:
        """The inverse of `pop`."""
        self.stack.ans.encode_reverse(symbols.numpy().astype(np.int32), family, *parameters)

    def pop_normal(self, mean: Tensor, std: Tensor, *, sure: bool) -> Tensor:
        """Cells of the shape of their means."""
        steps = Steps.of(mean.flatten(), std.flatten())
        if sure:
            self._stir(steps.size)
        high = self.pop(self.drawn if sure else self.told, *steps.normal)
        found = steps.joined(high, self._pop_low(steps.parts), self._pop_bits(steps.bits))
        return (found if sure else self._pop_lost(found, high.abs() == TOLD)).view(mean.shape)

    def push_normal(self, cells: Tensor, mean: Tensor, std: Tensor, *, sure: bool) -> None:
        """The inverse of `pop_normal`."""
        steps, cells = Steps.of(mean.flatten(), std.flatten()), cells.flatten()
        high, low, rest = steps.split(cells)
        if not sure:
            high = high.clamp(-TOLD, TOLD)
            self._push_lost(cells, high.abs() == TOLD)
        self._push_bits(rest, steps.bits)
        self._push_low(low, steps.parts)
        self.push(high, self.drawn if sure else self.told, *steps.normal)
        if sure:
            self._stir(steps.size)

    def pop_by(
        self, below: Callable[[Tensor], Tensor], size: int, bits: int, shape: tuple[int, ...], *, sure: bool
    ) -> Tensor:
        """Cells by the probability of the first k of `size` steps around 0, of 2^bits cells each."""
        if sure:
            self._stir(math.prod(shape) * (bits + math.log2(size)))
        step = pop_levels(self.stack, below, size, shape).flatten()
        self.least = min(self.least, self.stack.bits)
        found = ((step - size // 2) << bits) + self._pop_bits(torch.full_like(step, bits))
        return (found if sure else self._pop_lost(found, _ends(step, size))).view(shape)

    def push_by(
        self, cells: Tensor, below: Callable[[Tensor], Tensor], size: int, bits: int, *, sure: bool
    ) -> None:
        """The inverse of `pop_by`."""
        shape, cells = cells.shape, cells.flatten()
        step = ((cells >> bits) + size // 2).clamp(0, size - 1)
        if not sure:
            self._push_lost(cells, _ends(step, size))
        self._push_bits(cells & ((1 << bits) - 1), torch.full_like(step, bits))
        push_levels(self.stack, below, size, step.view(shape))
        if sure:
            self._stir(math.prod(shape) * (bits + math.log2(size)))

    def _stir(self, bits: float) -> None:
        """So many bits, made as good as random; done again, made what they were.

        What was pushed under a model that is wrong about it would else be popped as noise that is not normal.
        """
        n = math.ceil(bits / WORD)
        self.push(self.pop(self.word, n) ^ mask(n), self.word)

    def _pop_bits(self, bits: Tensor) -> Tensor:
        return self._pop_low(1 << bits)

    def _push_bits(self, cells: Tensor, bits: Tensor) -> None:
        self._push_low(cells, 1 << bits)

    def _pop_low(self, sizes: Tensor) -> Tensor:
        """Numbers below sizes that are 1 and more, all as likely."""
        found, some = torch.zeros_like(sizes), sizes > 1
        if some.any():
            found[some] = self.pop(self.uniform, sizes[some].numpy().astype(np.int32))
        return found

    def _push_low(self, cells: Tensor, sizes: Tensor) -> None:
        if (some := sizes > 1).any():
            self.push(cells[some], self.uniform, sizes[some].numpy().astype(np.int32))

    def _pop_lost(self, cells: Tensor, lost: Tensor) -> Tensor:
        if lost.any():
            n = int(lost.sum())
            words = self._pop_bits(torch.full((WORDS, n), WORD))
            cells[lost] = (words << WORD * torch.arange(WORDS)[:, None]).sum(0)
        return cells

    def _push_lost(self, cells: Tensor, lost: Tensor) -> None:
        if lost.any():
            words = cells[lost] >> WORD * torch.arange(WORDS)[:, None] & (1 << WORD) - 1
            self._push_bits(words, torch.full_like(words, WORD))


@lru_cache(maxsize=8)
def mask(n: int) -> Tensor:
    """Words as arbitrary as those of a coin."""
    return torch.from_numpy(np.random.default_rng(0).integers(0, 1 << WORD, n))


@dataclass(frozen=True)
class Steps:
    """How each number's cells are cut: into steps of `parts` times 2^bits cells, of which its normal is told."""

    centre: Tensor
    """The step that the mean is in."""
    parts: Tensor
    bits: Tensor
    normal: tuple[np.ndarray, np.ndarray]
    """Mean and deviation of the step that a number is in, counted from the centre."""

    @classmethod
    def of(cls, mean: Tensor, std: Tensor) -> Steps:
        """Of means and deviations `(n,)` in cells."""
        std = std.clamp(min=LEAST)
        if not ((mean.abs() < MOST).all() and (std < MOST).all()):
            raise PangenError("this run's model gives no finite numbers for such data; take another run.")
        bits = ((std / PART**2).log2().floor().long()).clamp(0, LOW)
        parts = (std / PART / (1 << bits)).round().long().clamp(min=1)
        step = (parts << bits).double()
        mean = mean / step
        centre = mean.floor()
        return cls(centre.long(), parts, bits, ((mean - centre - 0.5).numpy(), (std / step).numpy()))

    @property
    def size(self) -> float:
        """Bits that numbers drawn from their distributions are worth, about."""
        step = self.parts << self.bits
        return float((4.2 * torch.from_numpy(self.normal[1]) * step + 1).log2().sum())

    def split(self, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The step from the centre, the part of it, and what is below."""
        above = cells >> self.bits
        high = torch.div(above, self.parts, rounding_mode="floor")
        return high - self.centre, above - high * self.parts, cells & ((1 << self.bits) - 1)

    def joined(self, high: Tensor, low: Tensor, rest: Tensor) -> Tensor:
        """The inverse of `split`."""
        return (((high + self.centre) * self.parts + low) << self.bits) + rest


def _ends(step: Tensor, size: int) -> Tensor:
    return (step == 0) | (step == size - 1)
