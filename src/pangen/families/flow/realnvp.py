"""RealNVP: affine couplings with alternating masks, at several scales (Dinh et al. 2017).

Activation normalisation (Kingma and Dhariwal 2018) stands where the paper has batch
normalisation, so that no example influences another: before every pair of convolved couplings,
once before perceptrons. Log-scales are bounded.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from pangen.families.flow.flow import FlowModel
from pangen.networks.bijections import (
    BaseName,
    Compose,
    ConvNet,
    Dequantisation,
    MaskedCoupling,
    ScaleShift,
    Squeeze,
    Through,
    Transform,
    actnorm,
    at_scale,
    checkerboard,
    flat_pair,
    halves,
    halvings,
    mask_pairs,
    scaled_shape,
)
from pangen.networks.roles import convolutional
from pangen.settings import Count, Positive, Share
from pangen.space import Space


class RealNVP(FlowModel):
    """z = f(x) with log p(x) = log N(z; 0, I) + log|det df/dx| (Eqs. 2 and 3).

    Vectors and small images go through perceptrons that see all dimensions at once. Larger images
    are convolved at several scales, as often as height and width can be halved.

    Args:
        width: units of a coupling's hidden layers; convolutions have a 32nd as many channels.
        pairs: pairs of couplings, shared out among the scales; each moves every dimension there once.
        scales: scales of a convolved image at most; between two, half of the dimensions leave to z.
        depth: hidden layers, or residual blocks, of a coupling's network.
        bound: the largest log-scale of a coupling.
        base: density of z; the paper's is normal.
        dropout: of the hidden units of perceptrons over images, of which there are few for their
            dimension; vectors have none.
        unlabelled: share of labels hidden in training, so that p(x) is learnt beside p(x given y).
        dequantisation: noise on grey levels behind the codec `grid`: uniform, or learnt by a flow.
    """

    training_defaults: ClassVar[dict[str, Any]] = {
        "lr": 2e-3, "betas": (0.9, 0.999), "batch": 256, "clip": 10.0, "ema": 0.998,
    }  # fmt: skip

    def __init__(
        self,
        space: Space,
        *,
        width: Count = 128,
        pairs: Count = 6,
        scales: Count = 3,
        depth: Count = 2,
        bound: Positive = 2.0,
        base: BaseName = "normal",
        dropout: Share = 0.2,
        unlabelled: Share = 0.1,
        dequantisation: Dequantisation = "variational",
    ) -> None:
        context, channels, affine = width if space.condition else 0, max(width // 32, 4), ScaleShift(bound)

        def flat(b: Tensor) -> Transform:
            p = dropout if space.is_image else 0.0
            return flat_pair(affine, b, width, depth, context=context, dropout=p)

        def conv(b: Tensor) -> Transform:
            return MaskedCoupling(affine, ConvNet(b.shape, 2, channels, depth, context=context), b)

        def pair(cut: Any, shape: tuple[int, ...]) -> Compose:
            return Compose(actnorm((shape[0], 1, 1)), *(conv(cut(shape, k)) for k in (0, 1)))

        if convolutional(space):
            blocks: list[Transform] = []
            scales = halvings(space.shape, scales - 1) + 1
            for scale in range(scales):  # Section 3.6
                shape, each = scaled_shape(space.shape, scale), max(pairs // scales, 1)
                squeezed = each // 2 if scale < scales - 1 else 0
                small = 4 * shape[0], shape[1] // 2, shape[2] // 2
                parts: list[Transform] = [pair(checkerboard, shape) for _ in range(each - squeezed)]
                parts += [Through(Squeeze(), pair(halves, small)) for _ in range(squeezed)]
                blocks += [at_scale(scale, part) for part in parts]
        else:
            blocks = [actnorm(space.shape), *(flat(b) for b, _ in mask_pairs(space.shape, pairs))]
        super().__init__(
            space, blocks, width=width, base=base, unlabelled=unlabelled, dequantisation=dequantisation
        )
