"""MAF: masked autoregressive flow (Papamakarios et al. 2017).

Activation normalisation (Kingma and Dhariwal 2018) stands where the paper has batch
normalisation, so that no example influences another. The log-scales alpha are bounded.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pangen.families.flow.flow import FlowModel
from pangen.networks.autoregressive import Autoregressive, MaskedMLP, alternating
from pangen.networks.bijections import Affine, Compose, actnorm
from pangen.settings import Count, Positive, Share
from pangen.space import Space


class MAF(FlowModel):
    """u_i = (x_i - mu_i) exp(-alpha_i), mu_i and alpha_i functions of x_1 .. x_{i-1}, MADE upon MADE (Eqs. 3 to 5).

    The density takes one pass; a sample takes one step for each dimension, in which only the hidden units
    that are new are computed. The order of the dimensions alternates (Section 3.2 of the paper).

    Args:
        width: units of a MADE's hidden layers.
        blocks: MADEs.
        depth: hidden layers of a MADE.
        bound: the largest log-scale of a MADE.
        dropout: of hidden units, for images, of which there are few for their dimension.
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
        blocks: Count = 8,
        depth: Count = 2,
        bound: Positive = 3.0,
        dropout: Share = 0.2,
        unlabelled: Share = 0.1,
    ) -> None:
        context, p = width if space.condition else 0, dropout if space.is_image else 0.0
        parts = []
        for ranks in alternating(space.dims, blocks):
            made = MaskedMLP(ranks, Affine.k, width, depth, context=context, dropout=p)
            parts.append(Compose(actnorm(space.shape), Autoregressive(Affine(bound), made)))
        super().__init__(space, parts, width=width, base="normal", unlabelled=unlabelled)
