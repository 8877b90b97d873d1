"""VQ-VAE (van den Oord et al. 2017; Razavi et al. 2019): each example becomes a map of codes from a codebook.

z_q(x) = e_k, k = argmin_j |z_e(x) - e_j| (Eq. 2). The codes have no distribution of their own: a model fitted
to them afterwards, on `latents:RUN`, gives one, and with it samples and log p(x) >= log p(k) + log p(x given k).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from pangen.errors import PangenError
from pangen.likelihoods import Observation, Point, likelihood
from pangen.model import GenerativeModel
from pangen.networks.maps import MapDecoder, MapEncoder, grid_of
from pangen.networks.quantise import Quantised, Quantiser, perplexity, straight_through
from pangen.samplers.interpolation import straight
from pangen.settings import Count, NonNegative, Share
from pangen.space import Batch, Distribution, Loss, Progress, Space


class VQVAE(GenerativeModel):
    """An encoder to vectors, the codes nearest to them, and x given those by the likelihood of the space.

    A code is a row of tokens, position after position. An image has one position for 4 x 4 pixels.

    Args:
        width: of both networks.
        codes: in the codebook.
        dim: of a code; few, so that all come into use (Yu et al. 2022).
        slots: positions of a vector, which has no layout.
        residual: tokens at each position, each the code of what those before it left (Lee et al. 2022).
        beta: weight of the commitment term.
        decay: of the codebook's running means.
        dead: a code used less than this share of the mean is moved to where the encoder is.
        observation: p(x given z) by name, as `likelihoods.likelihood` has them; auto: the space's own.
    """

    training_defaults: ClassVar = {"lr": 2e-3, "clip": None, "ema": 0.99, "batch": 64}
    selection = "loss"

    def __init__(
        self,
        space: Space,
        *,
        width: Count = 128,
        codes: Count = 256,
        dim: Count = 4,
        slots: Count = 4,
        residual: Count = 1,
        beta: NonNegative = 0.25,
        decay: Share = 0.95,
        dead: Share = 0.1,
        observation: Observation = "auto",
    ) -> None:
        super().__init__(space)
        self.beta, self.grid = beta, grid_of(space, slots)
        self.latent_space = Space("tokens", (math.prod(self.grid) * residual,), levels=codes)
        self.likelihood = likelihood(space, observation)
        self.encoder = MapEncoder(space, dim, self.grid, width)
        self.quantiser = Quantiser(dim, codes, residual, decay=decay, dead=dead)
        self.decoder = MapDecoder(space, dim, self.grid, self.likelihood.channels, width)

    def vectors(self, x: Tensor) -> Tensor:
        """z_e(x) `(B, positions, dim)`."""
        return self.encoder(x).flatten(2).mT

    def decoded(self, z: Tensor) -> Distribution:
        """p(x given z_q) of vectors `(B, positions, dim)`."""
        return self.likelihood(self.decoder(z.mT.unflatten(2, self.grid)))

    def codes(self, tokens: Tensor) -> Tensor:
        """The codes `(B, positions, residual, dim)` of tokens."""
        return self.quantiser.codes(tokens.unflatten(1, (-1, self.quantiser.depth)))

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The tokens `(B, positions * residual)`."""
        return self.quantiser(self.vectors(x)).tokens.flatten(1)

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """The mean of x given the tokens `(B, *shape)`."""
        return self.p(z).mean

    def q(self, x: Tensor, y: Tensor | None = None) -> Point:
        """q(k given x), which is certain of one."""
        return Point(self.encode(x))

    def p(self, z: Tensor, y: Tensor | None = None) -> Distribution:
        """p(x given k)."""
        return self.decoded(self.codes(z).sum(2))

    def interpolate(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        """The tokens nearest to the straight way between the codes of each pair: `a` and `b` at its ends."""
        between = straight(self.codes(a), self.codes(b), t)
        levels = [self.quantiser.nearest(between[:, :, i], i) for i in range(self.quantiser.depth)]
        return torch.stack(levels, 2).flatten(1)

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        """-log p(x given z_q) in nats, and the price of an encoder that strays from its codes (Eq. 3)."""
        return self.objective(batch.x)[0]

    def objective(self, x: Tensor) -> tuple[Loss, Quantised]:
        """The loss, and the codes it was found with."""
        z_e = self.vectors(x)
        found = self.quantiser(z_e.detach())
        z_q = found.codes.sum(2)
        reconstruction = -self.decoded(straight_through(z_e, z_q)).log_prob(x).mean()
        # to all partial sums of codes (Lee et al. 2022, Eq. 7)
        commitment = (z_e[:, :, None] - found.codes.cumsum(2)).pow(2).sum((1, 2, 3)).mean()
        tokens, size = found.tokens.flatten(0, 1), self.quantiser.size
        log = {
            "reconstruction": reconstruction,
            "commitment": commitment,
            "perplexity": torch.stack([perplexity(k, size) for k in tokens.unbind(1)]).mean(),
            "used": torch.stack([k.bincount(minlength=size) > 0 for k in tokens.unbind(1)]).float().mean(),
        }
        return Loss(reconstruction + self.beta * commitment, log), found

    def steps(self, batch: Batch, progress: Progress) -> Iterator[tuple[str, Loss]]:
        """A step of both networks by gradient; that of the codebook, by running means, follows it."""
        loss, found = self.objective(batch.x)
        yield "model", loss
        self.quantiser.see(found)

    def after_step(self, progress: Progress) -> None:
        self.quantiser.move()

    @torch.no_grad()
    def initialize(self, batch: Batch) -> None:
        """The first codes are vectors that the encoder gives."""
        self.quantiser.initialize(self.vectors(batch.x))

    def trajectory(
        self, n: int, y: Tensor | None = None, *, generator: torch.Generator, **how: Any
    ) -> Iterator[Tensor]:
        raise PangenError(
            "a vqvae cannot be sampled: its codes have no distribution until a prior is fitted: "
            "`pangen fit gpt latents:RUN`."
        )
        yield  # an iterator, as every trajectory is
