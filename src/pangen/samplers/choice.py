"""Samplers of a denoiser and spacings of its levels, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any, Literal

from pangen.errors import PangenError, unknown
from pangen.samplers.denoise import Sampler
from pangen.samplers.diffusion import DDIM, Ancestral, PredictorCorrector
from pangen.samplers.noise import Schedule, Spacing, geometric, in_time, spaced
from pangen.samplers.solvers import Adaptive, DPMSolver, Euler, Heun

Name = Literal[
    "ancestral", "ddim", "euler", "heun", "dpmpp", "dpmpp-3m", "dpmpp-sde", "corrected", "adaptive"
]
Spaced = Literal["rho", "log", "time"]

SAMPLERS: dict[str, Callable[..., Sampler]] = {
    "ancestral": Ancestral,
    "ddim": DDIM,
    "euler": Euler,
    "heun": Heun,
    "dpmpp": DPMSolver,
    "dpmpp-3m": partial(DPMSolver, order=3),
    "dpmpp-sde": partial(DPMSolver, noisy=True),
    "corrected": PredictorCorrector,
    "adaptive": Adaptive,
}


def choose(name: str, usual: dict[str, Any], asked: dict[str, Any]) -> Sampler:
    """A sampler with what was asked for, which it must have, and else what is usual, where it has that.

    None asks for nothing.

    Raises:
        PangenError: there is no sampler of that name, or it lacks a setting that is asked for.
    """
    if name not in SAMPLERS:
        raise unknown("sampler", name, SAMPLERS)
    make = SAMPLERS[name]
    known = _settings(make)
    asked = {k: v for k, v in asked.items() if v is not None}
    for setting in asked.keys() - known:
        able = [other for other, cls in SAMPLERS.items() if setting in _settings(cls)]
        raise PangenError(f"the sampler {name} has no {setting}; {_listed(able)}.")
    return make(**{k: v for k, v in usual.items() if k in known} | asked)


def spacing_of(name: str | None, schedule: Schedule) -> Spacing | None:
    """Equal steps of sigma^(1/7), of log(sigma), or of the time of a schedule; None as it is.

    Raises:
        PangenError: there is no spacing of that name.
    """
    spacings = {"rho": spaced, "log": in_time(geometric), "time": in_time(schedule)}
    if name is not None and name not in spacings:
        raise unknown("spacing", name, spacings)
    return None if name is None else spacings[name]


def _settings(make: Callable[..., Sampler]) -> set[str]:
    return set(signature(make).parameters)


def _listed(names: list[str]) -> str:
    return f"{', '.join(names)} {'has' if len(names) == 1 else 'have'}"
