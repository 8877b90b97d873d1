"""Deep convolutional GAN (Radford et al. 2016): strided convolutions, batch normalisation, nothing else.

For 64 x 64 pixels with three channels these are the layers of its Figure 1 with half the width, the
popular list 100 -> 512 -> 256 -> 128 -> 64 -> 3; other sizes have as many halvings as lead to 4.
"""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from pangen.errors import PangenError
from pangen.families.adversarial.adversarial import Adversarial, Augmentation
from pangen.families.adversarial.games import Penalties
from pangen.networks.deconvolution import Convolution, Deconvolution
from pangen.networks.rounding import Precision
from pangen.settings import Count, Share
from pangen.space import Batch, Space


class DCGAN(Adversarial):
    """The non-saturating game without penalty; images alone.

    Args:
        channels: at half size; twice as many at each size below.
        noise: size of z.
        augment: whether the critic sees images changed: none; fixed, mostly; adaptive, as often as it knows
            the real ones too well.
        precision: bfloat16 or float16 rounds the factors of the networks' products in training.
        unlabelled: share of labels hidden in training, so that p(x) is learnt beside p(x given y).
    """

    training_defaults: ClassVar = {
        "lr": 2e-4, "betas": (0.5, 0.999), "schedule": "constant", "ema": 0.0, "clip": None,
    }  # fmt: skip

    def __init__(
        self,
        space: Space,
        *,
        channels: Count = 64,
        noise: Count = 100,
        augment: Augmentation = "none",
        precision: Precision = "full",
        unlabelled: Share = 0.1,
    ) -> None:
        if not space.is_image:
            raise PangenError("dcgan makes images, and this data has none; take gan or r3gan.")
        super().__init__(
            space, noise=noise, game="non-saturating", penalties=Penalties(), augment=augment, precision=precision,
            unlabelled=unlabelled,
        )  # fmt: skip
        self.generator = Deconvolution(space, noise, channels)
        self.discriminator = Convolution(space, channels)

    def initialize(self, batch: Batch) -> None:
        """Averages of batch statistics begin with a batch, not with 0 and 1, which they would leave slowly."""
        norms = [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)]
        usual = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 1.0
        self.critic(self.generate(self.draw(len(batch.x)), batch.y), batch.y)
        for norm, momentum in zip(norms, usual, strict=True):
            norm.momentum = momentum
