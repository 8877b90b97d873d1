"""IAF: inverse autoregressive flow (Kingma et al. 2016), a density of its own rather than a posterior.

Activation normalisation stands between the steps. The log-scales are bounded.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pangen.families.flow.flow import FlowModel
from pangen.networks.autoregressive import Autoregressive, MaskedMLP, alternating
from pangen.networks.bijections import Affine, Compose, Inverse, actnorm
from pangen.settings import Count, Positive, Share
from pangen.space import Space


class IAF(FlowModel):
    """x_i = mu_i + sigma_i z_i, mu_i and sigma_i functions of the noise z_1 .. z_{i-1} (Eqs. 9 and 10).

    MAF the other way round: a sample takes one pass, and so does its density. Data of which the
    noise is not known, as in training, takes one step after the other for each dimension: against MAF of the
    same size a training step costs more the more dimensions there are (`benchmarks/results/flow_speed.jsonl`).

    Args:
        width: units of a network's hidden layers.
        blocks: autoregressive steps; the order of the dimensions is reversed between them.
        depth: hidden layers of a network.
        bound: the largest log-scale of a step.
        unlabelled: share of labels hidden in training, so that p(x) is learnt beside p(x given y).
    """

    training_defaults: ClassVar[dict[str, Any]] = {
        "lr": 2e-3, "betas": (0.9, 0.999), "batch": 256, "clip": 10.0, "ema": 0.998,
    }  # fmt: skip

    def __init__(
        self,
        space: Space,
        *,
        width: Count = 128,
        blocks: Count = 6,
        depth: Count = 2,
        bound: Positive = 3.0,
        unlabelled: Share = 0.1,
    ) -> None:
        context = width if space.condition else 0
        parts = []
        for ranks in alternating(space.dims, blocks):
            net = MaskedMLP(ranks, Affine.k, width, depth, context=context)
            parts.append(Compose(actnorm(space.shape), Inverse(Autoregressive(Affine(bound), net))))
        super().__init__(space, parts, width=width, base="normal", unlabelled=unlabelled)
