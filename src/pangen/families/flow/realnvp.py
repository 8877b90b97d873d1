"""RealNVP: affine couplings with alternating masks (Dinh et al. 2017).

Activation normalisation (Kingma and Dhariwal 2018) stands where the paper has batch
normalisation, so that no example influences another: before every pair of convolved couplings,
once before perceptrons. Log-scales are bounded. All of z has the shape of x: the paper's
multi-scale outputs are left out.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from pangen.families.flow.flow import FlowModel
from pangen.networks.bijections import (
    AffineCoupling,
    Compose,
    ConvNet,
    FlatNet,
    Inverse,
    Squeeze,
    actnorm,
    checkerboard,
    halves,
    mask_pairs,
)
from pangen.networks.roles import convolutional
from pangen.space import Space


class RealNVP(FlowModel):
    """z = f(x) with log p(x) = log N(z; 0, I) + log|det df/dx| (Eqs. 2 and 3).

    Vectors and small images go through perceptrons that see all dimensions at once. Larger images
    are convolved: checkerboard masks at full size, alternating, where height and width are even,
    with channel masks on the squeezed image.

    Args:
        width: units of a coupling's hidden layers; convolutions have an eighth as many channels.
        pairs: pairs of couplings; each pair moves every dimension once.
        depth: hidden layers, or residual blocks, of a coupling's network.
        bound: the largest log-scale of a coupling.
        dropout: of the hidden units of perceptrons over images, of which there are few for their
            dimension; vectors have none.
        unlabelled: share of labels hidden in training, so that p(x) is learnt beside p(x given y).
    """

    training_defaults: ClassVar[dict[str, Any]] = {
        "lr": 2e-3, "betas": (0.9, 0.999), "batch": 256, "clip": 10.0, "ema": 0.998,
    }  # fmt: skip

    def __init__(
        self,
        space: Space,
        *,
        width: int = 128,
        pairs: int = 6,
        depth: int = 2,
        bound: float = 2.0,
        dropout: float = 0.2,
        unlabelled: float = 0.1,
    ) -> None:
        context = width if space.classes else 0

        def flat(b: Tensor) -> AffineCoupling:
            p = dropout if space.is_image else 0.0
            return AffineCoupling(b, FlatNet(b.shape, 2, width, depth, context=context, dropout=p), bound)

        def conv(b: Tensor) -> AffineCoupling:
            return AffineCoupling(b, ConvNet(b.shape, 2, width // 8, depth, context=context), bound)

        if convolutional(space):
            blocks, (C, H, W) = [], space.shape
            for i in range(pairs):
                if i % 2 and H % 2 == W % 2 == 0:  # Section 3.6
                    masks = [halves((4 * C, H // 2, W // 2), k) for k in (0, 1)]
                    inner = [actnorm((4 * C, 1, 1)), *map(conv, masks)]
                    blocks.append(Compose(Squeeze(), *inner, Inverse(Squeeze())))
                else:
                    masks = [checkerboard(space.shape, k) for k in (0, 1)]
                    blocks.append(Compose(actnorm((C, 1, 1)), *map(conv, masks)))
        else:
            cuts = mask_pairs(space.shape, pairs)
            blocks = [actnorm(space.shape), *(Compose(*map(flat, masks)) for masks in cuts)]
        super().__init__(space, blocks, width=width, base="normal", unlabelled=unlabelled)
