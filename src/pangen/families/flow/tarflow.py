"""TarFlow: an autoregressive flow whose blocks are causal Transformers over patches (Zhai et al. 2024).

An image is a row of patches, a vector a row of numbers; each block goes through it in the direction
opposite to the last block's. Departures: the first token is moved as well, by what the class alone
tells; log-scales are bounded; the data are standardised first. Dequantisation is the codec's, and
stands where the paper, for samples more than for likelihood, adds normal noise and removes it again.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import pad

from pangen.families.flow.flow import FlowModel
from pangen.networks.bijections import Rearrangement, Through, Transform, actnorm
from pangen.networks.linear import Linear
from pangen.networks.mlp import zeroed
from pangen.networks.transformer import CausalTransformer, check_heads
from pangen.settings import Count, Positive, Share
from pangen.space import Space

FEWEST = 2
"""Patches on each side of an image, at least, where it has that many pixels."""


class TarFlow(FlowModel):
    """log p(x) = log N(z; 0, I) - sum of alpha over blocks, tokens and their entries (Eqs. 3 to 6).

    Args:
        channels: of the residual stream, a multiple of `heads`; not more for larger data, whose tokens
            are more.
        blocks: how many times the tokens are gone through, in alternating directions.
        depth: layers of a block's Transformer.
        heads: of attention.
        patch: largest side of a patch; on each axis the largest number up to it that divides the image.
        bound: the largest log-scale of a block.
        dropout: in Transformers over images, of which there are few for their dimension.
        unlabelled: share of labels hidden in training, so that p(x) is learnt beside p(x given y).
    """

    training_defaults: ClassVar[dict[str, Any]] = {
        "lr": 4e-3, "batch": 64, "warmup": 20, "clip": 10.0, "ema": 0.998,
    }  # fmt: skip

    def __init__(
        self,
        space: Space,
        *,
        channels: Count = 128,
        blocks: Count = 4,
        depth: Count = 1,
        heads: Count = 4,
        patch: Count = 4,
        bound: Positive = 2.0,
        dropout: Share = 0.1,
        unlabelled: Share = 0.1,
    ) -> None:
        check_heads(channels, heads, "model.channels")
        context = channels if space.condition else 0
        patches = Patches(space.shape, patch)

        def block(k: int) -> Through:
            net = CausalTransformer(channels, depth, heads, dropout if space.is_image else 0.0)
            tokens = patches.tokens, patches.size
            return Through(patches, CausalAffine(net, tokens, channels, context, bound, reverse=bool(k % 2)))

        parts = [actnorm(space.shape), *map(block, range(blocks))]
        super().__init__(space, parts, width=channels, base="normal", unlabelled=unlabelled)


class CausalAffine(Transform):
    """z_t = (x_t - mu(x_<t)) exp(-alpha(x_<t)) over tokens `(B, T, size)`; `reverse`: from the last."""

    def __init__(
        self,
        net: CausalTransformer,
        tokens: tuple[int, int],
        width: int,
        context: int,
        bound: float,
        *,
        reverse: bool,
    ) -> None:
        super().__init__()
        self.net, self.bound, self.reverse = net, bound, reverse
        self.embed = Linear(tokens[1], width)
        self.position = nn.Parameter(0.02 * torch.randn(tokens[0], width))
        self.told = Linear(context, width) if context else None
        self.head = zeroed(Linear(width, 2 * tokens[1]))

    def inputs(self, x: Tensor, context: Tensor | None, first: int = 0) -> Tensor:
        """What tokens first .. t are predicted from, given x `(B, t, size)`; the first from the class alone."""
        seen = x[
            :, max(first - 1, 0) :
        ].contiguous()  # else torch rounds by whether weights are being trained
        before = pad(self.embed(seen), (0, 0, 0 if first else 1, 0))
        h = before + self.position[first : x.shape[1] + 1]
        return h if self.told is None else h + self.told(context)[:, None]

    def mu_alpha(self, h: Tensor) -> tuple[Tensor, Tensor]:
        mu, alpha = self.head(h).chunk(2, -1)
        return mu, self.bound * torch.tanh(alpha)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = x.flip(1) if self.reverse else x
        mu, alpha = self.mu_alpha(self.net(self.inputs(x[:, :-1], context)))
        z = (x - mu) * (-alpha).exp()  # Eq. 4
        return z.flip(1) if self.reverse else z, -alpha.flatten(1).sum(1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Token after token (Eq. 5), with the keys and values of those before."""
        z = z.flip(1) if self.reverse else z
        x, cache = z[:, :0], self.net.new_cache(len(z), z.shape[1])
        for t in range(z.shape[1]):
            mu, alpha = self.mu_alpha(self.net(self.inputs(x, context, t), cache))
            x = torch.cat([x, z[:, t : t + 1] * alpha.exp() + mu], 1)
        return x.flip(1) if self.reverse else x


class Patches(Rearrangement):
    """An image as the row `(B, T, size)` of its patches, a vector as that of its numbers."""

    def __init__(self, shape: tuple[int, ...], most: int) -> None:
        super().__init__()
        self.image = len(shape) == 3
        self.tokens, self.size = math.prod(shape), 1
        if self.image:
            C, H, W = shape
            p, q = side(H, most), side(W, most)
            self.tokens, self.size = H * W // (p * q), C * p * q
            self.sizes = {"p": p, "q": q, "h": H // p, "w": W // q}

    def arrange(self, x: Tensor) -> Tensor:
        return (
            rearrange(x, "b c (h p) (w q) -> b (h w) (c p q)", **self.sizes) if self.image else x[..., None]
        )

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return rearrange(z, "b (h w) (c p q) -> b c (h p) (w q)", **self.sizes) if self.image else z[..., 0]


def side(length: int, most: int) -> int:
    """The largest divisor of a side, at most `most`, that leaves enough patches."""
    return max(p for p in range(1, most + 1) if length % p == 0 and (p == 1 or length // p >= FEWEST))
