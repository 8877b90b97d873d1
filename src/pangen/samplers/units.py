"""What visible units of a Boltzmann machine hold: exponential families with a field.

p(v given field) = exp(t(v).field - A(field)) h(v), t the units' sufficient statistics, side by side
in `(B, size)`: bits, counts, one-hot vectors, or real values in units of their noise
(Welling, Rosen-Zvi and Hinton 2004).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot, softplus

from pangen.networks.modules import listed
from pangen.samplers.mcmc import binomial
from pangen.space import Space, class_space


class Units(nn.Module, ABC):
    """The visible units that examples of a space need."""

    def __init__(self, space: Space, size: int) -> None:
        super().__init__()
        self.space, self.size = space, size

    @property
    def scale(self) -> float:
        """The largest statistic: weights start, and learn, in inverse proportion to it."""
        return 1.0

    @abstractmethod
    def of(self, x: Tensor) -> Tensor:
        """Statistics t `(B, size)` of examples `(B, *shape)`."""

    @abstractmethod
    def values(self, t: Tensor) -> Tensor:
        """Examples with these statistics."""

    @abstractmethod
    def log_partition(self, field: Tensor) -> Tensor:
        """A(field), summed over the units: `(B, size)` to `(B,)`."""

    @abstractmethod
    def draw(self, field: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """t of v ~ p(v given field)."""

    @abstractmethod
    def base_rates(self, x: Tensor) -> Tensor:
        """The field `(size,)` under which the units, independent, have the means of the examples."""

    def log_base(self, t: Tensor) -> Tensor:
        """log h(v), summed over the units `(B,)`."""
        return t.new_zeros(t.shape[:-1])

    @property
    def bits(self) -> float:
        """log2 of how many v there are."""
        return math.inf

    def states(self, like: Tensor) -> Tensor:
        """The statistics of every v `(2 ** bits, size)`."""
        raise NotImplementedError(f"the states of {type(self).__name__} are not finite")


class Counts(Units):
    """Binary or grid data as counts 0 .. N of N bits that share a field; N is 1 for binary data."""

    def __init__(self, space: Space) -> None:
        super().__init__(space, space.dims)
        self.N = 1 if space.kind == "binary" else space.levels - 1

    @property
    def scale(self) -> float:
        return float(self.N)

    def of(self, x: Tensor) -> Tensor:
        v = x.flatten(1)
        return v if self.space.kind == "binary" else ((v + 1) * (self.N / 2)).round()

    def values(self, t: Tensor) -> Tensor:
        x = t if self.space.kind == "binary" else t * (2 / self.N) - 1
        return x.reshape(-1, *self.space.shape)

    def log_partition(self, field: Tensor) -> Tensor:
        return self.N * softplus(field).sum(-1)

    def draw(self, field: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return binomial(field.sigmoid(), self.N, generator)

    def base_rates(self, x: Tensor) -> Tensor:
        return ((self.of(x).sum(0) + 0.5 * self.N) / (self.N * (len(x) + 1))).logit()

    def log_base(self, t: Tensor) -> Tensor:
        """sum_i log C(N, t_i): how many bit patterns have these counts."""
        if self.N == 1:
            return t.new_zeros(t.shape[:-1])
        return (math.lgamma(self.N + 1) - torch.lgamma(t + 1) - torch.lgamma(self.N - t + 1)).sum(-1)

    @property
    def bits(self) -> float:
        return self.size * math.log2(self.N + 1)

    def states(self, like: Tensor) -> Tensor:
        return every_state(self.size, self.N + 1, like)


class Categorical(Units):
    """Tokens as one-hot vectors (Salakhutdinov, Mnih and Hinton 2007)."""

    def __init__(self, space: Space) -> None:
        super().__init__(space, space.dims * space.levels)
        self.K = space.levels

    def of(self, x: Tensor) -> Tensor:
        return one_hot(x.flatten(1), self.K).flatten(1).to(torch.get_default_dtype())

    def values(self, t: Tensor) -> Tensor:
        return t.unflatten(1, (-1, self.K)).argmax(-1).reshape(-1, *self.space.shape)

    def log_partition(self, field: Tensor) -> Tensor:
        return field.unflatten(-1, (-1, self.K)).logsumexp(-1).sum(-1)

    def draw(self, field: Tensor, generator: torch.Generator | None = None) -> Tensor:
        u = torch.rand(field.shape, generator=generator, device=field.device, dtype=field.dtype)
        gumbel = -(-u.clamp(min=1e-20).log()).log()  # the largest of logits with such noise is a draw
        return one_hot((field + gumbel).unflatten(-1, (-1, self.K)).argmax(-1), self.K).flatten(-2).to(field)

    def base_rates(self, x: Tensor) -> Tensor:
        return ((self.of(x).sum(0) + 1 / self.K) / (len(x) + 1)).log()

    @property
    def bits(self) -> float:
        return self.space.dims * math.log2(self.K)

    def states(self, like: Tensor) -> Tensor:
        return self.of(every_state(self.space.dims, self.K, like).long()).to(like)


class Normal(Units):
    """Real values, v = s (field + noise): t = v / s, with s learnt (Cho, Ilin and Raiko 2011).

    Z does not depend on s, as h(v) = N(t; 0, 1) / s is normalised.
    """

    def __init__(self, space: Space) -> None:
        super().__init__(space, space.dims)
        self.log_s = nn.Parameter(torch.full((space.dims,), math.log(0.5)))

    def of(self, x: Tensor) -> Tensor:
        return x.flatten(1) * (-self.log_s).exp()

    def values(self, t: Tensor) -> Tensor:
        return (t * self.log_s.exp()).reshape(-1, *self.space.shape)

    def log_partition(self, field: Tensor) -> Tensor:
        return field.square().sum(-1) / 2

    def draw(self, field: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return field + torch.randn(field.shape, generator=generator, device=field.device, dtype=field.dtype)

    def base_rates(self, x: Tensor) -> Tensor:
        return self.of(x).mean(0)

    def log_base(self, t: Tensor) -> Tensor:
        return -(t.square() + math.log(2 * math.pi)).sum(-1) / 2 - self.log_s.sum()


class Together(nn.Module):
    """Units of several kinds side by side, such as those of an example and of its class."""

    def __init__(self, *parts: Units) -> None:
        super().__init__()
        self.parts = listed(parts)
        self.sizes = [part.size for part in parts]
        self.size = sum(self.sizes)

    def of(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Statistics of examples and, where there is a second part, their classes."""
        return torch.cat([u.of(v) for u, v in self._values(x, y)], 1)

    def base_rates(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return torch.cat([u.base_rates(v) for u, v in self._values(x, y)])

    def _values(self, x: Tensor, y: Tensor | None) -> Iterator[tuple[Units, Tensor]]:
        return zip(self.parts, (x,) if y is None else (x, y[:, None]), strict=True)

    def log_partition(self, field: Tensor) -> Tensor:
        fields = field.split(self.sizes, -1)
        return reduce(torch.add, [u.log_partition(f) for u, f in zip(self.parts, fields, strict=True)])

    def log_base(self, t: Tensor) -> Tensor:
        parts = t.split(self.sizes, -1)
        return reduce(torch.add, [u.log_base(part) for u, part in zip(self.parts, parts, strict=True)])

    def draw(self, field: Tensor, generator: torch.Generator | None = None) -> Tensor:
        fields = field.split(self.sizes, -1)
        return torch.cat([u.draw(f, generator) for u, f in zip(self.parts, fields, strict=True)], -1)


def units_of(space: Space) -> Units:
    """Counts for binary and grid data, one-hot vectors for tokens, Gaussian units for real values."""
    if space.kind == "binary" or space.is_grid:
        return Counts(space)
    return Categorical(space) if space.kind == "tokens" else Normal(space)


def visible_units(space: Space) -> Together:
    """The units of an example and, where the space has classes, that of its class."""
    label = [Categorical(class_space(space.classes))] if space.classes else []
    return Together(units_of(space), *label)


def every_state(units: int, values: int, like: Tensor) -> Tensor:
    """Every state of `units` variables with `values` values, `(values ** units, units)`, as numbers like `like`."""
    index = torch.arange(values**units, device=like.device)[:, None]
    return (index // values ** torch.arange(units, device=like.device) % values).to(like)
