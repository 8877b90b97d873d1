"""Mistakes in adversarial games."""

from __future__ import annotations

import torch
from mistake import Damage, mistake, near, outcome
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import softplus

import pangen
from pangen.families.adversarial.games import GAMES
from pangen.families.adversarial.gan import GAN
from pangen.space import Space

PLANE = Space("real", (2,))


def slope(loss, logit: float) -> float:
    """Size of the derivative of a loss at a logit."""
    at = torch.tensor([logit], requires_grad=True)
    (found,) = torch.autograd.grad(loss(at).sum(), at)
    return abs(float(found))


def once(logit: Tensor) -> Tensor:
    """-log D of a real example, from the critic's logit."""
    return softplus(-logit)


def twice(logit: Tensor) -> Tensor:
    """The same where the critic has applied a sigmoid already."""
    return softplus(-logit.sigmoid())


@mistake(1, "A sigmoid before a loss that takes logits")
def sigmoid_twice() -> list[Damage]:
    """`BCEWithLogitsLoss` applies the sigmoid itself. A critic that ends in one has its output squeezed twice: the
    loss has a floor, and a critic that is wrong hardly learns. **Right:** the critic returns logits."""
    game, sure = GAMES["non-saturating"], torch.tensor([20.0])
    wrong, right = game.critic(sure.sigmoid(), (-sure).sigmoid()), game.critic(sure, -sure)
    logits = GAN(PLANE).discriminator(100 * torch.randn(64, 2)).detach()
    slopes = slope(twice, -4.0), slope(once, -4.0)
    return [
        Damage("loss of a perfect critic", float(wrong), float(right), wrong > 1.006 and right < 1e-6),
        Damage("slope at logit -4", *slopes, near(slopes[0], 0.0088) and near(slopes[1], 0.982)),
        Damage("share of outputs outside [0, 1]", 0.0, outside := share_outside(logits, 0, 1), outside > 0.1),
    ]


@mistake(2, "Labels shaped like the image")
def labels_like_images() -> list[Damage]:
    """Whether an example is real is one answer, not one for each pixel. **Right:** targets are `ones_like(logits)`."""
    images, critic = torch.rand(8, 1, 8, 8), GAN(Space("real", (1, 8, 8))).discriminator
    logits = critic(images)
    wrong = outcome(lambda: bce(logits, torch.ones_like(images)))
    right = outcome(lambda: bce(logits, torch.ones_like(logits)))
    return [Damage("binary cross entropy", wrong, right, (wrong, right) == ("ValueError", "works"))]


def share_outside(x: Tensor, low: float, high: float) -> float:
    return float(((x < low) | (x > high)).double().mean())


@mistake(3, "Normal noise for data, tanh for an output")
def unreachable_range() -> list[Damage]:
    """A generator that ends in tanh stays within [-1, 1]; a third of standard normal numbers does not. **Right:** data
    has a declared range, which is checked before anything is trained."""
    x = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    lost = share_outside(x, -1, 1)
    refused = outcome(lambda: pangen.fit("gan", x[:1280].view(20, 1, 8, 8), steps=1, device="cpu"))
    return [
        Damage("share of the data out of reach", lost, 0.0, near(lost, 0.317, 0.03)),
        Damage("such numbers as images", "accepted", refused, refused == "PangenError"),
    ]


@mistake(18, "The saturating formula and the non-saturating loss, taken for one")
def saturation() -> list[Damage]:
    """The minimax game has the generator minimise log(1 - D); what is trained nearly everywhere is -log D. They have
    the same fixed point and very different slopes where the critic is sure, which is where training starts.
    **Right:** both, by name: `--model.game saturating` and `non-saturating`."""
    real = torch.zeros(1)
    wrong, right = (
        slope(lambda at, name=name: GAMES[name].generator(real, at), -4.0)
        for name in ("saturating", "non-saturating")
    )
    proven = near(wrong, 0.018) and near(right, 0.982)
    return [Damage("slope at logit -4", wrong, right, proven)]


@mistake(19, "Whole numbers as targets")
def integer_targets() -> list[Damage]:
    """Binary cross entropy multiplies its targets with logarithms. **Right:** targets have the logits' type."""
    logits = torch.zeros(4)
    wrong = outcome(lambda: bce(logits, torch.ones(4, dtype=torch.long)))
    right = outcome(lambda: bce(logits, torch.ones_like(logits)))
    return [Damage("binary cross entropy", wrong, right, wrong != "works" and right == "works")]
