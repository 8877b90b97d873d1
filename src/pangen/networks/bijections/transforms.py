"""What a bijection is, how several make one, and those that act on each dimension alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from pangen.networks.modules import listed


class Transform(nn.Module, ABC):
    """A bijection between tensors `(B, *shape)`, told a context `(B, width)` or None.

    The shape of z may differ from that of x, the number of dimensions may not.
    """

    @abstractmethod
    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z, and log|det dz/dx| `(B,)`."""

    @abstractmethod
    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """The x that `forward` takes to z."""

    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Data-dependent start on examples x; returns their z."""
        return self(x, context)[0]


class Rearrangement(Transform):
    """Numbers keep their values and change their places."""

    @abstractmethod
    def arrange(self, x: Tensor) -> Tensor:
        """z, of any shape."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.arrange(x), x.new_zeros(len(x))


class Compose(Transform):
    """Transforms one after the other."""

    def __init__(self, *parts: Transform) -> None:
        super().__init__()
        self.parts = listed(parts)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_dets = []
        for part in self.parts:
            x, log_det = part(x, context)
            log_dets.append(log_det)
        return x, reduce(torch.add, log_dets) if log_dets else x.new_zeros(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        for part in reversed(self.parts):
            z = part.inverse(z, context)
        return z

    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        for part in self.parts:
            x = part.initialize(x, context)
        return x


class Inverse(Transform):
    """A transform the other way round. Its `forward` costs one pass of each direction."""

    def __init__(self, of: Transform) -> None:
        super().__init__()
        self.of = of

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z = self.of.inverse(x, context)
        return z, -self.of(z, context)[1]

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return self.of(z, context)[0]


class Shift(Transform):
    """z = x + b. `shape` broadcasts against x; the data-dependent start makes the mean of z 0."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.b = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x + self.b, x.new_zeros(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return z - self.b

    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        self.b.data = -x.mean(_shared(self.b), keepdim=True)[0]
        return x + self.b


class Scale(Transform):
    """z = exp(s) x. `shape` broadcasts against x; the data-dependent start makes the deviation of z 1."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.s = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x * self.s.exp(), self.s.expand(x.shape[1:]).sum().expand(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return z * (-self.s).exp()

    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        deviation = x.std(_shared(self.s), correction=0, keepdim=True)[0]
        self.s.data = -torch.where(deviation > 1e-6, deviation, 1.0).log()  # constant dimensions stay
        return x * self.s.exp()


def actnorm(shape: tuple[int, ...]) -> Compose:
    """Per-channel, or per-dimension, standardisation that starts at the data's (Kingma and Dhariwal 2018)."""
    return Compose(Shift(shape), Scale(shape))


def _shared(parameter: Tensor) -> list[int]:
    """The dimensions of a batch over which a parameter is shared."""
    return [0] + [i + 1 for i, n in enumerate(parameter.shape) if n == 1]


class Logit(Transform):
    """z = logit(alpha + (1 - 2 alpha) x) opens the unit interval (Dinh et al. 2017, Section 4.1)."""

    def __init__(self, alpha: float = 0.0) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        slope = 1 - 2 * self.alpha
        p = self.alpha + slope * x
        # dz/dx = (1 - 2 alpha) / (p (1 - p))
        return p.logit(), (torch.log(x.new_tensor(slope)) - p.log() - (-p).log1p()).flatten(1).sum(1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return (z.sigmoid() - self.alpha) / (1 - 2 * self.alpha)


class Sigmoid(Transform):
    """z = sigmoid(x) closes the real line to the unit interval."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x.sigmoid(), (-softplus(x) - softplus(-x)).flatten(1).sum(1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return z.logit(eps=torch.finfo(z.dtype).eps)
