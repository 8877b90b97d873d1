"""Generative adversarial network: a generator learns from a critic that tells real from generated.

Goodfellow et al. 2014 (the non-saturating loss), Mescheder et al. 2018 (the R1 penalty), Huang et
al. 2024 (the relativistic loss with R1 and R2). The critic returns logits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from pangen.model import GenerativeModel
from pangen.networks.labels import hide
from pangen.networks.roles import Decoder, Encoder
from pangen.settings import Count, NonNegative, Share
from pangen.space import Batch, Loss, Progress, Space


class GAN(GenerativeModel):
    """x = G(z, y) with z ~ N(0, I), and a critic D(x, y).

    Args:
        width: units of both networks.
        noise: size of z.
        game: "non-saturating": D scores each example by itself, and its gradient is penalised on
            real examples; "relativistic": D scores real against generated ones in pairs, and its
            gradient is penalised on both.
        gamma: weight of the gradient penalty.
        unlabelled: share of labels hidden in training, so that p(x) is learnt beside p(x given y).
    """

    training_defaults: ClassVar = {
        "lr": 2e-3,
        "betas": (0.0, 0.99),
        "schedule": "constant",
        "ema": 0.999,
        "clip": None,
    }
    selection = "samples"

    def __init__(
        self,
        space: Space,
        *,
        width: Count = 128,
        noise: Count = 16,
        game: Literal["non-saturating", "relativistic"] = "non-saturating",
        gamma: NonNegative = 0.3,
        unlabelled: Share = 0.1,
    ) -> None:
        super().__init__(space)
        self.noise, self.relativistic = noise, game == "relativistic"
        self.gamma, self.unlabelled = gamma, unlabelled
        self.generator = Decoder(space, noise, 1, width)
        self.discriminator = Encoder(space, 1, width)

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {
            "critic": list(self.discriminator.parameters()),
            "generator": list(self.generator.parameters()),
        }

    def steps(self, batch: Batch, progress: Progress) -> Iterator[tuple[str, Loss]]:
        n, y = len(batch.x), hide(batch.y, self.space, self.unlabelled)
        real = batch.x.detach().requires_grad_()
        with torch.no_grad():
            fake = self.generate(self._draw(n), y)
        fake.requires_grad_()
        d_real, d_fake = self.critic(real, y), self.critic(fake, y)
        penalty = gradient_penalty(d_real, real)
        if self.relativistic:  # Huang et al. 2024, Eq. 2 and 4
            penalty = penalty + gradient_penalty(d_fake, fake)
            loss = softplus(d_fake - d_real).mean()
        else:  # Goodfellow et al. 2014, Eq. 1
            loss = softplus(-d_real).mean() + softplus(d_fake).mean()
        terms = {"loss": loss, "penalty": penalty, "real": d_real.mean(), "fake": d_fake.mean()}
        yield "critic", Loss(loss + self.gamma / 2 * penalty, terms)

        d_fake = self.critic(self.generate(self._draw(n), y), y)
        d_real = self.critic(batch.x, y).detach() if self.relativistic else 0.0
        yield "generator", Loss(softplus(d_real - d_fake).mean())

    def critic(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Logit `(B,)`: large where `x` looks real."""
        return self.discriminator(x, y)[:, 0]

    def generate(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Latent vectors `(B, noise)` to examples, bits as probabilities."""
        x = self.generator(z, y)[:, 0]
        if self.space.kind == "binary":
            return x.sigmoid()
        return x.tanh() if self.space.is_grid else x

    def trajectory(self, n: int, y: Tensor | None = None, *, generator: torch.Generator) -> Iterator[Tensor]:
        x = self.generate(self._draw(n, generator), y)
        yield x.round() if self.space.kind == "binary" else x

    def _draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        return torch.randn(n, self.noise, generator=generator, device=self.device)


def gradient_penalty(d: Tensor, x: Tensor) -> Tensor:
    """Mean squared norm of the critic's gradient: R1 on real examples, R2 on generated ones."""
    (gradient,) = torch.autograd.grad(d.sum(), x, create_graph=True)
    return gradient.square().flatten(1).sum(1).mean()
