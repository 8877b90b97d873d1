"""What adversarial models share: the turns of the game, samples, and codes found by search."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from pangen.families.adversarial.games import GAMES, Name, Penalties
from pangen.model import GenerativeModel
from pangen.networks.augment import Augment
from pangen.networks.labels import hide
from pangen.networks.rounding import Precision, rounded
from pangen.samplers.interpolation import spherical
from pangen.samplers.inversion import nearest_codes
from pangen.space import Batch, Loss, Progress, Space

Augmentation = Literal["none", "fixed", "adaptive"]
STARTS = 16
"""Codes among which the search for that of an example begins."""


class Adversarial(GenerativeModel):
    """x = G(w, y), w = map(z, y), z ~ N(0, I), and a critic D(x, y), whose logit is large where x looks real.

    A model builds `generator`, codes and labels to `(B, *shape)` without bounds, and `discriminator`, examples
    and labels to logits `(B,)`. There is no `log_prob`: an image of the codes has no volume.

    Args:
        noise: size of z.
        game: by name, in `games.GAMES`; it says what the next two are where they are None.
        penalties: what the critic pays for its slope.
        critic_steps: turns of the critic for one of the generator, each with its part of the batch.
        pace: the generator's learning rate over the critic's (Heusel et al. 2017).
        augment: what the critic sees of images: themselves; changed; or the more changed, the surer it is.
        precision: bfloat16 or float16 rounds the factors of the networks' products in training.
        unlabelled: share of labels hidden in training, so that p(x) is learnt beside p(x given y).
    """

    training_defaults: ClassVar = {
        "lr": 2e-3, "betas": (0.0, 0.99), "schedule": "constant", "ema": 0.999, "clip": None,
    }  # fmt: skip
    selection = "samples"
    generator: nn.Module
    discriminator: nn.Module

    def __init__(
        self,
        space: Space,
        *,
        noise: int,
        game: Name,
        penalties: Penalties | None = None,
        critic_steps: int | None = None,
        pace: float = 1.0,
        augment: Augmentation = "none",
        precision: Precision = "full",
        unlabelled: float = 0.1,
    ) -> None:
        super().__init__(space)
        self.noise, self.unlabelled, self.game = noise, unlabelled, GAMES[game]
        self.penalties = self.game.penalties if penalties is None else penalties
        self.critic_steps, self.paces = critic_steps or self.game.critic_steps, {"generator": pace}
        self.augment = None if augment == "none" else Augment(space, adaptive=augment == "adaptive")
        self.precision, self.latent_space = precision, Space("real", (noise,))

    # -- the two networks -----------------------------------------------------------------------

    def map(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Noise `(B, noise)` to codes `(B, *latent_space.shape)`."""
        return z

    @property
    def centre(self) -> Tensor | float:
        """The mean code."""
        return 0.0

    def generate(
        self, w: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Codes to examples, bits as probabilities; `generator` feeds what else is drawn on the way."""
        with rounded(self, w):
            x = self.synthesise(w, y, generator).to(w.dtype)
        return x.sigmoid() if self.space.kind == "binary" else x.tanh() if self.space.is_grid else x

    def synthesise(self, w: Tensor, y: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """Codes to examples without bounds."""
        return self.generator(w, y)

    def critic(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Logit `(B,)`: large where `x` looks real."""
        with rounded(self, x):
            return self.discriminator(x, y).to(x.dtype)

    # -- learning -------------------------------------------------------------------------------

    def players(self) -> dict[str, list[nn.Parameter]]:
        critics = {id(p): p for p in self.discriminator.parameters()}
        others = [p for p in self.parameters() if id(p) not in critics]
        return {"critic": list(critics.values()), "generator": others}

    def steps(self, batch: Batch, progress: Progress) -> Iterator[tuple[str, Loss]]:
        turns = min(self.critic_steps, len(batch.x))
        ys = [None] * turns if batch.y is None else batch.y.chunk(turns)
        for x, y in zip(batch.x.chunk(turns), ys, strict=False):
            y = hide(y, self.space, self.unlabelled)
            fake = self.generate(self.map(self.draw(len(x)), y), y)
            yield "critic", self.critic_loss(x.detach(), fake.detach(), y, progress)
        yield "generator", self.generator_loss(x, fake, y, progress)  # the last fakes, seen by the new critic

    def critic_loss(self, real: Tensor, fake: Tensor, y: Tensor | None, progress: Progress) -> Loss:
        due = self.penalties.due(progress)
        real.requires_grad_(due and self.penalties.r1 > 0)
        fake.requires_grad_(due and self.penalties.r2 > 0)
        d_real, d_fake = self.seen(real, y), self.seen(fake, y)
        if self.augment is not None:
            self.augment.adapt(d_real.detach(), progress)
        loss = total = self.game.critic(d_real, d_fake)
        terms = {"loss": loss, "D(x)": d_real.sigmoid().mean(), "D(G(z))": d_fake.sigmoid().mean()}
        if due:
            terms["penalty"] = self.penalties(lambda x: self.seen(x, y), real, fake, d_real, d_fake)
            total = loss + self.penalties.weight(progress) * terms["penalty"]
        return Loss(total, terms)

    def generator_loss(self, real: Tensor, fake: Tensor, y: Tensor | None, progress: Progress) -> Loss:
        with torch.no_grad():
            d_real = self.seen(real, y)
        d_fake = self.seen(fake, y)
        return Loss(self.game.generator(d_real, d_fake), {"D(G(z))": d_fake.sigmoid().mean()})

    def seen(self, x: Tensor, y: Tensor | None) -> Tensor:
        """The critic's logits of examples as training shows them."""
        return self.critic(x if self.augment is None else self.augment(x), y)

    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """z."""
        return torch.randn(n, self.noise, generator=generator, device=self.device)

    # -- samples and codes ----------------------------------------------------------------------

    def trajectory(
        self, n: int, y: Tensor | None = None, *, generator: torch.Generator, truncation: float = 1.0
    ) -> Iterator[Tensor]:
        """`truncation` below 1 draws codes to their mean: fewer kinds of samples, more of them good."""
        w = self.map(self.draw(n, generator), y)
        x = self.generate(self.centre + truncation * (w - self.centre), y, generator=generator)
        yield x.round() if self.space.kind == "binary" else x

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The code whose example is nearest to x, as far as a search finds it."""
        z = self.draw(STARTS, torch.Generator(self.device).manual_seed(0))
        return nearest_codes(self.decode, x, y, self.map(z))

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.generate(z, y)

    def interpolate(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        return spherical(a, b, t)
