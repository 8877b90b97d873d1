"""Averages of the weights: one that is followed through the training, and any that is wanted afterwards.

A power-function average weighs the weights of time tau by tau^gamma, so that its length grows with the
training (Karras et al. 2024, Sections 3.1 and 3.2). Of two of them snapshots are kept, and an average of
another length is the sum of snapshots whose profiles add up nearest to its own (Section 3.2, Appendix C).
Lengths are told by sigma_rel, the standard deviation of the profile over the time trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pangen.errors import PangenError
from pangen.files import make_folder, read_tensors, write_tensors
from pangen.training.sharded import is_spread, local, whole

KEPT = (0.05, 0.10)
"""sigma_rel of the averages that snapshots are taken of."""
SNAPSHOTS = "snapshots"
LONGEST = 12**-0.5
"""sigma_rel of the mean of all weights, gamma = 0."""
TOLERANCE = 0.1
"""Distance of a sum of profiles from the one it stands for, relative to that one's size, at most."""

Powers = dict[float, dict[str, Tensor]]
"""By sigma_rel, the average of each parameter by name."""


def sigma_rel_of(gamma: float) -> float:
    """The standard deviation of the density (gamma + 1) u^gamma on [0, 1]."""
    return (gamma + 1) ** 0.5 / ((gamma + 2) * (gamma + 3) ** 0.5)


@cache
def gamma_of(sigma_rel: float) -> float:
    """Its inverse: the largest root of (gamma + 2)^2 (gamma + 3) = (gamma + 1) / sigma_rel^2."""
    t = sigma_rel**-2
    return float(np.roots([1.0, 7.0, 16.0 - t, 12.0 - t]).real.max())


def beta(gamma: float, t: int) -> float:
    """What an average keeps of itself at step t = 1, 2, ...: step i then weighs (i / t)^(gamma + 1) less the
    same of i - 1, the profile's integral over it."""
    return (1 - 1 / t) ** (gamma + 1)


class Follower:
    """A moving average of a model's weights, in a copy of it.

    What both hold is looked up once: a walk through a model's parts takes longer than a small step.
    """

    def __init__(self, average: nn.Module, model: nn.Module) -> None:
        self.mine = [local(p.data) for p in average.parameters()]
        self.theirs: list[Tensor] = list(model.parameters())
        self.spread = any(map(is_spread, self.theirs))
        pairs = zip(average.buffers(), model.buffers(), strict=True)
        self.buffers = [(mine, other) for mine, other in pairs if mine.numel()]

    @torch.no_grad()
    def follow(self, decay: float, step: int) -> None:
        """Exponential, with the warm-up (1 + t) / (10 + t); buffers are copied."""
        theirs = list(map(local, self.theirs)) if self.spread else self.theirs
        _move(self.mine, theirs, min(decay, (1 + step) / (10 + step)))
        for mine, other in self.buffers:
            mine.copy_(other)


def start_powers(model: nn.Module) -> Powers:
    """Averages before the first step, which leaves nothing of what they start from."""
    return {s: {k: torch.zeros_like(p.data) for k, p in model.named_parameters()} for s in KEPT}


@torch.no_grad()
def follow(powers: Powers, model: nn.Module, t: int) -> None:
    """Take in the weights after step t = 1, 2, ..."""
    for sigma_rel, mine in powers.items():
        theirs = list(map(local, model.parameters()))
        _move(list(map(local, mine.values())), theirs, beta(gamma_of(sigma_rel), t))


def _move(mine: list[Tensor], theirs: list[Tensor], keep: float) -> None:
    if theirs:
        torch._foreach_lerp_(mine, theirs, 1 - keep)


def save_snapshot(run: Path | None, powers: Powers, model: nn.Module, step: int) -> None:
    """Both averages after a step, and what of the model is not averaged; the processes without a run help."""
    averaged = dict(model.named_parameters())
    rest = {f"rest/{k}": v for k, v in model.state_dict().items() if k not in averaged}
    tensors = {f"{s}/{k}": v for s, mine in powers.items() for k, v in mine.items()}
    tensors = whole(tensors | rest)
    if run is not None:
        write_tensors(make_folder(run / SNAPSHOTS) / f"{step}.safetensors", tensors)


@dataclass(frozen=True)
class Profile:
    """The weight of time in an average: (gamma + 1) tau^gamma / end^(gamma + 1) up to its end."""

    sigma_rel: float
    end: float

    def dot(self, other: Profile) -> float:
        """The integral of the product (Appendix C)."""
        a, b = sorted((self, other), key=lambda profile: profile.end)
        first, second = gamma_of(a.sigma_rel), gamma_of(b.sigma_rel)
        shape = (first + 1) * (second + 1) / (first + second + 1)
        return shape * (a.end / b.end) ** second / b.end


def mixture(target: Profile, kept: Sequence[Profile]) -> tuple[np.ndarray, float]:
    """Coefficients whose sum of `kept` profiles is nearest to the target, and their relative distance.

    By least squares (Appendix C), with coefficients that add up to 1 as all profiles do: weights that
    have stood still are found again as they are.
    """
    gram = np.array([[a.dot(b) for b in kept] for a in kept])
    with_target = np.array([a.dot(target) for a in kept])
    size, scale, one = target.dot(target), gram.diagonal().max(), np.ones((len(kept), 1))
    system = np.block([[gram / scale, one], [one.T, np.zeros((1, 1))]])
    found = np.linalg.lstsq(system, np.append(with_target / scale, 1.0), rcond=1e-15)[0][:-1]
    square = size - 2 * found @ with_target + found @ gram @ found
    return found, float(max(square, 0.0) / size) ** 0.5


def snapshots(run: Path) -> list[int]:
    """The steps of which a run keeps snapshots, in order."""
    found = (file.stem for file in (run / SNAPSHOTS).glob("*.safetensors"))
    return sorted(int(name) for name in found if name.isdecimal())


@dataclass(frozen=True)
class Average:
    """What stands for the average of a length at the last snapshot of a run."""

    run: Path
    sigma_rel: float
    coefficients: tuple[tuple[int, float, float], ...]
    """Of each step and kept sigma_rel."""
    error: float
    """Relative distance of the profiles."""

    @classmethod
    def of(cls, run: Path, sigma_rel: float) -> Average:
        steps = snapshots(run)
        if not steps:
            raise PangenError(
                f"{run} keeps no snapshots to average; train it with --training.snapshots 20, say."
            )
        if not 0 < sigma_rel < LONGEST:
            raise PangenError(
                f"sigma_rel = {sigma_rel:g} is out of range; take a number above 0 and below {LONGEST:.3f}."
            )
        kept = [(step, s) for step in steps for s in KEPT]
        end = steps[-1]
        found, error = mixture(Profile(sigma_rel, 1.0), [Profile(s, step / end) for step, s in kept])
        parts = tuple((step, s, float(c)) for (step, s), c in zip(kept, found, strict=True))
        return cls(run, sigma_rel, parts, error)

    @property
    def step(self) -> int:
        return self.coefficients[-1][0]

    def check(self) -> None:
        """Raise where the snapshots are too few for it."""
        if self.error > TOLERANCE:
            raise PangenError(
                f"{len(self.coefficients) // len(KEPT)} snapshots cannot tell the average with sigma_rel = "
                f"{self.sigma_rel:g}: the nearest sum of them is {self.error:.0%} off; take one nearer to "
                f"{KEPT[0]:g} to {KEPT[1]:g}, or train with more training.snapshots."
            )

    def weights(self) -> dict[str, Tensor]:
        """A model's state; one snapshot is in memory at a time."""
        total: dict[str, Tensor] = {}
        rest: dict[str, Tensor] = {}
        dtypes: dict[str, torch.dtype] = {}
        for step in dict.fromkeys(step for step, *_ in self.coefficients):
            tensors, _ = read_tensors(self.run / SNAPSHOTS / f"{step}.safetensors")
            rest = {k.removeprefix("rest/"): v for k, v in tensors.items() if k.startswith("rest/")}
            for at, sigma_rel, c in self.coefficients:
                prefix = f"{sigma_rel}/"
                mine = {k: v for k, v in tensors.items() if at == step and k.startswith(prefix)}
                for key, value in mine.items():
                    name = key.removeprefix(prefix)
                    dtypes[name] = value.dtype
                    total[name] = total.get(name, 0.0) + c * value.double()
        return rest | {name: value.to(dtypes[name]) for name, value in total.items()}
