"""Base densities: what z is drawn from, every dimension on its own or all in a mixture."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from pangen.errors import PangenError
from pangen.networks.bijections.transforms import Sigmoid, Transform

BaseName = Literal["normal", "logistic", "uniform", "mixture"]


class BaseDensity(nn.Module, ABC):
    """A density of z `(B, *shape)`."""

    last: ClassVar[tuple[type[Transform], ...]] = ()
    """What leads from the real line to the set this density lives on: the flow's last block."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """log-density `(B,)` in nats."""

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        """n draws `(n, *shape)`; the temperature multiplies the scale."""


class Normal(BaseDensity):
    """Independent dimensions, N(0, 1)."""

    def log_prob(self, z: Tensor) -> Tensor:
        return -(z**2 + math.log(2 * math.pi)).flatten(1).sum(1) / 2

    def sample(self, n: int, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        z = torch.randn(n, *self.shape, generator=generator, device=generator.device)
        return z if temperature == 1 else temperature * z


class Logistic(BaseDensity):
    """Independent dimensions, logistic of mean 0 and scale 1."""

    def log_prob(self, z: Tensor) -> Tensor:
        return (-softplus(z) - softplus(-z)).flatten(1).sum(1)

    def sample(self, n: int, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        return temperature * _rand((n, *self.shape), generator).logit()


class Uniform(BaseDensity):
    """Independent dimensions, uniform on [0, 1], where a sigmoid leads."""

    last = (Sigmoid,)

    def log_prob(self, z: Tensor) -> Tensor:
        outside = ((z < 0) | (z > 1)).flatten(1).any(1)
        return torch.where(outside, -math.inf, z.new_zeros(len(z)))

    def sample(self, n: int, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        if temperature != 1:
            raise PangenError(
                "a uniform base has no temperature: no z is likelier than another; leave it at 1."
            )
        return _rand((n, *self.shape), generator)


class Mixture(BaseDensity):
    """Gaussians with learnt weights, means and diagonal deviations."""

    def __init__(self, shape: tuple[int, ...], components: int = 10) -> None:
        super().__init__(shape)
        dims = math.prod(shape)
        self.logits = nn.Parameter(torch.zeros(components))
        # at first about three deviations apart in all, whatever the number of dimensions
        self.means = nn.Parameter(2 / math.sqrt(dims) * torch.randn(components, dims))
        self.log_deviations = nn.Parameter(torch.zeros(components, dims))

    def log_prob(self, z: Tensor) -> Tensor:
        e = (z.flatten(1)[:, None] - self.means) * (-self.log_deviations).exp()
        each = -(e**2 + math.log(2 * math.pi)).sum(2) / 2 - self.log_deviations.sum(1)
        return (each + self.logits.log_softmax(0)).logsumexp(1)

    def sample(self, n: int, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        k = torch.multinomial(self.logits.softmax(0), n, replacement=True, generator=generator)
        e = torch.randn(n, self.means.shape[1], generator=generator, device=generator.device)
        z = self.means[k] + temperature * self.log_deviations[k].exp() * e
        return z.view(n, *self.shape)


_BASES: dict[str, type[BaseDensity]] = {
    "normal": Normal, "logistic": Logistic, "uniform": Uniform, "mixture": Mixture,
}  # fmt: skip


def make_base(name: BaseName, shape: tuple[int, ...]) -> BaseDensity:
    """The base density of that name for z `(B, *shape)`."""
    return _BASES[name](shape)


def _rand(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Uniform draws off the ends of the unit interval."""
    eps = torch.finfo(torch.float32).eps
    return torch.rand(shape, generator=generator, device=generator.device).clamp(eps, 1 - eps)
