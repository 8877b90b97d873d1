"""Score models: noise as a stochastic equation, undone by the gradient of log p (Song et al. 2021b).

Three processes: variance exploding, variance preserving, and sub-VP. In coordinates where the signal
keeps its size each is x = x0 + sigma(t) e, and they differ in sigma(t) alone. Denoising score matching
(Vincent 2011) learns the score. The network predicts what a Gaussian's score leaves open, as one that
predicted the score itself would err by a share of sigma where sigma is large.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import Tensor

from pangen.families.diffusion.continuous import Continuous
from pangen.networks.preconditioning import V, column
from pangen.networks.roles import Architecture, Backbone
from pangen.networks.rounding import Rounding
from pangen.samplers.noise import Schedule, geometric, linear, linear_sub
from pangen.settings import Count, Natural, Share
from pangen.space import Space

PROCESSES: dict[str, Schedule] = {"ve": geometric, "vp": linear, "subvp": linear_sub}


class Score(Continuous):
    """s(x, sigma) = (D(x, sigma) - x) / sigma^2 tends to the gradient of log p(x) at noise sigma.

    The loss is Eq. 7, lambda(t) the variance of the noise.

    Args:
        width: units of the network.
        network: auto, a perceptron or a U-Net as the space has it; or dit, a Transformer over patches.
        patch: side of the pieces that are one place to the network; 0: what suits the size of examples.
        depth: blocks, of a U-Net at each size; 0: perceptrons 4, U-Nets 1, Transformers 6.
        precision: bfloat16 or float16 rounds factors of the network's products in training; auto, where a U-Net gains by it.
        sde: the process, which decides how noise levels are distributed: ve, vp or subvp.
        steps: noise levels of a sample, each but the last with a step of the predictor and one of the corrector.
        exact: dimensions up to which a likelihood's trace is computed, not estimated.
        unlabelled: share of labels hidden in training, so that p(x) is learnt beside p(x given y).
    """

    training_defaults: ClassVar[dict[str, Any]] = {"lr": 6e-3, "ema": 0.995}

    def __init__(
        self,
        space: Space,
        *,
        width: Count = 128,
        network: Backbone = "auto",
        patch: Natural = 0,
        depth: Natural = 0,
        precision: Rounding = "auto",
        sde: Literal["ve", "vp", "subvp"] = "vp",
        steps: Count = 100,
        exact: Natural = 8,
        unlabelled: Share = 0.1,
    ) -> None:
        super().__init__(
            space,
            network=Architecture(width, network, patch, depth, precision),
            exact=exact,
            prediction=V,
            unit=lambda level: level,  # lambda |s - grad log p|^2 = |D - x0|^2 / sigma^2
            schedule=PROCESSES[sde],
            ends=(0.01, 50.0),
            unlabelled=unlabelled,
            usual={"name": "corrected", "steps": steps},
        )

    def score(self, x: Tensor, sigma: Tensor, y: Tensor | None = None) -> Tensor:
        """The gradient of log p at noise `sigma` `(B,)`."""
        return (self.denoise(x, sigma, y) - x) / column(sigma, x) ** 2
