"""From a trained run to one of another kind, made from what it knows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from pangen.capabilities import HasDenoiser
from pangen.errors import PangenError, unknown
from pangen.evaluation.kind import data_of
from pangen.registry import entries, get
from pangen.run import Run, as_run
from pangen.training.fit import Report
from pangen.training.plan import fit_model


class Target(NamedTuple):
    """The setting of a model that says how it learns from a teacher, and its values, the usual one first."""

    setting: str
    methods: tuple[str, ...]


TARGETS = {
    "consistency": Target("method", ("distil", "tune")),
    "flow-matching": Target("coupling", ("reflow",)),
}


def convert(
    run: Run | str | Path,
    to: str = "consistency",
    *,
    method: str | None = None,
    out: str | Path | None = None,
    steps: int | None = None,
    budget: float | None = None,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    report: Report | None = None,
    recipe: Mapping[str, Any] | None = None,
) -> Run:
    """Train a model of few steps from one of many, on the same data behind the same codec.

    Args:
        run: of a diffusion model, or its folder, which the new run names as its teacher.
        to: consistency, which goes from noise to data in one step, or flow-matching, which goes there on nearly
            straight lines.
        method: of consistency distil, along the teacher's path, or tune, from its weights alone; of flow-matching
            reflow. All start from its weights where the networks agree; else tune is refused. None: the first.
        out: the new run's folder; None keeps it in memory.
        steps: optimizer steps; or
        budget: seconds. Neither: 1000 steps.
        seed: decides the order of the data and all noise.
        device: auto, cpu, cuda or mps.
        resume: go on where the conversion in `out` stopped.
        report: called with an `Event` after every step.
        recipe: fields by their dotted names, as in `fit`.

    Raises:
        PangenError: the run cannot be converted, or any mistake in the above; before anything is written.
    """
    if to not in TARGETS:
        raise unknown("target", to, TARGETS)
    setting, methods = TARGETS[to]
    if method is not None and method not in methods:
        raise unknown("method", method, methods)
    run = as_run(run)
    teacher, made = run.entry, run.recipe
    if not isinstance(run.model, HasDenoiser) or teacher.family == "consistency":
        able = ", ".join(
            e.name for e in entries().values() if "denoiser" in e.capabilities and e.family != "consistency"
        )
        raise PangenError(f"{teacher.name} cannot be converted to {to}; convert a run of {able}.")
    if run.path is None:
        raise PangenError("a run in memory has no folder that its student could name; save it first.")
    if made.data.name == "memory":
        raise PangenError(
            f"the {teacher.name} in {run.path} was trained on data from memory, which is not kept; save the data "
            "to a file and train on that."
        )
    like = cast("Any", get(to).load()).like(run.model)
    told = dict(made.codec)
    codec = told.pop("name")
    fields: dict[str, Any] = {
        f"model.{setting}": method or methods[0],
        "model.teacher": str(run.path.resolve()),
        **{f"model.{name}": value for name, value in like.items()},
        **{f"codec.{name}": value for name, value in told.items()},
        "dtype": made.dtype,
        **(recipe or {}),
    }
    return fit_model(
        to, data_of(run), path=Path(out) if out is not None else None, steps=steps, budget=budget, seed=seed,
        conditional=made.conditional, codec=codec, device=device, resume=resume, report=report, recipe=fields,
    )  # fmt: skip
