"""PixelRNN (van den Oord et al. 2016a): LSTMs that run over an image in two dimensions.

p(x) = prod_i p(x_i given x_<i), pixel after pixel in raster order. After a first convolution (Table 1) come
layers whose state at a pixel is an LSTM's (Eq. 3) of the states beside and above it: of a row LSTM the three
above, which leaves out part of what came before; of a diagonal BiLSTM all that came before.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pangen.families.autoregressive.pixels import PixelModel
from pangen.likelihoods import Observation
from pangen.networks.pixel_recurrent import RecurrentLayers
from pangen.networks.rounding import Precision
from pangen.settings import Count, Share
from pangen.space import Space


class PixelRNN(PixelModel):
    """Layers of two-dimensional LSTMs with residual connections.

    Args:
        cell: "row", row after row, each in one go; "diagonal", diagonal after diagonal, from the left and
            from the right.
        channels: numbers in a layer's state; twice as many go from layer to layer.
        depth: layers after the first, a convolution of 7 x 7.
        dropout: of what the states give to the next layer.
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
        cell: Literal["row", "diagonal"] = "diagonal",
        channels: Count = 32,
        depth: Count = 1,
        dropout: Share = 0.1,
        observation: Observation = "auto",
        precision: Precision = "full",
        unlabelled: Share = 0.1,
    ) -> None:
        super().__init__(
            space, channels=2 * channels, observation=observation, precision=precision, unlabelled=unlabelled
        )
        self.layers = RecurrentLayers(
            self.inputs, channels, depth, cell,
            condition=2 * channels if space.condition else 0, dropout=dropout,
        )  # fmt: skip
