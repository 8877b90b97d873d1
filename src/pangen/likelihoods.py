"""p(x given what a network put out): a distribution over a space, its dimensions independent.

A network gives `channels` raw numbers for each dimension of x; the space decides what they mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid, softplus
from torch.special import erfc, erfcx, ndtr

from pangen.errors import NO_NUMBERS, PangenError
from pangen.space import Distribution, Space

Observation = Literal["auto", "bernoulli", "categorical", "logistic", "normal", "fixed"]
"""Likelihoods by name; "auto" leaves the choice to the space."""

COMPONENTS = 3
"""Logistics in the mixture of a grid's dimension."""
LOG_SCALES = (-6.0, 3.0)
"""Bounds of the log standard deviation of a real dimension."""
FIXED_SCALE = 0.2
"""Standard deviation where none is learnt: a tenth of the range of grey levels, a fifth of a standardised value's."""


@dataclass(frozen=True)
class Likelihood:
    """How raw network outputs `(B, channels, *shape)` become a distribution over x."""

    channels: int
    distribution: Callable[[Tensor], Distribution]

    def __call__(self, raw: Tensor) -> Distribution:
        return self.distribution(raw)


def likelihood(space: Space, observation: Observation = "auto") -> Likelihood:
    """The likelihood of a space, by its own choice or by name.

    binary: bernoulli. tokens: categorical. grid: logistic, a discretised mixture that knows the order of
    the levels; categorical, which does not; normal or fixed, discretised. real: normal, mean and scale
    both from the network; fixed, the mean alone.

    Raises:
        PangenError: the named one gives no probability on this space.
    """
    kind = "grid" if space.is_grid else space.kind
    choices = _CHOICES[kind]
    if observation == "auto":
        return next(iter(choices.values()))(space)
    if observation not in choices:
        raise PangenError(
            f"observation = {observation} is no likelihood of {_DATA[kind]}; take {' or '.join(choices)}."
        )
    return choices[observation](space)


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

    def below(self, k: Tensor) -> Tensor:
        """Probability `(B, *shape)` of the first k values, float64."""
        none = torch.sigmoid(-self.logits.double())
        return torch.where(k < 1, 0.0, torch.where(k < 2, none, 1.0))


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

    def below(self, k: Tensor) -> Tensor:
        """Probability `(B, *shape)` of the first k values, float64."""
        return self._cdf.gather(1, (k - 1).clamp(min=0)[:, None])[:, 0].where(k > 0, 0.0)

    @cached_property
    def _cdf(self) -> Tensor:
        return self.logits.double().softmax(1).cumsum(1)


class Levels:
    """x on a grid of K values, as K classes without an order; `raw` `(B, K, *shape)` holds logits."""

    def __init__(self, raw: Tensor, *, levels: int) -> None:
        self.classes, self.cell = Categorical(raw), 2 / (levels - 1)

    @property
    def mean(self) -> Tensor:
        p = self.classes.logits.softmax(1)
        return torch.einsum("bk...,k->b...", p, torch.linspace(-1, 1, p.shape[1]).to(p))

    def log_prob(self, x: Tensor) -> Tensor:
        return self.classes.log_prob(((x + 1) / self.cell).round().long())

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        return self.classes.sample(generator) * self.cell - 1

    def below(self, k: Tensor) -> Tensor:
        """As `Categorical`."""
        return self.classes.below(k)


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
        return _nearest(mean + log_scale.exp() * u.logit(), self.levels)

    def below(self, k: Tensor) -> Tensor:
        """Probability `(B, *shape)` of the first k values, float64."""
        weights, shifts, slopes = self._cdf
        edge = ((k.double() - 0.5) * self.cell - 1)[:, None]
        p = (weights * torch.sigmoid(edge * slopes - shifts)).sum(1)
        return torch.where(k < 1, 0.0, torch.where(k < self.levels, p, 1.0))

    @cached_property
    def _cdf(self) -> tuple[Tensor, Tensor, Tensor]:
        slopes = torch.exp(-self.log_scales.double())
        return self.logits.double().softmax(1), self.means.double() * slopes, slopes


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

    def cdf(self, x: Tensor) -> Tensor:
        """Of each dimension `(B, *shape)`, float64."""
        return ndtr((x.double() - self.mean.double()) * torch.exp(-self.log_scale.double()))

    def repeat(self, k: int) -> Normal:
        """The rows, `k` times over."""
        return Normal(*(t.repeat(k, *[1] * (t.dim() - 1)) for t in (self.mean, self.log_scale)))

    @classmethod
    def fixed(cls, raw: Tensor) -> Normal:
        """`raw` `(B, 1, *shape)` holds means: log-probability is the squared error, scaled and shifted."""
        return cls(raw[:, 0], torch.full_like(raw[:, 0], math.log(FIXED_SCALE)))


class GridNormal:
    """x on a grid of K values, each with the mass a normal has in its cell, the end cells infinite."""

    def __init__(self, normal: Normal, *, levels: int) -> None:
        self.normal, self.levels, self.cell = normal, levels, 2 / (levels - 1)

    @classmethod
    def of(cls, raw: Tensor, *, levels: int) -> GridNormal:
        """`raw` `(B, 2, *shape)` holds means and log standard deviations, which are bounded."""
        lowest = math.log(2 / (levels - 1)) - 4
        return cls(Normal(raw[:, 0], bounded(raw[:, 1] - 1.5, lowest, 0.0)), levels=levels)

    @classmethod
    def fixed(cls, raw: Tensor, *, levels: int) -> GridNormal:
        return cls(Normal.fixed(raw), levels=levels)

    @property
    def mean(self) -> Tensor:
        """Of the normal before it is discretised, within the grid."""
        return self.normal.mean.clamp(-1, 1)

    def log_prob(self, x: Tensor) -> Tensor:
        scale = torch.exp(-self.normal.log_scale) / math.sqrt(2)
        away, half = (x - self.normal.mean) * scale, self.cell / 2 * scale
        near, far = away.abs() - half, away.abs() + half  # a cell's two ends; near < 0 holds the mean
        out = near.clamp(min=0)
        # erfc(t) = exp(-t^2) erfcx(t), and far^2 - near^2 = 4 away half: no difference of small numbers
        tail = _log(erfcx(out) - torch.exp(-4 * away.abs() * half) * erfcx(far)) - out**2
        middle = _log(erfc(near.clamp(max=0)) - erfc(far))
        first, last = x < -1 + self.cell / 2, x > 1 - self.cell / 2
        end = torch.where(first, -away, away) - half
        out = end.clamp(min=0)
        beyond = torch.where(end > 0, _log(erfcx(out)) - out**2, _log(erfc(end.clamp(max=0))))
        each = torch.where(first | last, beyond, torch.where(near > 0, tail, middle))
        return _total(each - math.log(2))

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        return _nearest(self.normal.sample(generator), self.levels)

    def below(self, k: Tensor) -> Tensor:
        """Probability `(B, *shape)` of the first k values, float64."""
        p = self.normal.cdf((k.double() - 0.5) * self.cell - 1)
        return torch.where(k < 1, 0.0, torch.where(k < self.levels, p, 1.0))


@dataclass(frozen=True)
class Point:
    """All mass on one value, as a code that is chosen and not drawn; of discrete x, log-probability 0."""

    mean: Tensor

    def log_prob(self, x: Tensor) -> Tensor:
        """0 where x is the point and -inf elsewhere."""
        return torch.where((x == self.mean).flatten(1).all(1), 0.0, -math.inf)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        return self.mean


class Mixture:
    """A mixture of normals `(K, latent)` with equal weights; `n` rows, all alike."""

    def __init__(self, normals: Normal, n: int) -> None:
        self.normals, self.n = normals, n

    @property
    def mean(self) -> Tensor:
        return self.normals.mean.mean(0).expand(self.n, -1)

    def log_prob(self, z: Tensor) -> Tensor:
        """log 1/K sum_k N(z; mu_k, sigma_k): the squares multiplied out, as two matrix products."""
        centre = self.normals.mean.detach().mean(0)  # small numbers keep their digits
        z, mu, precision = z - centre, self.normals.mean - centre, (-2 * self.normals.log_scale).exp()
        square = z**2 @ precision.T - 2 * z @ (mu * precision).T + (mu**2 * precision).sum(1)
        log_volume = self.normals.log_scale.sum(1) + z.shape[1] * math.log(2 * math.pi) / 2
        return (-square / 2 - log_volume).logsumexp(1) - math.log(len(mu))

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """A component, then z from it."""
        mu, log_scale = self.normals.mean, self.normals.log_scale
        chosen = torch.randint(len(mu), (self.n,), generator=generator, device=mu.device)
        return Normal(mu[chosen], log_scale[chosen]).sample(generator)


def log_normal(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Log-density of independent normals, summed over all dimensions but the first."""
    return _total(-(((x - mean) * torch.exp(-log_scale)) ** 2 + math.log(2 * math.pi)) / 2 - log_scale)


def bounded(x: Tensor, low: float, high: float) -> Tensor:
    """`x` bent smoothly to stay between two bounds; nearly the identity well inside them."""
    x = high - softplus(high - x)
    return low + softplus(x - low)


_CHOICES: dict[str, dict[str, Callable[[Space], Likelihood]]] = {
    "binary": {"bernoulli": lambda space: Likelihood(1, Bernoulli)},
    "tokens": {"categorical": lambda space: Likelihood(space.levels, Categorical)},
    "grid": {
        "logistic": lambda space: Likelihood(3 * COMPONENTS, partial(LogisticMixture, levels=space.levels)),
        "categorical": lambda space: Likelihood(space.levels, partial(Levels, levels=space.levels)),
        "normal": lambda space: Likelihood(2, partial(GridNormal.of, levels=space.levels)),
        "fixed": lambda space: Likelihood(1, partial(GridNormal.fixed, levels=space.levels)),
    },
    "real": {
        "normal": lambda space: Likelihood(2, Normal.of),
        "fixed": lambda space: Likelihood(1, Normal.fixed),
    },
}
"""Of each kind of space, the first the one it takes by itself."""
_DATA = {"binary": "bits", "tokens": "tokens", "grid": "grey levels", "real": "real numbers"}


def _nearest(x: Tensor, levels: int) -> Tensor:
    """The grid's values nearest to x."""
    cell = 2 / (levels - 1)
    return ((x + 1) / cell).round().clamp(0, levels - 1) * cell - 1


def _log(x: Tensor) -> Tensor:
    """Of what is positive but for rounding."""
    return x.clamp(min=1e-30).log()


def _total(x: Tensor) -> Tensor:
    return x.flatten(1).sum(1)


def _uniform(like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.rand(like.shape, generator=generator, device=like.device, dtype=like.dtype)


def _choose(logits: Tensor, generator: torch.Generator | None) -> Tensor:
    """One index along dimension 1 for each of the others.

    Raises:
        PangenError: probabilities are no numbers.
    """
    p = logits.movedim(1, -1).softmax(-1)
    if p.isnan().any():
        raise PangenError(NO_NUMBERS)
    return torch.multinomial(p.flatten(0, -2), 1, generator=generator).view(p.shape[:-1])
