"""Flow matching: a straight line from each example to its noise, and the mean velocity at each point.

Lipman et al. 2023 with optimal-transport paths, which are Liu et al. 2023's rectified flow:
x_t = (1 - t) x0 + t e has the velocity e - x0. Over 1 - t it is x0 + sigma e with sigma = t / (1 - t):
diffusion, with another network output and another law of noise levels. Esser et al. 2024 draw t from
a logit-normal law; Tong et al. 2024 pair examples and noise so that lines of a batch do not cross.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, Literal

from pangen.families.diffusion.continuous import Continuous
from pangen.networks.preconditioning import predict_flow
from pangen.samplers.coupling import Coupling, independent, optimal
from pangen.samplers.noise import Schedule, log_normal, straight
from pangen.settings import Count, Natural, Share
from pangen.space import Space

LOWEST, HIGHEST = 0.01, 1000.0
"""Ends of sigma = t / (1 - t): t from 0.01 to 0.999."""
TIMES: dict[str, Schedule] = {"uniform": straight, "logit-normal": partial(log_normal, mean=0.0, std=1.0)}
COUPLINGS: dict[str, Coupling] = {"independent": independent, "optimal": optimal}


class FlowMatching(Continuous):
    """v(x_t, t) tends to E[e - x0 given x_t], Lipman et al. 2023, Eq. 23.

    Args:
        width: units of the network.
        time: how t is distributed in training: uniform or logit-normal.
        coupling: of noise and examples in training: independent, or optimal for straighter paths.
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
        time: Literal["uniform", "logit-normal"] = "uniform",
        coupling: Literal["independent", "optimal"] = "independent",
        steps: Count = 18,
        exact: Natural = 8,
        unlabelled: Share = 0.1,
    ) -> None:
        super().__init__(
            space,
            width=width,
            exact=exact,
            coefficients=predict_flow,
            schedule=TIMES[time],
            ends=(LOWEST, HIGHEST),
            unlabelled=unlabelled,
            usual={"name": "heun", "steps": steps},
            couple=COUPLINGS[coupling],
        )
