"""What a model can do beyond being trained and sampled: tasks and metrics ask for these alone.

Each is a protocol: a model has the capability when it has the methods. A runtime check looks at
names only, so the conformance suite calls every one that the registry declares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from pangen.errors import PangenError
from pangen.space import Batch, Distribution, LogProb, LogZ, Method, Space


@runtime_checkable
class HasLogProb(Protocol):
    """Knows the probability of an example, or a bound on it."""

    def log_prob(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> LogProb:
        """log p(x), or log p(x given y), in nats of the model's own space, `(B,)`.

        `generator` feeds the bounds and estimates that are stochastic; exact models ignore it.
        """
        ...


@runtime_checkable
class HasLatent(Protocol):
    """Maps examples to codes and back."""

    latent_space: Space
    """Of a code: a real vector `(latent,)` or map `(C, H, W)`, or tokens `(L,)`."""

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The code of x `(B, *latent_space.shape)`, the mean where the model has a distribution of it."""
        ...

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """The mean of x given the code `(B, *shape)`."""
        ...

    def interpolate(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        """Codes between the codes `a` (t = 0) and `b` (t = 1) `(B, *latent_space.shape)`, `t` `(B,)`."""
        ...


@runtime_checkable
class HasPosterior(Protocol):
    """Knows how its codes are distributed: log p(x) >= E_q[log p(x given z) + log p(z) - log q(z given x)]."""

    def q(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        """q(z given x), over `latent_space`."""
        ...

    def p(self, z: Tensor, y: Tensor | None = None) -> Distribution:
        """p(x given z)."""
        ...


@runtime_checkable
class HasDenoiser(Protocol):
    """Estimates the clean example under Gaussian noise of scale sigma: E[x0 given x0 + sigma e]."""

    @property
    def sigma_min(self) -> float:
        """The lowest noise level it knows, in units of x."""
        ...

    @property
    def sigma_max(self) -> float:
        """The highest noise level it knows, in units of x."""
        ...

    def denoise(self, x: Tensor, sigma: Tensor, y: Tensor | None = None) -> Tensor:
        """`x` `(B, *shape)` carries noise of scale `sigma` `(B,)`; returns `(B, *shape)`."""
        ...


@runtime_checkable
class HasEnergy(Protocol):
    """Knows log p(x) up to a constant: energy(x) = -log p(x) - log Z."""

    def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """-log p(x), or -log p(x given y), up to that constant, in nats `(B,)`."""
        ...


@runtime_checkable
class HasPartition(Protocol):
    """Knows, or can estimate, the normalising constants of its energy."""

    def partition(
        self, generator: torch.Generator, method: Method | None = None, chains: int = 0, thorough: bool = True
    ) -> LogZ:
        """log Z of each class, or one, with its bounds; `method` None is a sum if it can be summed."""
        ...


@runtime_checkable
class HasClassifier(Protocol):
    """Knows the class of an example without the normalising constants that its density needs."""

    def classify(self, x: Tensor) -> Tensor:
        """log p(y given x) `(B, classes)`."""
        ...


@runtime_checkable
class HasMarginal(Protocol):
    """Knows the probability of any part of an example, the rest summed or integrated over."""

    def marginal_log_prob(self, x: Tensor, observed: Tensor, y: Tensor | None = None) -> LogProb:
        """log p of what is `observed` of x, or that given y, in nats `(B,)`; `observed` is a bool for each value.

        What stands where it is false tells nothing, but is a value of the space.
        """
        ...


@runtime_checkable
class HasFeatures(Protocol):
    """Knows what matters of an example, and can lend that to metrics."""

    def features(self, x: Tensor) -> Tensor:
        """`(B, d)`."""
        ...


@runtime_checkable
class HasNextToken(Protocol):
    """Predicts the next token from those before it."""

    def next_logits(self, tokens: Tensor, cache: Any = None, y: Tensor | None = None) -> tuple[Tensor, Any]:
        """Logits `(B, levels)` of the token that follows `tokens` `(B, t)`, t >= 0, and the cache.

        With a cache (as returned by the call before), `tokens` still holds all tokens; only those
        that the cache has not seen are computed. A cache with a method `take(rows)`, which gives that of
        the rows at an index, serves searches that go on from some rows and drop others.
        """
        ...

    def tokens(self, x: Tensor) -> Tensor:
        """Examples as tokens `(B, dims)`, in the order in which they are predicted."""
        ...

    def examples(self, tokens: Tensor) -> Tensor:
        """The inverse of `tokens`: `(B, dims)` to `(B, *shape)`."""
        ...


@runtime_checkable
class HasMasked(Protocol):
    """Predicts tokens from those around them."""

    def masked_logits(self, tokens: Tensor, masked: Tensor) -> Tensor:
        """Logits `(B, L, levels)` of each token given those of `tokens` `(B, L)` that are not `masked` `(B, L)`.

        What stands where `masked` is true tells nothing, except that it is no end and no padding.
        """
        ...


@runtime_checkable
class HasForecast(Protocol):
    """Continues a series."""

    def follow(
        self, past: Tensor, steps: int, y: Tensor | None = None, *, generator: torch.Generator
    ) -> Tensor:
        """One draw `(B, C, steps)` of what follows each `past` `(B, C, t)`, t >= 0."""
        ...


@runtime_checkable
class HasCritic(Protocol):
    """Tells real from generated examples by a logit."""

    def critic(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Logits `(B,)`, large where `x` `(B, *shape)` looks real."""
        ...


@runtime_checkable
class HasClosedForm(Protocol):
    """Is fitted by a formula or a library's own algorithm; has no training steps."""

    def fit_exactly(self, train: Batch, validation: Batch) -> dict[str, Any]:
        """Fit on `train`, choosing free settings on `validation`.

        Returns the constructor settings that fix every buffer's shape: the recipe keeps them, so
        that loading constructs first and fills after.
        """
        ...


CAPABILITIES: dict[str, type] = {
    "log_prob": HasLogProb,
    "latent": HasLatent,
    "posterior": HasPosterior,
    "denoiser": HasDenoiser,
    "energy": HasEnergy,
    "partition": HasPartition,
    "classifier": HasClassifier,
    "marginal": HasMarginal,
    "features": HasFeatures,
    "next_token": HasNextToken,
    "masked": HasMasked,
    "forecast": HasForecast,
    "critic": HasCritic,
    "closed_form": HasClosedForm,
}
"""Every capability by the name the registry declares it with."""


def energy_of(model: Any) -> HasEnergy:
    """A model's energy: its own, or -log p(x) of one whose log-probability is exact.

    So that every sampler written against an energy takes such a model too.

    Raises:
        PangenError: by `energy`, when the log-probability turns out to be a bound or an estimate.
    """
    return model if isinstance(model, HasEnergy) else _Surprise(model)


@dataclass(frozen=True)
class _Surprise:
    model: HasLogProb

    def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        found = self.model.log_prob(x, y)
        if found.kind != "exact":
            raise PangenError(
                f"a log-probability that is a {found.kind} gives no energy; take an exact model."
            )
        return -found.nats
