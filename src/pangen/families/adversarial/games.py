"""Adversarial games by name: what critic and generator minimise, given logits of real and of generated examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from pangen.space import Progress

Payoff = Callable[[Tensor, Tensor], Tensor]
"""Logits `(B,)` of real and of generated examples to a mean loss."""
Name = Literal["saturating", "non-saturating", "least-squares", "hinge", "wasserstein", "relativistic"]


@dataclass(frozen=True)
class Penalties:
    """What a critic pays for its slope, and when."""

    r1: float = 0.0
    """Half the squared slope at real examples (Mescheder et al. 2018, Eq. 9)."""
    r2: float = 0.0
    """The same at generated ones."""
    slope: float = 0.0
    """The squared distance of the slope's norm from 1, between both (Gulrajani et al. 2017, Eq. 3)."""
    every: int = 1
    """Steps from one payment to the next, which is as much larger (Karras et al. 2020b, Section 4.1)."""
    fade: float = 1.0
    """What is paid at the end, as a share of what is paid at first; it falls by equal ratios."""

    def due(self, progress: Progress) -> bool:
        return progress.step % self.every == 0 and max(self.r1, self.r2, self.slope) > 0

    def __call__(
        self, critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, d_real: Tensor, d_fake: Tensor
    ) -> Tensor:
        """Of examples that require gradients, and the critic's logits of them."""
        paid = d_real.new_zeros(())
        if self.r1 > 0:
            paid = paid + self.r1 / 2 * squared_slope(d_real, real)
        if self.r2 > 0:
            paid = paid + self.r2 / 2 * squared_slope(d_fake, fake)
        if self.slope > 0:
            x = between(real, fake).detach().requires_grad_()
            paid = paid + self.slope * slope_from_one(critic(x), x)
        return paid

    def weight(self, progress: Progress) -> float:
        return self.every * self.fade**progress.fraction


@dataclass(frozen=True)
class Game:
    """Both losses, and how its paper plays it."""

    critic: Payoff
    generator: Payoff
    penalties: Penalties
    critic_steps: int = 1
    pairs: bool = False
    """Whether only differences of logits count."""


def _doubt(real: Tensor, fake: Tensor) -> Tensor:
    """-log D(x) - log(1 - D(G(z))), D = sigmoid of the logit: Goodfellow et al. 2014, Eq. 1."""
    return (softplus(-real) + softplus(fake)).mean()


GAMES: dict[str, Game] = {
    # log(1 - D(G(z))), Eq. 1: its slope vanishes where the critic is sure
    "saturating": Game(_doubt, lambda real, fake: -softplus(fake).mean(), Penalties(r1=10.0)),
    # -log D(G(z)), Section 3, with the penalty of Mescheder et al. 2018, as large as theirs
    "non-saturating": Game(_doubt, lambda real, fake: softplus(-fake).mean(), Penalties(r1=10.0)),
    # Mao et al. 2017, Eq. 9
    "least-squares": Game(
        lambda real, fake: ((real - 1).square() + fake.square()).mean() / 2,
        lambda real, fake: (fake - 1).square().mean() / 2,
        Penalties(r1=10.0),
    ),
    # Miyato et al. 2018, Eq. 16 and 17
    "hinge": Game(
        lambda real, fake: (relu(1 - real) + relu(1 + fake)).mean(),
        lambda real, fake: -fake.mean(),
        Penalties(r1=10.0),
    ),
    # Arjovsky et al. 2017, Eq. 2, with the penalty of Gulrajani et al. 2017, Eq. 3
    "wasserstein": Game(
        lambda real, fake: (fake - real).mean(),
        lambda real, fake: -fake.mean(),
        Penalties(slope=10.0),
        critic_steps=5,
    ),
    # Jolicoeur-Martineau 2019, in pairs, with the penalties of Huang et al. 2024, Eq. 2 to 4
    "relativistic": Game(
        lambda real, fake: softplus(fake - real).mean(),
        lambda real, fake: softplus(real - fake).mean(),
        Penalties(r1=0.3, r2=0.3),
        pairs=True,
    ),
}


def squared_slope(d: Tensor, x: Tensor) -> Tensor:
    """Mean squared norm of the critic's gradient at x."""
    return _slopes(d, x).square().sum(1).mean()


def slope_from_one(d: Tensor, x: Tensor) -> Tensor:
    """Mean squared distance of that norm from 1."""
    return (_slopes(d, x).norm(dim=1) - 1).square().mean()


def between(real: Tensor, fake: Tensor) -> Tensor:
    """A point on the way from each real example to a generated one."""
    at = torch.rand(len(real), *[1] * (real.dim() - 1), device=real.device, dtype=real.dtype)
    return torch.lerp(real, fake, at)


def _slopes(d: Tensor, x: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(d.sum(), x, create_graph=True)
    return gradient.flatten(1)
