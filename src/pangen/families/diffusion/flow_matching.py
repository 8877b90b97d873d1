"""Flow matching: a straight line from each example to its noise, and the mean velocity at each point.

Lipman et al. 2023 with optimal-transport paths, which are Liu et al. 2023's rectified flow:
x_t = (1 - t) x0 + t e has the velocity e - x0. Over 1 - t it is x0 + sigma e with sigma = t / (1 - t):
diffusion, with another network output and another law of noise levels. Esser et al. 2024 draw t from
a logit-normal law; Tong et al. 2024 pair examples and noise so that lines of a batch do not cross, and
Liu et al. pair noise with where a trained model takes it, along paths that never cross: a reflow.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, Literal

from pangen.errors import PangenError
from pangen.families.diffusion.continuous import Continuous
from pangen.families.diffusion.denoising import Denoising
from pangen.model import GenerativeModel
from pangen.networks.preconditioning import FLOW
from pangen.networks.roles import Architecture, Backbone
from pangen.networks.rounding import Rounding
from pangen.samplers.coupling import Coupling, independent, optimal, reflow, untaught
from pangen.samplers.noise import Schedule, log_normal, straight
from pangen.samplers.solvers import DPMSolver
from pangen.settings import Count, Natural, Share
from pangen.space import Space

LOWEST, HIGHEST = 0.01, 1000.0
"""Ends of sigma = t / (1 - t): t from 0.01 to 0.999."""
TIMES: dict[str, Schedule] = {"uniform": straight, "logit-normal": partial(log_normal, mean=0.0, std=1.0)}
COUPLINGS: dict[str, Coupling] = {"independent": independent, "optimal": optimal, "reflow": untaught}


class FlowMatching(Continuous):
    """v(x_t, t) tends to E[e - x0 given x_t], Lipman et al. 2023, Eq. 23.

    Args:
        width: units of the network.
        network: auto, a perceptron or a U-Net as the space has it; or dit, a Transformer over patches.
        patch: side of the pieces that are one place to the network; 0: what suits the size of examples.
        depth: blocks, of a U-Net at each size; 0: perceptrons 4, U-Nets 1, Transformers 6.
        precision: bfloat16 or float16 rounds factors of the network's products in training; auto, where a U-Net gains by it.
        time: how t is distributed in training: uniform or logit-normal.
        coupling: of noise and examples in training: independent; optimal for straighter paths; or reflow, of noise
            and where a teacher takes it, for the straightest.
        teacher: of a reflow, the folder of a diffusion model's run; sampling does not need it.
        path: evaluations of the teacher for each pair of a reflow.
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
        time: Literal["uniform", "logit-normal"] = "uniform",
        coupling: Literal["independent", "optimal", "reflow"] = "independent",
        teacher: str = "",
        path: Count = 24,
        steps: Count = 18,
        exact: Natural = 8,
        unlabelled: Share = 0.1,
    ) -> None:
        super().__init__(
            space,
            network=Architecture(width, network, patch, depth, precision),
            exact=exact,
            prediction=FLOW,
            schedule=TIMES[time],
            ends=(LOWEST, HIGHEST),
            unlabelled=unlabelled,
            usual={"name": "heun", "steps": steps},
            couple=COUPLINGS[coupling],
        )
        if (coupling == "reflow") != bool(teacher):
            raise PangenError(
                f"the coupling {coupling} has no teacher: leave out model.teacher, or take reflow."
                if teacher
                else "a reflow needs the run of a diffusion model: set model.teacher to its folder."
            )
        self.teacher, self.path = teacher, path

    @classmethod
    def like(cls, teacher: GenerativeModel) -> dict[str, Any]:
        """Settings with which the network is that of a teacher; none where it cannot be."""
        return teacher.net.architecture.settings if isinstance(teacher, FlowMatching) else {}

    def learn_from(self, teacher: GenerativeModel) -> None:
        """Start at its weights, where they fit, and take its pairs from now on."""
        if not isinstance(teacher, Denoising):
            raise PangenError(
                f"{self.teacher} holds no diffusion model, whose paths alone can be made straight."
            )
        if self.like(teacher) == self.net.architecture.settings:
            self.net.load_state_dict(teacher.net.state_dict())
        self.couple = reflow(teacher, DPMSolver(self.path, order=3), self.net.unit)
