"""NICE: additive couplings, which preserve volume, and one diagonal scale (Dinh et al. 2015)."""

from __future__ import annotations

from typing import Any, ClassVar

from pangen.families.flow.flow import FlowModel
from pangen.networks.bijections import (
    Additive,
    BaseName,
    Dequantisation,
    Scale,
    Shift,
    flat_pair,
    mask_pairs,
)
from pangen.settings import Count, Share
from pangen.space import Space


class NICE(FlowModel):
    """log p(x) = sum_d [log p_H(h_d) + s_d], h = exp(s) f(x), f additive couplings (Section 3).

    Perceptrons at every size, as in the paper.

    Args:
        width: units of a coupling's hidden layers.
        pairs: pairs of couplings; each pair moves every dimension once.
        depth: hidden layers of a coupling's network.
        base: p_H: independent logistic (Eq. 5), normal or uniform dimensions, or a learnt mixture of
            Gaussians.
        dropout: of hidden units, for images, of which there are few for their dimension.
        unlabelled: share of labels hidden in training, so that p(x) is learnt beside p(x given y).
        dequantisation: noise on grey levels behind the codec `grid`: uniform, or learnt by a flow.
    """

    training_defaults: ClassVar[dict[str, Any]] = {
        "lr": 4e-3,
        "betas": (0.9, 0.999),
        "clip": 10.0,
        "ema": 0.998,
    }

    def __init__(
        self,
        space: Space,
        *,
        width: Count = 128,
        pairs: Count = 4,
        depth: Count = 2,
        base: BaseName = "logistic",
        dropout: Share = 0.2,
        unlabelled: Share = 0.1,
        dequantisation: Dequantisation = "variational",
    ) -> None:
        context, p = width if space.condition else 0, dropout if space.is_image else 0.0
        couplings = [
            flat_pair(Additive(), b, width, depth, context=context, dropout=p)
            for b, _ in mask_pairs(space.shape, pairs)
        ]
        blocks = [Shift(space.shape), *couplings, Scale(space.shape)]  # Eq. 11, of data that are centred
        super().__init__(
            space, blocks, width=width, base=base, unlabelled=unlabelled, dequantisation=dequantisation
        )
