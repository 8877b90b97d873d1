"""NSF: neural spline flow, rational-quadratic splines with linear tails (Durkan et al. 2019)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from pangen.families.flow.flow import FlowModel
from pangen.networks.autoregressive import Autoregressive, MaskedMLP, alternating, mixing
from pangen.networks.bijections import Compose, Flatten, Through, Transform, actnorm, flat_coupling
from pangen.networks.splines import Spline
from pangen.settings import Count, Positive, Share
from pangen.space import Space


class NSF(FlowModel):
    """Each dimension goes through a spline, whose knots a network makes of other dimensions (Eqs. 4 to 8).

    Permutations times learnt L U stand between, as in the paper's experiments, where there are more than two
    dimensions: in the plane the two take turns. Autoregressive layers reverse the order instead of permuting it.
    Images are flattened.

    Args:
        width: units of a network's hidden layers.
        kind: what a spline's network sees: one half of the dimensions, for splines of the other
            (coupling), or all dimensions before (autoregressive).
        blocks: pairs of couplings, or autoregressive layers.
        depth: hidden layers of a network.
        bins: K, of each spline.
        tails: B, beyond which a spline is the identity; data has standard deviation 1.
        dropout: of hidden units, for images, of which there are few for their dimension.
        unlabelled: share of labels hidden in training, so that p(x) is learnt beside p(x given y).
    """

    training_defaults: ClassVar[dict[str, Any]] = {
        "lr": 3e-3, "betas": (0.9, 0.99), "batch": 512, "clip": 10.0, "ema": 0.998,
    }  # fmt: skip

    def __init__(
        self,
        space: Space,
        *,
        width: Count = 128,
        kind: Literal["coupling", "autoregressive"] = "coupling",
        blocks: Count = 2,
        depth: Count = 3,
        bins: Count = 16,
        tails: Positive = 5.0,
        dropout: Share = 0.2,
        unlabelled: Share = 0.1,
    ) -> None:
        D, p, context = space.dims, dropout if space.is_image else 0.0, width if space.condition else 0
        spline = Spline(bins, tails)

        def half(upper: bool) -> Transform:
            return flat_coupling(spline, D, D // 2, upper, width, depth, context=context, dropout=p)

        def masked(ranks: Tensor) -> Transform:
            return Autoregressive(
                spline, MaskedMLP(ranks, spline.k, width, depth, context=context, dropout=p)
            )

        parts: list[Transform] = [actnorm((D,))]
        halves = kind == "coupling" and D > 1
        for i, ranks in enumerate(alternating(D, blocks)):
            between = [mixing(torch.randperm(D) if halves else torch.arange(D))] if i and D > 2 else []
            parts.append(Compose(*between, *(map(half, (True, False)) if halves else [masked(ranks)])))
        if space.is_image:
            parts = [Through(Flatten(space.shape), part) for part in parts]
        super().__init__(space, parts, width=width, base="normal", unlabelled=unlabelled)
