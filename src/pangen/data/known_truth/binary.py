"""Laws over 4x4 binary images, small enough to be enumerated."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from pangen.data.dataset import Modality
from pangen.data.known_truth.law import Law, draw

SIDE = 4


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
    levels: ClassVar[int] = 2
    entropy: float = 28 / 32 * math.log(32) + 2 / 16 * math.log(16)

    def log_prob(self, x: Tensor) -> Tensor:
        x = x.flatten(1).view(-1, SIDE, SIDE)
        rows = (x == x[:, :, :1]).all(2).all(1)
        columns = (x == x[:, :1, :]).all(2).all(1)
        return ((rows.double() + columns.double()) / 2 ** (SIDE + 1)).log()

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
    levels: ClassVar[int] = 2

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

    def log_prob(self, x: Tensor) -> Tensor:
        return self.beta * self._alignment(x) - self.log_z

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return images(draw(self._probabilities, n, generator))
