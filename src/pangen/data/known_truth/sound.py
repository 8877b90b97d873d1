"""Sound whose law is known: tones in coloured noise, as levels of the mu-law."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar, cast

import torch
from torch import Tensor

from pangen.codecs.sound import LEVELS, amplitude, expand, quantise
from pangen.data.dataset import Modality
from pangen.data.known_truth.law import Law

PERIOD = 16
"""Samples after which every tone repeats."""


class Tones(Law):
    """Clips of 64 samples at 1000 Hz: a tone s_t, evenly one of several, and noise of the colour of a first order.

    x_t is the level of the mu-law nearest to s_t + a (x_{t-1} - s_{t-1}) + e_t, with a = 0.8 and
    e_t ~ N(0, 0.04^2); x_0 is that of s_0 and stationary noise. Rounding is a part of the law, whence
    levels are a Markov chain and their probabilities are exact. Entropy = log of the number of tones +
    the mean entropy of their chains: no clip leaves a doubt of more than e^-30 about its tone. A level
    38 deviations away has a probability that float64 holds for 0.
    """

    modality: ClassVar[Modality] = "sound"
    window: ClassVar[int] = 64
    rate: ClassVar[int] = 1000
    sizes: ClassVar[tuple[int, int, int]] = (10_000, 2_000, 2_000)
    a: ClassVar[float] = 0.8
    std: ClassVar[float] = 0.04

    def __init__(self, tones: Sequence[tuple[int, int]]) -> None:
        """`tones`: how many sixteenths of a period each goes on at a step, and where it begins."""
        self.tones = tuple(tones)
        self.modes = len({pace for pace, _ in tones})
        self.wave = 0.5 * (2 * math.pi * torch.arange(PERIOD, dtype=torch.float64) / PERIOD).sin()
        self._steps: dict[tuple[int, int], Tensor] = {}

    @classmethod
    def three_pitches(cls) -> Tones:
        """62.5, 125 and 187.5 Hz, each from eight phases."""
        return cls([(pace, phase) for pace in (1, 2, 3) for phase in range(0, PERIOD, 2)])

    @classmethod
    def silence(cls) -> Tones:
        """No tone: noise alone."""
        return cls([(0, 0)])

    @cached_property
    def first(self) -> Tensor:
        """p(x_0) of each tone `(tones, levels)`."""
        at = torch.tensor([self.wave[phase] for _, phase in self.tones], dtype=torch.float64)
        return _cells(at, self.std / math.sqrt(1 - self.a**2))

    def turn(self, tone: int, t: int) -> tuple[int, int]:
        """A tone's pace, and where in its wave it is before step t: all that the step depends on."""
        pace, phase = self.tones[tone]
        return pace, (phase + pace * (t - 1)) % PERIOD

    def step(self, turn: tuple[int, int]) -> Tensor:
        """p(x_t given x_{t-1}) `(levels, levels)`."""
        if turn not in self._steps:
            pace, phase = turn
            before, now = self.wave[phase], self.wave[(phase + pace) % PERIOD]
            levels = amplitude(torch.arange(LEVELS, dtype=torch.float64))
            self._steps[turn] = _cells(now + self.a * (levels - before), self.std)
        return self._steps[turn]

    @cached_property
    def entropy(self) -> float:
        found, of_step = 0.0, {}
        for tone, level in enumerate(self.first):
            found -= float(torch.xlogy(level, level).sum())
            for t in range(1, self.window):
                turn = self.turn(tone, t)
                step = self.step(turn)
                if turn not in of_step:
                    of_step[turn] = -torch.xlogy(step, step).sum(1)
                found += float(level @ of_step[turn])
                level = level @ step
        return math.log(len(self.tones)) + found / len(self.tones)

    def joint(self, x: tuple[Tensor, ...], seen: Tensor | None = None) -> Tensor:
        """log p(tone, x) `(B, tones)`."""
        codes = quantise(torch.stack(x))
        places = range(self.window) if seen is None else seen.nonzero().flatten().tolist()
        found = torch.full((len(codes), len(self.tones)), -math.log(len(self.tones)), dtype=torch.float64)
        for tone in range(len(self.tones)):
            way: Tensor | None = self.first[tone][None]
            last = 0
            known = torch.zeros(len(codes), dtype=torch.long)
            for place in places:
                for t in range(last + 1, place + 1):
                    step = self.step(self.turn(tone, t))
                    way = step if way is None else way @ step
                # p(level here given the one last seen)
                found[:, tone] += cast("Tensor", way)[known, codes[:, place]].log()
                way, last, known = None, place, codes[:, place]
        return found

    def log_prob(self, x: tuple[Tensor, ...], seen: Tensor | None = None) -> Tensor:
        return self.joint(x, seen).logsumexp(1)

    def mode(self, x: tuple[Tensor, ...]) -> Tensor:
        """The most probable pitch."""
        paces = sorted({pace for pace, _ in self.tones})
        index = torch.tensor([paces.index(pace) for pace, _ in self.tones])
        found = self.joint(x)
        return torch.where(found.isfinite().any(1), index[found.argmax(1)], -1)

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        tone = torch.randint(len(self.tones), (n,), generator=generator)
        pace, phase = torch.tensor(self.tones)[tone].T
        noise = torch.randn(self.window, n, generator=generator, dtype=torch.float64) * self.std
        table = amplitude(torch.arange(LEVELS, dtype=torch.float64))
        s, before = self.wave[phase], torch.zeros(n, dtype=torch.float64)
        noise[0] /= math.sqrt(1 - self.a**2)
        clips = []
        for t, e in enumerate(noise):
            x = table[quantise(s + self.a * before + e)]
            clips.append(x)
            before, s = x - s, self.wave[(phase + pace * (t + 1)) % PERIOD]
        return tuple(torch.stack(clips, 1).float())


def _cells(mean: Tensor, std: float) -> Tensor:
    """The probabilities of levels `(n, levels)` under a normal distribution about each mean `(n,)`."""
    inner = expand(2 * (torch.arange(LEVELS - 1, dtype=torch.float64) + 0.5) / (LEVELS - 1) - 1)
    ends = torch.tensor([math.inf], dtype=torch.float64)
    z = (torch.cat([-ends, inner, ends]) - mean[:, None]) / std
    # above the mean by the upper tail: a difference of numbers near 1 would have no digits left
    up, low = -torch.special.ndtr(-z), torch.special.ndtr(z)
    return torch.where(z[:, :-1] > 0, up.diff(dim=1), low.diff(dim=1))
