"""p(x given what a network put out): a distribution over a space, its dimensions independent.

A network gives `channels` raw numbers for each dimension of x; the space decides what they mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid, softplus

from pangen.space import Distribution, Space

COMPONENTS = 3
"""Logistics in the mixture of a grid's dimension."""
LOG_SCALES = (-6.0, 3.0)
"""Bounds of the log standard deviation of a real dimension."""


@dataclass(frozen=True)
class Likelihood:
    """How raw network outputs `(B, channels, *shape)` become a distribution over x."""

    channels: int
    distribution: Callable[[Tensor], Distribution]

    def __call__(self, raw: Tensor) -> Distribution:
        return self.distribution(raw)


def likelihood(space: Space) -> Likelihood:
    """The likelihood of a space.

    binary: Bernoulli. tokens: categorical. grid: discretised mixture of logistics, which knows the
    order of the levels. real: normal, mean and scale both from the network.
    """
    if space.kind == "binary":
        return Likelihood(1, Bernoulli)
    if space.kind == "tokens":
        return Likelihood(space.levels, Categorical)
    if space.is_grid:
        return Likelihood(3 * COMPONENTS, partial(LogisticMixture, levels=space.levels))
    return Likelihood(2, Normal.of)


class Bernoulli:
    """x in {0, 1}; `raw` `(B, 1, *shape)` holds logits."""

    def __init__(self, raw: Tensor) -> None:
        self.logits = raw[:, 0]

    @property
    def mean(self) -> Tensor:
        return self.logits.sigmoid()

    def log_prob(self, x: Tensor) -> Tensor:
        return _total(x * self.logits - softplus(self.logits))

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        return (_uniform(self.logits, generator) < self.mean).to(self.logits)


class Categorical:
    """x one of K tokens; `raw` `(B, K, *shape)` holds logits."""

    def __init__(self, raw: Tensor) -> None:
        self.logits = raw

    @property
    def mean(self) -> Tensor:
        return self.logits.argmax(1)

    def log_prob(self, x: Tensor) -> Tensor:
        return -_total(cross_entropy(self.logits, x, reduction="none"))

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        return _choose(self.logits, generator)


class LogisticMixture:
    """x on a grid of K values, each with the mass a mixture of logistics has in its cell.

    Cells are bounded by the midpoints between values; the first and the last reach to infinity, so
    that the probabilities sum to 1 (Salimans et al. 2017, Eq. 2). Colours are independent given
    the component's weights of each. `raw` `(B, 3 M, *shape)` holds M logits, M means and M log
    scales.
    """

    def __init__(self, raw: Tensor, *, levels: int) -> None:
        self.levels, self.cell = levels, 2 / (levels - 1)
        self.logits, means, scales = raw.chunk(3, 1)
        spread = torch.linspace(-0.8, 0.8, means.shape[1]).to(raw)  # components start apart
        self.means = means + spread.view(-1, *[1] * (raw.dim() - 2))
        self.log_scales = bounded(scales - 1.5, math.log(self.cell) - 4, 2.0)

    @property
    def mean(self) -> Tensor:
        """Of the mixture before it is discretised, within the grid."""
        return (self.logits.softmax(1) * self.means.clamp(-1, 1)).sum(1)

    def log_prob(self, x: Tensor) -> Tensor:
        x = x[:, None]
        wide = self.cell * torch.exp(-self.log_scales)  # of a cell, in units of the scale
        upper = (x + self.cell / 2 - self.means) * torch.exp(-self.log_scales)
        lower = upper - wide
        first, last = x < -1 + self.cell / 2, x > 1 - self.cell / 2
        # sigmoid(u) - sigmoid(l) = sigmoid(u) sigmoid(-l) (1 - exp(l - u)), each factor safe in logs
        below_upper = torch.where(last, 0.0, logsigmoid(upper))
        above_lower = torch.where(first, 0.0, logsigmoid(-lower))
        inside = torch.where(first | last, 0.0, torch.log(-torch.expm1(-wide)))
        each = self.logits.log_softmax(1) + below_upper + above_lower + inside
        return _total(each.logsumexp(1))

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        chosen = _choose(self.logits, generator)[:, None]
        mean, log_scale = (t.gather(1, chosen)[:, 0] for t in (self.means, self.log_scales))
        u = _uniform(mean, generator).clamp(1e-6, 1 - 1e-6)
        level = ((mean + log_scale.exp() * u.logit() + 1) / self.cell).round()
        return level.clamp(0, self.levels - 1) * self.cell - 1


@dataclass(frozen=True)
class Normal:
    """x real, its dimensions independent; `mean` and `log_scale` `(B, *shape)`."""

    mean: Tensor
    log_scale: Tensor

    @classmethod
    def of(cls, raw: Tensor) -> Normal:
        """`raw` `(B, 2, *shape)` holds means and log standard deviations, which are bounded."""
        return cls(raw[:, 0], bounded(raw[:, 1], *LOG_SCALES))

    def log_prob(self, x: Tensor) -> Tensor:
        return log_normal(x, self.mean, self.log_scale)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        like = self.mean
        return self.at(torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype))

    def at(self, noise: Tensor) -> Tensor:
        """The pathwise sample that standard normal noise leads to; gradients pass."""
        return self.mean + self.log_scale.exp() * noise

    def repeat(self, k: int) -> Normal:
        """The rows, `k` times over."""
        return Normal(*(t.repeat(k, *[1] * (t.dim() - 1)) for t in (self.mean, self.log_scale)))


@dataclass(frozen=True)
class Point:
    """All mass on one value, as a code that is chosen and not drawn; of discrete x, log-probability 0."""

    mean: Tensor

    def log_prob(self, x: Tensor) -> Tensor:
        """0 where x is the point and -inf elsewhere."""
        return torch.where((x == self.mean).flatten(1).all(1), 0.0, -math.inf)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        return self.mean


def log_normal(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Log-density of independent normals, summed over all dimensions but the first."""
    return _total(-(((x - mean) * torch.exp(-log_scale)) ** 2 + math.log(2 * math.pi)) / 2 - log_scale)


def bounded(x: Tensor, low: float, high: float) -> Tensor:
    """`x` bent smoothly to stay between two bounds; nearly the identity well inside them."""
    x = high - softplus(high - x)
    return low + softplus(x - low)


def _total(x: Tensor) -> Tensor:
    return x.flatten(1).sum(1)


def _uniform(like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.rand(like.shape, generator=generator, device=like.device, dtype=like.dtype)


def _choose(logits: Tensor, generator: torch.Generator | None) -> Tensor:
    """One index along dimension 1 for each of the others."""
    p = logits.movedim(1, -1).softmax(-1)
    return torch.multinomial(p.flatten(0, -2), 1, generator=generator).view(p.shape[:-1])
