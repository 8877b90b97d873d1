"""Generative adversarial network: a generator learns from a critic that tells real from generated.

Goodfellow et al. 2014 (the game), Mescheder et al. 2018 (the R1 penalty), Miyato et al. 2018 (spectral
normalisation), Miyato and Koyama 2018 (labels by projection); all other games by their names.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.functional import silu
from torch.nn.utils.parametrizations import spectral_norm

from pangen.families.adversarial.adversarial import Adversarial, Augmentation
from pangen.families.adversarial.games import GAMES, Name
from pangen.networks.critic import Projection
from pangen.networks.roles import Activation, Decoder, Encoder, Network, Plain
from pangen.networks.rounding import Precision
from pangen.settings import Count, Fraction, Natural, NonNegative, Positive, Share
from pangen.space import Space


class GAN(Adversarial):
    """Networks by the space, and any game.

    Args:
        width: units of both networks.
        noise: size of z.
        network: auto, residual and for images convolutional; or mlp, the plain perceptrons of textbooks.
        depth: hidden layers of each mlp.
        activation: of the mlp.
        game: what critic and generator minimise: saturating, the formula of the minimax game; non-saturating;
            least-squares; hinge; wasserstein; relativistic, about pairs. It says what the next four are
            where they are None.
        r1: weight of half the critic's squared slope at real examples.
        r2: the same at generated ones.
        slope: weight of the squared distance of the norm of that slope from 1, between both.
        critic_steps: turns of the critic for one of the generator, each with its part of the batch.
        pace: the generator's learning rate over the critic's (Heusel et al. 2017).
        every: steps from one penalty to the next, which then weighs as much more.
        fade: what penalties weigh at the end, as a share of what they weigh at first.
        spectral: whether each layer of the critic is divided by its largest singular value.
        told: how the critic learns labels: as an input, or by projection at its end.
        augment: whether the critic sees images changed: none; fixed, mostly; adaptive, as often as it knows
            the real ones too well.
        precision: bfloat16 or float16 rounds the factors of the networks' products in training.
        unlabelled: share of labels hidden in training, so that p(x) is learnt beside p(x given y).
    """

    def __init__(
        self,
        space: Space,
        *,
        width: Count = 128,
        noise: Count = 16,
        network: Network = "auto",
        depth: Natural = 1,
        activation: Activation = "relu",
        game: Name = "relativistic",
        r1: NonNegative | None = None,
        r2: NonNegative | None = None,
        slope: NonNegative | None = None,
        critic_steps: Count | None = None,
        pace: Positive = 1.0,
        every: Count = 1,
        fade: Fraction = 1.0,
        spectral: bool = False,
        told: Literal["input", "projection"] = "input",
        augment: Augmentation = "none",
        precision: Precision = "full",
        unlabelled: Share = 0.1,
    ) -> None:
        asked: dict[str, Any] = {"r1": r1, "r2": r2, "slope": slope, "every": every, "fade": fade}
        penalties = replace(GAMES[game].penalties, **{k: v for k, v in asked.items() if v is not None})
        super().__init__(
            space, noise=noise, game=game, penalties=penalties, critic_steps=critic_steps, pace=pace,
            augment=augment, precision=precision, unlabelled=unlabelled,
        )  # fmt: skip
        plain = Plain.chosen(network, depth, activation)
        self.generator = Generator(space, noise, width, plain)
        biased = not self.game.pairs
        self.discriminator = Critic(space, width, plain, projected=told == "projection", biased=biased)
        if spectral:
            for layer in self.discriminator.modules():
                if isinstance(layer, nn.Linear | nn.Conv2d):
                    spectral_norm(layer)


class Generator(nn.Module):
    """Codes `(B, noise)` and labels to `(B, *shape)`."""

    def __init__(self, space: Space, noise: int, width: int, plain: Plain | None) -> None:
        super().__init__()
        self.net = Decoder(space, noise, 1, width, plain=plain)

    def forward(self, w: Tensor, y: Tensor | None = None) -> Tensor:
        return self.net(w, y)[:, 0]


class Critic(nn.Module):
    """Examples and labels to logits `(B,)`, which without a bias have no zero."""

    def __init__(
        self, space: Space, width: int, plain: Plain | None, *, projected: bool, biased: bool
    ) -> None:
        super().__init__()
        seen = replace(space, condition=None) if projected else space
        self.net = Encoder(seen, width if projected else 1, width, plain=plain)
        self.head = Projection(space, width, bias=biased) if projected else None
        if not (projected or biased):
            self.net.net.head.register_parameter("bias", None)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        if self.head is None:
            return self.net(x, y)[:, 0]
        return self.head(silu(self.net(x)), y)
