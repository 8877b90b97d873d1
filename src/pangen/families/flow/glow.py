"""Glow: steps of actnorm, an invertible 1x1 convolution and an affine coupling (Kingma and Dhariwal 2018)."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn.functional import relu

from pangen.families.flow.flow import FlowModel
from pangen.networks.bijections import (
    BaseName,
    Compose,
    Coupling,
    Dequantisation,
    Flatten,
    Invertible1x1,
    MaskedCoupling,
    ScaleShift,
    Squeeze,
    Through,
    Transform,
    actnorm,
    at_scale,
    checkerboard,
    flat_coupling,
    halvings,
    images_last,
    scaled_shape,
)
from pangen.networks.linear import Linear
from pangen.networks.mlp import zeroed
from pangen.networks.roles import convolutional
from pangen.settings import Count, Positive, Share
from pangen.space import Space


class Glow(FlowModel):
    """At each of L scales: squeeze, K steps of flow, and half of the dimensions leave to z (Figure 2).

    Vectors, and small images as vectors, have one scale, and a full matrix and perceptrons in each
    step. An image whose height or width is odd cannot be squeezed: its couplings have checkerboard
    masks.

    Args:
        width: units of a coupling's hidden layers; convolutions have an eighth as many channels.
        steps: K, steps of flow at each scale.
        scales: L, at most; the number of times that height and width can be halved bounds it.
        depth: hidden layers of a perceptron.
        bound: the largest log-scale of a coupling.
        learned_prior: what leaves is predicted from what stays, as a Gaussian; else it is N(0, 1).
        base: density of z; the paper's is normal.
        dropout: of the hidden units of perceptrons over images, of which there are few for their
            dimension; vectors have none.
        unlabelled: share of labels hidden in training, so that p(x) is learnt beside p(x given y).
        dequantisation: noise on grey levels behind the codec `grid`: uniform, or learnt by a flow.
    """

    training_defaults: ClassVar[dict[str, Any]] = {
        "lr": 2e-3, "warmup": 20, "betas": (0.9, 0.999), "clip": 10.0, "ema": 0.998,
    }  # fmt: skip

    def __init__(
        self,
        space: Space,
        *,
        width: Count = 128,
        steps: Count = 8,
        scales: Count = 3,
        depth: Count = 2,
        bound: Positive = 2.0,
        learned_prior: bool = True,
        base: BaseName = "normal",
        dropout: Share = 0.2,
        unlabelled: Share = 0.1,
        dequantisation: Dequantisation = "variational",
    ) -> None:
        context, affine = width if space.condition else 0, ScaleShift(bound)

        def net(inputs: int, outputs: int) -> _Net:
            return _Net(inputs, outputs, width // 8, context)

        def leave(C: int) -> Coupling:
            """Half of C channels from the other half."""
            return Coupling(affine, net(C // 2, C - C // 2), C // 2)

        def step(C: int, coupling: Transform) -> Compose:  # Table 1
            return Compose(actnorm((C, 1, 1)), *([Invertible1x1(C)] if C > 1 else []), coupling)

        blocks: list[Transform] = []
        if not convolutional(space):
            D = space.dims
            p = dropout if space.is_image else 0.0
            for _ in range(steps if D > 1 else 0):
                half = flat_coupling(affine, D, D // 2, True, width, depth, context=context, dropout=p)
                mix = Invertible1x1(D, start="permutation" if space.is_image else "rotation")
                blocks.append(Compose(actnorm((D,)), mix, half))
            blocks = [Through(Flatten(space.shape), block) for block in [*blocks, actnorm((D,))]]
        elif L := halvings(space.shape, scales):
            for scale in range(L):
                C = 4 * scaled_shape(space.shape, scale)[0]
                parts: list[Transform] = [step(C, leave(C)) for _ in range(steps)]
                if learned_prior:
                    parts.append(leave(C))
                blocks.append(at_scale(scale, Through(Squeeze(), Compose(*parts, actnorm((C, 1, 1))))))
        else:
            C = space.shape[0]
            masks = [checkerboard(space.shape, k % 2) for k in range(steps)]
            blocks = [step(C, MaskedCoupling(affine, net(C, C), b)) for b in masks]
        super().__init__(
            space, blocks, width=width, base=base, unlabelled=unlabelled, dequantisation=dequantisation
        )


class _Net(nn.Module):
    """Convolutions 3x3, 1x1 and 3x3, the last zero at first (Section 3.3): `(B, C, H, W)` to `(2, C', H, W, B)`.

    The context enters the first hidden layer.
    """

    def __init__(self, inputs: int, outputs: int, width: int, context: int) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(inputs, width, 3, padding=1), nn.Conv2d(width, width, 1)
        self.c = zeroed(nn.Conv2d(width, 2 * outputs, 3, padding=1))
        self.told = Linear(context, width) if context else None

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        h = self.a(x)
        if self.told is not None and context is not None:
            h = h + self.told(context)[:, :, None, None]
        return images_last(self.c(relu(self.b(relu(h)))), 2)
