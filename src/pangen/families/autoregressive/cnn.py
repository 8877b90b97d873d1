"""A convolutional network (LeCun et al. 1989) with residual blocks (He et al. 2016): what a `vit` is set against."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import silu

from pangen.families.autoregressive.classifier import Classifier
from pangen.networks.conv import ConvEncoder
from pangen.settings import Count, Share
from pangen.space import Space


class CNN(Classifier):
    """Blocks of two 3 x 3 convolutions, the image halved after each until it is about 4 x 4.

    Args:
        channels: of the first block; of those that follow twice as many.
        width: features that the class is read from.
        dropout: within the blocks.
        smoothing: share of a label's probability that is given to all classes alike.
    """

    def __init__(
        self,
        space: Space,
        *,
        channels: Count = 16,
        width: Count = 64,
        dropout: Share = 0.1,
        smoothing: Share = 0.0,
    ) -> None:
        super().__init__(space, features=width, smoothing=smoothing)
        self.net = ConvEncoder(space.shape, width, channels, dropout=dropout)

    def features(self, x: Tensor) -> Tensor:
        return silu(self.net(self.pixels(x)))
