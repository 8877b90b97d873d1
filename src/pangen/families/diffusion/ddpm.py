"""Denoising diffusion: learn to remove noise of every level, then remove it level by level.

Ho et al. 2020 (L_simple, ancestral sampling), Song et al. 2021a (DDIM), Kingma et al. 2021 (the
bound in terms of sigma), Bao et al. 2022 (the variance of a step). Noise is added to a signal
that keeps its size, x_t = x0 + sigma_t e: the variance-preserving chain divided by sqrt(abar_t).
"""

from __future__ import annotations

from functools import reduce
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor

from pangen.families.diffusion.last_step import log_last
from pangen.families.diffusion.weighted import Weighted
from pangen.networks.preconditioning import EPS, X0, V
from pangen.networks.roles import Architecture, Backbone
from pangen.networks.rounding import Rounding
from pangen.samplers.noise import cosine, linear, posterior, sigmoid, spaced
from pangen.settings import Count, Natural, Share
from pangen.space import LogProb, Space

TARGETS = {"eps": EPS, "x0": X0, "v": V}
SCHEDULES = {"linear": linear, "cosine": cosine, "sigmoid": sigmoid}


class DDPM(Weighted):
    """x0 estimated from x_t; `log_prob` bounds the ancestral chain, one draw of the noise at each level.

    The loss is |target - prediction|^2: L_simple, Eq. 14. The last level of a sample is rounded, not drawn.

    Args:
        width: units of the network.
        network: auto, a perceptron or a U-Net as the space has it; or dit, a Transformer over patches.
        patch: side of the pieces that are one place to the network; 0: what suits the size of examples.
        depth: blocks, of a U-Net at each size; 0: perceptrons 4, U-Nets 1, Transformers 6.
        precision: bfloat16 or float16 rounds factors of the network's products in training; auto, where a U-Net gains by it.
        target: what the network predicts: the noise, the example, or v (Salimans and Ho 2022).
        schedule: how noise levels are distributed in training.
        chain: noise levels of the chain that is sampled and bounded.
        unlabelled: share of labels hidden in training, so that p(x) is learnt beside p(x given y).
    """

    training_defaults: ClassVar = {"lr": 6e-3, "ema": 0.995}

    def __init__(
        self,
        space: Space,
        *,
        width: Count = 128,
        network: Backbone = "auto",
        patch: Natural = 0,
        depth: Natural = 0,
        precision: Rounding = "auto",
        target: Literal["eps", "x0", "v"] = "v",
        schedule: Literal["linear", "cosine", "sigmoid"] = "cosine",
        chain: Count = 50,
        unlabelled: Share = 0.1,
    ) -> None:
        super().__init__(
            space,
            network=Architecture(width, network, patch, depth, precision),
            prediction=TARGETS[target],
            schedule=SCHEDULES[schedule],
            ends=(0.01, 50.0),
            unlabelled=unlabelled,
            usual={"name": "ancestral", "steps": chain},
        )
        self.chain = chain

    def log_prob(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> LogProb:
        def noisy(sigma: Tensor) -> Tensor:
            return x + sigma * torch.randn(x.shape, generator=generator, device=x.device)

        levels = self.rungs(self.chain).to(x.dtype).to(x.device)
        bound = [-x.square() / (2 * levels[0] ** 2)]  # -L_T: q(x_T given x0) against N(0, sigma_T^2)
        for sigma, lower in pairwise(levels):  # -L_t: Gaussians of different mean and variance
            estimate = self.denoise(noisy(sigma), sigma.expand(len(x)), y)
            variance = posterior(x, x, sigma, lower)[1]
            weight = (1 - (lower / sigma) ** 2) ** 2
            ratio = self.widening(sigma, lower)
            excess = weight * (x - estimate).square() / variance
            bound.append(-0.5 * (ratio.log() + (1 + excess) / ratio - 1))
        sigma = levels[-1]
        estimate = self.denoise(noisy(sigma), sigma.expand(len(x)), y)
        bound.append(log_last(self.space, x, estimate, self.error(sigma).sqrt()))  # -L_0
        return LogProb(reduce(torch.add, [term.flatten(1).sum(1) for term in bound]), "lower bound")

    def rungs(self, steps: int) -> Tensor:
        """Noise levels `(steps,)` of a chain, that fall."""
        return spaced(steps, self.sigma_min, self.sigma_max)

    def widening(self, sigma: Tensor, lower: Tensor) -> Tensor:
        """Of a step's variance by what the estimate errs (Bao et al. 2022): times `(*shape)`."""
        kept = (lower / sigma) ** 2
        return 1 + (1 - kept) * self.error(sigma) / lower**2
