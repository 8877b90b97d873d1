"""StyleGAN: codes that set the scale of every layer's channels.

Karras et al. 2019 (mapping, mixing, noise), 2020b (demodulation, skips, path lengths, lazy penalties), and
2021 (`alias_free`: layers that treat their inputs as continuous signals).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from pangen.errors import PangenError
from pangen.families.adversarial.adversarial import Adversarial, Augmentation
from pangen.families.adversarial.games import Penalties
from pangen.networks.alias_free import AliasFreeSynthesis
from pangen.networks.rounding import Precision
from pangen.networks.style import Mapping, StyleCritic, Synthesis
from pangen.samplers.interpolation import straight
from pangen.settings import Count, NonNegative, Share
from pangen.space import Loss, Progress, Space

CENTRE = 4096
"""Codes whose mean is the centre."""
PATH_EVERY, PATH_SHARE, PATH_DECAY = 4, 2, 0.01
"""Steps between penalties of path lengths, one in so many examples they take, and how fast their mean moves."""


class StyleGAN(Adversarial):
    """The non-saturating game with lazy R1; images alone. Codes are of W, w = f(z, y).

    Args:
        width: images have a sixteenth as many channels at full size.
        noise: size of z, of w and of the layers between.
        mapping: layers from z to w.
        alias_free: the third version's generator, in which what moves moves whole: filtered rectifiers, waves for
            a start, neither noise nor mixing.
        mixing: share of training samples that take a second code from some layer on.
        gamma: weight of half the critic's squared slope at real examples.
        every: steps from one such penalty to the next, which then weighs as much more.
        path: weight of the penalty of unequal path lengths; the paper's is 2.
        augment: whether the critic sees images changed: none; fixed, mostly; adaptive, as often as it knows
            the real ones too well.
        precision: bfloat16 or float16 rounds the factors of the networks' products in training.
        unlabelled: share of labels hidden in training, so that p(x) is learnt beside p(x given y).
    """

    training_defaults: ClassVar = {
        "lr": 2.5e-3, "betas": (0.0, 0.99), "schedule": "constant", "ema": 0.999, "clip": None,
    }  # fmt: skip

    running = ("a",)

    def __init__(
        self,
        space: Space,
        *,
        width: Count = 256,
        noise: Count = 64,
        mapping: Count = 2,
        alias_free: bool = False,
        mixing: Share = 0.9,
        gamma: NonNegative = 0.3,
        every: Count = 16,
        path: NonNegative = 0.0,
        augment: Augmentation = "none",
        precision: Precision = "full",
        unlabelled: Share = 0.1,
    ) -> None:
        if not space.is_image:
            raise PangenError("stylegan makes images, and this data has none; take gan or r3gan.")
        super().__init__(
            space, noise=noise, game="non-saturating", penalties=Penalties(gamma, every=every), augment=augment,
            precision=precision, unlabelled=unlabelled,
        )  # fmt: skip
        self.alias_free, self.mixing, self.path = alias_free, mixing, path
        self.f = Mapping(space, noise, mapping)
        self.generator = (AliasFreeSynthesis if alias_free else Synthesis)(space, noise, width)
        self.discriminator = StyleCritic(space, width)
        self.mean_w = nn.Buffer(torch.zeros(noise))
        self.a = nn.Buffer(torch.zeros(()))

    # -- codes ----------------------------------------------------------------------------------

    def map(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.f(z, y)

    @property
    def centre(self) -> Tensor:
        """E f(z, y) (Karras et al. 2019, Appendix B)."""
        return self.mean_w

    @torch.no_grad()
    def calibrate(self, generator: torch.Generator, *, thorough: bool = True) -> None:
        y = None
        if self.space.classes:
            y = torch.arange(CENTRE, device=self.device) % self.space.classes
        self.mean_w.copy_(self.map(self.draw(CENTRE, generator), y).mean(0))

    def interpolate(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        return straight(a, b, t)

    # -- images ---------------------------------------------------------------------------------

    def synthesise(self, w: Tensor, y: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """Noise is drawn in training and for samples, so that of a code alone there is one image."""
        if self.alias_free:
            return self.generator(w)
        noisy = self.training or generator is not None
        draw = partial(torch.randn, device=w.device, generator=generator)
        return self.generator(self.mixed(w, y) if self.training else w, draw if noisy else None)

    def mixed(self, w: Tensor, y: Tensor | None) -> Tensor:
        """Codes `(B, layers, noise)`, another's from some layer on (Karras et al. 2019, Section 3.1)."""
        n, layers = len(w), cast("Synthesis", self.generator).layers
        other = self.map(self.draw(n), y)
        first = torch.randint(1, max(layers, 2), (n, 1), device=w.device)
        mixes = torch.rand(n, 1, device=w.device) < self.mixing
        switched = mixes & (torch.arange(layers, device=w.device) >= first)
        return torch.where(switched[:, :, None], other[:, None], w[:, None])

    # -- path lengths ---------------------------------------------------------------------------

    def generator_loss(self, real: Tensor, fake: Tensor, y: Tensor | None, progress: Progress) -> Loss:
        loss = super().generator_loss(real, fake, y, progress)
        if self.path == 0 or progress.step % PATH_EVERY:
            return loss
        n = max(len(real) // PATH_SHARE, 1)
        w = self.map(self.draw(n), None if y is None else y[:n])
        lengths = path_lengths(self.generator, w)
        self.a.lerp_(lengths.detach().mean(), PATH_DECAY)
        penalty = (lengths - self.a).square().mean()  # Karras et al. 2020b, Eq. 4
        return Loss(loss.total + PATH_EVERY * self.path * penalty, {**loss.terms, "path": penalty})


def path_lengths(g: Callable[[Tensor], Tensor], w: Tensor) -> Tensor:
    """How far images go where codes `(B, noise)` go: |J_w^T y| `(B,)`, y ~ N(0, I) (Eq. 4), over the root of the pixels."""
    x = g(w)
    y = torch.randn_like(x) / math.sqrt(x[0, 0].numel())
    (pulled,) = torch.autograd.grad((x * y).sum(), w, create_graph=True)
    return pulled.norm(dim=1)
