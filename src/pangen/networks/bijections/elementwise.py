"""Maps of each number alone, whose parameters a network makes of other numbers.

A map is given its parameters *first* and the examples *last*: `(k, *shape, B)` for numbers `(*shape, B)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Elementwise(Protocol):
    """A monotone map of each number, given `k` numbers for it; zeros make it the identity."""

    @property
    def k(self) -> int: ...

    def forward(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """z and log dz/dx, of the shape of x, for `raw` `(k, *x.shape)`."""
        ...

    def inverse(self, z: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """x and log dx/dz."""
        ...


@dataclass(frozen=True)
class Additive:
    """z = x + t, volume preserving (Dinh et al. 2015, Section 3.2)."""

    k = 1

    def forward(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        return x + raw[0], torch.zeros_like(x)

    def inverse(self, z: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        return z - raw[0], torch.zeros_like(z)


@dataclass(frozen=True)
class ScaleShift:
    """z = exp(s) x + t (Dinh et al. 2017, Eq. 9), with s bounded smoothly at +-`bound`."""

    bound: float = 2.0
    k = 2

    def forward(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        raw_s, t = raw.unbind()  # one gradient for both, where two selections would make two and add them
        s = self.bound * torch.tanh(raw_s)
        return torch.addcmul(t, x, s.exp()), s

    def inverse(self, z: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        raw_s, t = raw.unbind()
        minus_s = -self.bound * torch.tanh(raw_s)
        return (z - t) * minus_s.exp(), minus_s


@dataclass(frozen=True)
class Affine:
    """z = (x - mu) exp(-alpha), with alpha bounded smoothly at +-`bound` (Papamakarios et al. 2017, Eq. 5)."""

    bound: float = 3.0
    k = 2

    def forward(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        mu, raw_alpha = raw.unbind()
        minus_alpha = self.bound * torch.tanh(raw_alpha / -self.bound)
        return (x - mu) * minus_alpha.exp(), minus_alpha

    def inverse(self, z: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        mu, raw_alpha = raw.unbind()
        alpha = self.bound * torch.tanh(raw_alpha / self.bound)
        return torch.addcmul(mu, z, alpha.exp()), alpha
