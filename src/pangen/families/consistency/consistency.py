"""Consistency model: from any point of a path between noise and data straight to its end.

Song et al. 2023: the model, its sampling in several steps, and distillation, where the path is that of
a trained diffusion model. Without it the path is a line from an example to noise: from scratch (Song and
Dhariwal 2024), or from a diffusion model's weights (Geng et al. 2024). In discrete time f has to agree at
two levels of a path, in continuous time it has no slope along it (Lu and Song 2024).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor

from pangen.capabilities import HasDenoiser
from pangen.errors import PangenError
from pangen.families.consistency.boundary import TEACHERS, boundary, moved
from pangen.families.consistency.continuous import Continuous
from pangen.families.consistency.discrete import DISCRETE
from pangen.families.consistency.distillation import Teacher, seen
from pangen.families.consistency.levels import HIGHEST, LOWEST
from pangen.model import GenerativeModel
from pangen.networks.labels import hide
from pangen.networks.preconditioning import Preconditioned
from pangen.networks.roles import Architecture, Backbone
from pangen.networks.rounding import Precision
from pangen.samplers.diffusion import Multistep
from pangen.samplers.noise import spaced
from pangen.settings import Count, Natural, Share
from pangen.space import Batch, Loss, Progress, Space


class Consistency(GenerativeModel):
    """f(x, sigma): the same for all points of one probability-flow path, and x itself at its end.

    Args:
        width: units of the network.
        network: auto, a perceptron or a U-Net as the space has it; or dit, a Transformer over patches.
        patch: side of the pieces that are one place to the network; 0: what suits the size of examples.
        depth: blocks, of a U-Net at each size; 0: perceptrons 4, U-Nets 1, Transformers 6.
        precision: bfloat16 or float16 rounds the factors of the network's products in training.
        method: scratch, without a teacher; distil, along a teacher's path; tune, from its weights alone.
        teacher: folder of the run of a diffusion model; sampling does not need it.
        target: what the network predicts: beside a narrow skip, or v or a velocity as a teacher's does; auto: narrow, or
            v in continuous time.
        time: discrete, between two noise levels, or continuous, by the derivative.
        coarsest: intervals of discrete time when training starts; 0: as the method's paper.
        finest: the same when it ends; the number doubles at equal intervals of time.
        unlabelled: share of labels hidden in training, so that p(x) is learnt beside p(x given y).
    """

    training_defaults: ClassVar = {"lr": 4e-3, "ema": 0.995}
    selection = "samples"

    def __init__(
        self,
        space: Space,
        *,
        width: Count = 128,
        network: Backbone = "auto",
        patch: Natural = 0,
        depth: Natural = 0,
        precision: Precision = "full",
        method: Literal["scratch", "distil", "tune"] = "scratch",
        teacher: str = "",
        target: Literal["auto", "narrow", "v", "velocity"] = "auto",
        time: Literal["discrete", "continuous"] = "discrete",
        coarsest: Natural = 0,
        finest: Natural = 0,
        unlabelled: Share = 0.1,
    ) -> None:
        super().__init__(space)
        if (method == "scratch") != (not teacher):
            raise PangenError(
                "the method scratch has no teacher: leave out model.teacher, or take tune or distil."
                if teacher
                else f"the method {method} needs the run of a diffusion model: set model.teacher to its folder."
            )
        self.method, self.teacher, self.unlabelled = method, teacher, unlabelled
        self.target = target if target != "auto" else "narrow" if time == "discrete" else "v"
        cut: dict[str, Any] = {k: v for k, v in {"coarsest": coarsest, "finest": finest}.items() if v}
        if cut and time == "continuous":
            raise PangenError(
                f"continuous time is not cut: leave out {' and '.join(f'model.{k}' for k in cut)}."
            )
        if precision != "full" and time == "continuous":
            raise PangenError(
                "continuous time needs derivatives, which do not bear rounding: leave out model.precision."
            )
        self.objective = Continuous() if time == "continuous" else replace(DISCRETE[method], **cut)
        coefficients = boundary if self.target == "narrow" else partial(moved, TEACHERS[self.target])
        made = Architecture(width, network, patch, depth, precision)
        self.net = Preconditioned(space, made, coefficients, zero=False)  # else all noise maps to the mean
        self.taught: Teacher | None = None

    def initialize(self, batch: Batch) -> None:
        self.net.measure(batch.x)

    @classmethod
    def like(cls, teacher: GenerativeModel) -> dict[str, Any]:
        """Settings with which the network is that of a teacher; none where it cannot be."""
        net = getattr(teacher, "net", None)
        if not isinstance(net, Preconditioned):
            return {}
        known = [t for t, c in TEACHERS.items() if net.coefficients is c]
        return {**net.architecture.settings, "target": known[0]} if known else {}

    def learn_from(self, teacher: GenerativeModel) -> None:
        if not isinstance(teacher, HasDenoiser) or isinstance(teacher, Consistency):
            raise PangenError(f"{self.teacher} holds no diffusion model, which alone can teach this one.")
        needed, own = self.like(teacher), {**self.net.architecture.settings, "target": self.target}
        if needed == own:
            self.net.load_state_dict(cast("Preconditioned", teacher.net).state_dict())
        elif self.method == "tune":
            advice = " and ".join(f"model.{k} = {v}" for k, v in needed.items() if v != own[k])
            raise PangenError(
                f"tuning starts from the weights of {self.teacher}, which do not fit: take {advice or 'model.method = distil'}."
            )
        if self.method == "distil":
            self.taught = seen(teacher, self.net)

    @property
    def sigma_min(self) -> float:
        return LOWEST * float(self.net.scale)

    @property
    def sigma_max(self) -> float:
        return HIGHEST * float(self.net.scale)

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        x0 = self.net.unit(batch.x)
        y = hide(batch.y, self.space, self.unlabelled if self.training else 0.0)
        if self.method == "distil" and self.taught is None:
            raise PangenError(f"distillation goes on only beside its teacher {self.teacher}.")
        teacher = partial(self.taught, y=y) if self.taught else None
        return Loss(
            self.objective(partial(self.net.estimate, y=y), x0, torch.randn_like(x0), teacher, progress)
        )

    def denoise(self, x: Tensor, sigma: Tensor, y: Tensor | None = None) -> Tensor:
        """The end of the path through `x` at `sigma`: an example, not a mean of examples."""
        return self.net.denoise(x, sigma, y)

    def sampler(self, steps: int = 1) -> Multistep:
        """`steps` jumps, each but the first from an example made noisy again."""
        return Multistep(tuple(spaced(steps + 1, self.sigma_min, self.sigma_max)[:-1].tolist()))

    def trajectory(
        self, n: int, y: Tensor | None = None, *, generator: torch.Generator, steps: int = 1
    ) -> Iterator[Tensor]:
        """The example after each of `steps` jumps."""
        noise = torch.randn(n, *self.space.shape, generator=generator, device=self.device)
        for x in self.sampler(steps)(self, noise, y, generator=generator):
            if self.space.kind == "binary":
                x = (x > 0.5).to(x)
            yield x.clamp(-1, 1) if self.space.is_grid else x
