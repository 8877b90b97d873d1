"""Gated PixelCNN (van den Oord et al. 2016b), with the mixture of PixelCNN++ on grey levels (Salimans et al. 2017).

p(x) = prod_i p(x_i given x_<i), pixel after pixel in raster order and in a pixel channel after channel. Two
stacks of convolutions see all earlier pixels within their reach, without the blind spot of masked kernels; a
head for each channel sees the channels before it. What is predicted is a distribution that the space decides.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pangen.errors import PangenError
from pangen.families.autoregressive.pixels import PixelModel
from pangen.likelihoods import Observation
from pangen.networks.pixel import GatedStacks
from pangen.networks.rounding import Precision
from pangen.settings import Count, Natural, Share
from pangen.space import Space


class PixelCNN(PixelModel):
    """A vertical and a horizontal stack of gated convolutions.

    Args:
        channels: of each stack.
        depth: layers after the first, whose kernel is 7 x 7.
        kernel: size of their kernels, odd. A pixel sees 3 + depth (kernel // 2) pixels far.
        dropout: of what the gates let through.
        observation: of a pixel, by name; auto: bernoulli for bits, categorical for levels, a mixture of
            discretised logistics on the grid.
        precision: bfloat16 or float16 rounds the factors of the layers' products in training.
        unlabelled: share of labels hidden in training, so that p(x) is learnt beside p(x given y).
    """

    training_defaults: ClassVar[dict[str, Any]] = {"lr": 3e-3, "batch": 32, "warmup": 20, "ema": 0.99}

    def __init__(
        self,
        space: Space,
        *,
        channels: Count = 32,
        depth: Natural = 4,
        kernel: Count = 3,
        dropout: Share = 0.1,
        observation: Observation = "auto",
        precision: Precision = "full",
        unlabelled: Share = 0.1,
    ) -> None:
        super().__init__(
            space, channels=channels, observation=observation, precision=precision, unlabelled=unlabelled
        )
        if kernel % 2 == 0:
            raise PangenError(
                f"model.kernel = {kernel} has no middle; give an odd number such as {kernel + 1}."
            )
        self.layers = GatedStacks(
            self.inputs, channels, depth, kernel,
            condition=channels if space.condition else 0, dropout=dropout,
        )  # fmt: skip
