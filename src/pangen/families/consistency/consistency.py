"""Consistency model: from any point of a path between noise and data straight to its end.

Song et al. 2023: the model, its sampling in several steps, and distillation, where one step of a
trained diffusion model leads from the upper to the lower point of a pair. Without it, both points are
the same example with the same noise: from scratch (Song and Dhariwal 2024), or from a diffusion
model's weights (Geng et al. 2024). The distance is pseudo-Huber and the target the model itself, not
an average of its past (Song and Dhariwal 2024, Sections 3.2 and 3.3).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from pangen.capabilities import HasDenoiser
from pangen.errors import PangenError
from pangen.families.consistency.boundary import TEACHERS, boundary, moved
from pangen.families.consistency.distillation import Step, heun
from pangen.families.consistency.levels import HIGHEST, LOWEST, METHODS
from pangen.model import GenerativeModel
from pangen.networks.labels import hide
from pangen.networks.preconditioning import Preconditioned, column
from pangen.samplers.diffusion import Multistep
from pangen.samplers.noise import spaced
from pangen.settings import Count, Natural, Share
from pangen.space import Batch, Loss, Progress, Space


class Consistency(GenerativeModel):
    """f(x, sigma): the same for all points of one probability-flow path, and x itself at its end.

    Args:
        width: units of the network.
        method: scratch, without a teacher; distil, along a teacher's path; tune, from its weights alone.
        teacher: folder of the run of a diffusion model; sampling does not need it.
        target: what the network predicts: a narrow skip, or what a teacher's network does, v or velocity.
        coarsest: intervals into which the path is cut when training starts; 0: as the method's paper.
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
        method: Literal["scratch", "distil", "tune"] = "scratch",
        teacher: str = "",
        target: Literal["narrow", "v", "velocity"] = "narrow",
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
        self.method, self.teacher, self.target, self.unlabelled = method, teacher, target, unlabelled
        self.pairs = METHODS[method].pairs
        self.coarsest, self.finest = coarsest or METHODS[method].coarsest, finest or METHODS[method].finest
        coefficients = partial(moved, TEACHERS[target]) if target in TEACHERS else boundary
        self.net = Preconditioned(space, width, coefficients, zero=False)  # else all noise maps to the mean
        self.along: Step | None = None

    def initialize(self, batch: Batch) -> None:
        self.net.measure(batch.x)

    @classmethod
    def like(cls, teacher: GenerativeModel) -> dict[str, Any]:
        """Settings with which the network is that of a teacher; none where it cannot be."""
        net = getattr(teacher, "net", None)
        for target, coefficients in TEACHERS.items():
            if isinstance(net, Preconditioned) and net.coefficients is coefficients:
                return {"width": net.width, "target": target}
        return {}

    def learn_from(self, teacher: GenerativeModel) -> None:
        if not isinstance(teacher, HasDenoiser) or isinstance(teacher, Consistency):
            raise PangenError(f"{self.teacher} holds no diffusion model, which alone can teach this one.")
        needed = self.like(teacher)
        if needed == {"width": self.net.width, "target": self.target}:
            self.net.load_state_dict(teacher.net.state_dict())
        elif self.method == "tune":
            advice = " and ".join(f"model.{name} = {value}" for name, value in needed.items())
            raise PangenError(
                f"tuning starts from the weights of {self.teacher}, which do not fit: take {advice or 'model.method = distil'}."
            )
        self.along = heun(teacher, self.net)

    @property
    def sigma_min(self) -> float:
        return LOWEST * float(self.net.scale)

    @property
    def sigma_max(self) -> float:
        return HIGHEST * float(self.net.scale)

    def intervals(self, progress: Progress) -> int:
        """N(k) - 1, Song and Dhariwal 2024, Section 3.4; q^a of Geng et al. 2024 with q = 2."""
        stages = math.log2(self.finest / self.coarsest) + 1
        return min(self.coarsest * 2 ** int(progress.fraction * stages), self.finest)

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        x0 = self.net.unit(batch.x)
        lower, upper = self.pairs(self.intervals(progress), x0)
        e, y = torch.randn_like(x0), hide(batch.y, self.space, self.unlabelled if self.training else 0.0)
        x = x0 + column(upper, x0) * e
        with torch.no_grad():
            distil = self.method == "distil"
            below = self.below(x, upper, lower, y) if distil else x0 + column(lower, x0) * e
            target = self.net(below, lower, y)
        found = self.net(x, upper, y)
        c = 0.00054 * math.sqrt(self.space.dims)
        distance = ((found - target).square().flatten(1).sum(1) + c**2).sqrt() - c  # Eq. 8
        return Loss((distance / (upper - lower)).mean())

    def below(self, x: Tensor, upper: Tensor, lower: Tensor, y: Tensor | None) -> Tensor:
        """The point at the lower level of the teacher's path."""
        if self.along is None:
            raise PangenError(f"distillation goes on only beside its teacher {self.teacher}.")
        return self.along(x, upper, lower, y)

    def denoise(self, x: Tensor, sigma: Tensor, y: Tensor | None = None) -> Tensor:
        """The end of the path through `x` at `sigma`: an example, not a mean of examples."""
        return self.net.data(self.net(self.net.unit(x), sigma / self.net.scale, y))

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
