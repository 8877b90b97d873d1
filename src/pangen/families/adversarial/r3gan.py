"""R3GAN (Huang et al. 2024): relativistic pairs, slopes penalised at both ends, and a network of today.

With these two the game converges locally (their Section 2), and no trick of the last decade is needed.
"""

from __future__ import annotations

from typing import ClassVar

from pangen.families.adversarial.adversarial import Adversarial, Augmentation
from pangen.families.adversarial.games import Penalties
from pangen.networks.rounding import Precision
from pangen.networks.unnormalised import UnnormalisedCritic, UnnormalisedGenerator
from pangen.settings import Count, Fraction, NonNegative, Positive, Share
from pangen.space import Space


class R3GAN(Adversarial):
    """The relativistic game with R1 and R2, on networks without normalisation.

    Args:
        channels: of images at the smallest size, and half as many at each size above; vectors have twice as many units.
        blocks: at each size.
        noise: size of z; None: as many as a vector has dimensions, and 32 of an image.
        gamma: weight of both penalties (Eq. 4) at first.
        fade: what they weigh at the end, as a share of that.
        pace: the generator's learning rate over the critic's (Heusel et al. 2017).
        augment: whether the critic sees images changed: none; fixed, mostly; adaptive, as often as it knows
            the real ones too well.
        precision: bfloat16 or float16 rounds the factors of the networks' products in training.
        unlabelled: share of labels hidden in training, so that p(x) is learnt beside p(x given y).
    """

    training_defaults: ClassVar = {
        "lr": 1e-3, "betas": (0.0, 0.99), "schedule": "cosine", "final": 0.1, "ema": 0.999, "clip": None, "batch": 64,
    }  # fmt: skip

    def __init__(
        self,
        space: Space,
        *,
        channels: Count = 64,
        blocks: Count = 1,
        noise: Count | None = None,
        gamma: NonNegative = 1.0,
        fade: Fraction = 0.1,
        pace: Positive = 1.0,
        augment: Augmentation = "none",
        precision: Precision = "full",
        unlabelled: Share = 0.1,
    ) -> None:
        if noise is None:
            noise = 32 if space.is_image else space.dims
        super().__init__(
            space, noise=noise, game="relativistic", penalties=Penalties(gamma, gamma, fade=fade), pace=pace, augment=augment,
            precision=precision, unlabelled=unlabelled,
        )  # fmt: skip
        self.generator = UnnormalisedGenerator(space, noise, channels, blocks)
        self.discriminator = UnnormalisedCritic(space, channels, blocks)
