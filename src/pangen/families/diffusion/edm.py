"""EDM: what diffusion models have in common, each choice made anew (Karras et al. 2022).

Table 1, last column: the preconditioning keeps inputs and targets of the network at variance 1, noise
levels are log-normal in training, their loss is that of the network's own output, and samples come by
Heun's method, to which churn adds noise. The paper's data has standard deviation 1/2, here it is 1.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, ClassVar

from pangen.families.diffusion.continuous import Continuous
from pangen.networks.preconditioning import V
from pangen.networks.roles import Architecture, Backbone
from pangen.networks.rounding import Rounding
from pangen.samplers.noise import log_normal
from pangen.settings import Count, Natural, Positive, Share
from pangen.space import Space

SIGMA_MIN, SIGMA_MAX = 0.002 / 0.5, 80 / 0.5
"""Of the paper, in standard deviations of the data."""


class EDM(Continuous):
    """D(x, sigma) = c_skip x + c_out F(c_in x, c_noise), Eq. 7.

    Args:
        width: units of the network.
        network: auto, a perceptron or a U-Net as the space has it; or dit, a Transformer over patches.
        patch: side of the pieces that are one place to the network; 0: what suits the size of examples.
        depth: blocks, of a U-Net at each size; 0: perceptrons 4, U-Nets 1, Transformers 6.
        precision: bfloat16 or float16 rounds factors of the network's products in training; auto, where a U-Net gains by it.
        median: of sigma in training, in standard deviations of the data; exp(-1.2) / 0.5 in the paper.
        p_std: standard deviation of log(sigma) in training.
        steps: noise levels of a sample, each but the last with two evaluations.
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
        median: Positive = 0.6,
        p_std: Positive = 1.2,
        steps: Count = 18,
        exact: Natural = 8,
        unlabelled: Share = 0.1,
    ) -> None:
        super().__init__(
            space,
            network=Architecture(width, network, patch, depth, precision),
            exact=exact,
            prediction=V,  # c_skip and c_out of Table 1, with data of variance 1
            schedule=partial(log_normal, mean=math.log(median), std=p_std),
            ends=(SIGMA_MIN, SIGMA_MAX),
            unlabelled=unlabelled,
            usual={"name": "heun", "steps": steps},
        )
