"""A denoiser around a network: the part of the estimate that is known in closed form is not learnt."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pangen.networks.roles import Architecture, Denoiser
from pangen.networks.rounding import rounded
from pangen.space import Space
from pangen.threads import threads

Coefficients = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Noise levels of data of variance 1 to (c_skip, c_out)."""
Unit = Callable[[Tensor], Tensor]
"""Noise levels to that by which errors are measured there."""


class Prediction(NamedTuple):
    """What a network is to say of x = x0 + sigma e, for data of variance 1, and what follows from it."""

    target: Callable[[Tensor, Tensor, Tensor], Tensor]
    """Of x0, e and sigma."""
    coefficients: Coefficients
    """By which x0 is estimated: c_skip x + c_out target."""


X0 = Prediction(lambda x0, e, sigma: x0, lambda sigma: (torch.zeros_like(sigma), torch.ones_like(sigma)))
"""The clean example."""
EPS = Prediction(lambda x0, e, sigma: e, lambda sigma: (torch.ones_like(sigma), -sigma))
"""The noise: x0 = x - sigma e (Ho et al. 2020)."""
V = Prediction(
    lambda x0, e, sigma: (e - sigma * x0) * (1 + sigma.square()).rsqrt(),
    lambda sigma: ((1 + sigma.square()).reciprocal(), -sigma * (1 + sigma.square()).rsqrt()),
)
"""v = (e - sigma x0) / sqrt(1 + sigma^2), of variance 1 at every level (Salimans and Ho 2022).

But for the sign of the output this is Karras et al. 2022, Table 1, with data of variance 1.
"""
FLOW = Prediction(lambda x0, e, sigma: e - x0, lambda sigma: (1 / (1 + sigma), -sigma / (1 + sigma)))
"""v = e - x0, the velocity of x_t = (1 - t) x0 + t e: x0 = x_t - t v (Lipman et al. 2023)."""


class Preconditioned(nn.Module):
    """x0 = c_skip(sigma) x + c_out(sigma) net(x / sqrt(1 + sigma^2), log(sigma) / 4, y).

    In these units, `unit(x)`, the data has mean 0 and variance 1, as `measure` found it
    (Karras et al. 2022, Eq. 7). `zero`: the network's output is 0 at first.
    """

    def __init__(
        self, space: Space, architecture: Architecture, coefficients: Coefficients, *, zero: bool = True
    ) -> None:
        super().__init__()
        self.coefficients, self.architecture = coefficients, architecture
        self.net = Denoiser(space, architecture)
        if not zero:
            self.net.net.head.reset_parameters()
        self.mean = nn.Buffer(torch.zeros(space.shape))
        self.scale = nn.Buffer(torch.tensor(1.0))

    def measure(self, x: Tensor) -> None:
        """Take the mean of each dimension and one scale for all from examples."""
        self.mean.copy_(x.mean(0))
        self.scale.copy_((x - self.mean).square().mean().sqrt().clamp(min=1e-6))

    def unit(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.scale

    def data(self, x: Tensor) -> Tensor:
        """The inverse of `unit`."""
        return torch.addcmul(self.mean, self.scale, x)

    def denoise(self, x: Tensor, sigma: Tensor, y: Tensor | None = None) -> Tensor:
        """The same as `estimate`, all in units of the data."""
        if sigma.stride(0) == 0:  # one number for all, as in samplers: it need be told once
            sigma = sigma[:1]
        return self.data(self.estimate(self.unit(x), sigma / self.scale, y))

    def estimate(self, x: Tensor, sigma: Tensor, y: Tensor | None = None) -> Tensor:
        """The clean example, `x` `(B, *shape)` carrying noise `sigma` `(B,)`, or `(1,)` for all, in units of `unit`."""
        c_skip, c_out = self.coefficients(column(sigma, x))
        return torch.addcmul(c_skip * x, c_out, self.output(x, sigma, y))

    def output(self, x: Tensor, sigma: Tensor, y: Tensor | None = None) -> Tensor:
        """What the network says, of the same."""
        with rounded(self.net, x):
            return self.net(x * (1 + column(sigma, x).square()).rsqrt(), sigma.log() / 4, y).to(x.dtype)


def column(sigma: Tensor, x: Tensor) -> Tensor:
    """`(B,)` shaped to multiply `(B, *shape)`."""
    return sigma.view(-1, *[1] * (x.ndim - 1))


class ErrorByLevel(nn.Module):
    """Mean squared error of an estimate, for each dimension and noise level, as met in training.

    Kept relative to sigma^2, in bins of equal width in log(sigma), each a running mean over about
    500 examples. It starts at the error of the best estimate for Gaussian data of variance 1.
    """

    MEMORY, LEAST = 500, 0.05
    EVERY = 4
    """Steps of training from one update to the next: a small step would feel each."""
    running = ("relative",)

    def __init__(self, shape: tuple[int, ...], bins: int = 32) -> None:
        super().__init__()
        self.ends = nn.Buffer(torch.tensor([0.01, 50.0]))
        self.relative = nn.Buffer(torch.ones(bins, *shape))
        self.edges = nn.Buffer(torch.empty(bins - 1), persistent=False)
        self.register_load_state_dict_post_hook(ErrorByLevel._cut)
        self._cut()

    def span(self, low: Tensor, high: Tensor) -> None:
        """Start anew, for noise levels from `low` to `high`."""
        self.ends.copy_(torch.stack([low, high]))
        self._cut()
        sigma = column(self._levels(), self.relative)
        self.relative.copy_((1 / (1 + sigma**2)).expand_as(self.relative))

    def forward(self, sigma: Tensor) -> Tensor:
        """Mean squared error `(*shape)` at one noise level."""
        return sigma**2 * self.relative[self._bin(sigma)].to(sigma.dtype)

    @torch.no_grad()
    @threads(1)
    def update(self, squares: Tensor, sigma: Tensor) -> None:
        """Take in squared errors `(B, *shape)` of estimates at noise `sigma` `(B,)`."""
        chosen = squares.new_zeros(len(sigma), len(self.relative))
        chosen.scatter_(1, self._bin(sigma)[:, None], 1.0)
        count = chosen.sum(0)
        relative = (squares / column(sigma, squares).square()).flatten(1)
        mean = (chosen / count.clamp(min=1)).T @ relative
        share = 1 - (1 - 1 / self.MEMORY) ** count
        self.relative.lerp_(mean.view_as(self.relative).clamp(min=self.LEAST), column(share, squares))

    def _levels(self) -> Tensor:
        low, high = self.ends
        return low * (high / low) ** torch.linspace(0, 1, len(self.relative), device=low.device)

    def _cut(self, *loaded: object) -> None:
        """Edges of the bins are halfway between their levels."""
        sigma = self._levels()
        self.edges.copy_((sigma[1:] * sigma[:-1]).sqrt())

    def _bin(self, sigma: Tensor) -> Tensor:
        return torch.bucketize(sigma.detach(), self.edges.to(sigma))
