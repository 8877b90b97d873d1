"""Laws over 4x4 binary images, small enough to be enumerated."""

from __future__ import annotations

import math
from functools import reduce
from typing import ClassVar

import torch
from torch import Tensor

from pangen.data.dataset import Modality
from pangen.data.known_truth.law import Law, draw

SIDE = 4


EVERY = torch.ones(1, SIDE, SIDE, dtype=torch.bool)


def images(index: Tensor) -> Tensor:
    """The images `(B, 1, 4, 4)` whose pixels are the bits of `index` `(B,)`."""
    bits = (index[:, None] >> torch.arange(SIDE * SIDE)) & 1
    return bits.view(-1, 1, SIDE, SIDE).to(torch.uint8)


class BarsAndStripes(Law):
    """A fair coin chooses rows or columns, then each of the four lines is on with probability 1/2.

    30 images: all-off and all-on come from rows and from columns, and weigh 1/16 each; the others
    weigh 1/32. The set of MacKay 2003, Section 43.
    """

    modality: ClassVar[Modality] = "image"
    levels = 2
    entropy: float = 28 / 32 * math.log(32) + 2 / 16 * math.log(16)
    modes: int = 30

    def log_prob(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        x, seen = x[:, 0].bool(), (EVERY if seen is None else seen)[0]
        of_lines = []
        for along in (2, 1):
            mixed = (x & seen).any(along) & (~x & seen).any(along)
            fair = torch.where(seen.any(along - 1), 0.5, 1.0).double()
            of_lines.append(fair.where(~mixed, 0.0).prod(1))
        return (reduce(torch.add, of_lines) / 2).log()

    def mode(self, x: Tensor) -> Tensor:
        """Each image its own: the 16 of rows, then the 14 of columns that are not among them."""
        bits, x = 2 ** torch.arange(SIDE), x[:, 0].long()
        rows, columns = (x == x[:, :, :1]).all(2).all(1), (x == x[:, :1, :]).all(2).all(1)
        found = torch.where(rows, (x[:, :, 0] * bits).sum(1), 15 + (x[:, 0] * bits).sum(1))
        return torch.where(rows | columns, found, -1)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        lines = torch.randint(2, (n, SIDE, 1), generator=generator).expand(n, SIDE, SIDE)
        is_rows = torch.randint(2, (n, 1, 1), generator=generator).bool()
        return torch.where(is_rows, lines, lines.mT)[:, None].to(torch.uint8)


class Ising(Law):
    """p(s) proportional to exp(beta sum over neighbours of s_i s_j), beta = 0.44, s = 2 pixel - 1.

    A 4x4 lattice with free boundary and coupling 1, near the critical point of the infinite one
    (beta = 0.4407); log Z and the entropy are sums over all 2^16 states.
    """

    modality: ClassVar[Modality] = "image"
    levels = 2
    modes: int = 2

    def __init__(self, beta: float = 0.44) -> None:
        self.beta = beta
        unnormalised = beta * self._alignment(images(torch.arange(2 ** (SIDE * SIDE))))
        self.log_z = float(unnormalised.logsumexp(0))
        log_p = unnormalised - self.log_z
        self._probabilities = log_p.exp()
        self._entropy = float(-(self._probabilities * log_p).sum())

    @property
    def entropy(self) -> float:
        return self._entropy

    @staticmethod
    def _alignment(x: Tensor) -> Tensor:
        s = 2 * x.flatten(1).view(-1, SIDE, SIDE).double() - 1
        across, down = s[:, :, 1:] * s[:, :, :-1], s[:, 1:] * s[:, :-1]
        return across.flatten(1).sum(1) + down.flatten(1).sum(1)

    def log_prob(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        if seen is None:
            return self.beta * self._alignment(x) - self.log_z
        bits = 2 ** torch.arange(SIDE * SIDE) * seen.flatten()
        index = torch.arange(2 ** (SIDE * SIDE)) & bits.sum()
        table = torch.zeros_like(self._probabilities).index_add_(0, index, self._probabilities)
        return table[(x.flatten(1).long() * bits).sum(1)].log()

    def mode(self, x: Tensor) -> Tensor:
        """Whether more spins are up than down; the law is the same under a turn of them all."""
        return (2 * x.flatten(1).long().sum(1) > SIDE * SIDE).long()

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return images(draw(self._probabilities, n, generator))
