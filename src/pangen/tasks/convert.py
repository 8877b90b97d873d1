"""From a trained run to one of another kind, made from what it knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

from pangen.capabilities import HasDenoiser
from pangen.errors import PangenError, unknown
from pangen.evaluation.judge import data_of
from pangen.registry import entries, get
from pangen.run import Run, as_run
from pangen.training.fit import Report
from pangen.training.plan import fit_model

Method = Literal["tune", "distil"]
TARGETS = ("consistency",)


def convert(
    run: Run | str | Path,
    to: str = "consistency",
    *,
    method: Method = "distil",
    out: str | Path | None = None,
    steps: int | None = None,
    budget: float | None = None,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    report: Report | None = None,
) -> Run:
    """Train a model of few steps from one of many, on the same data behind the same codec.

    Args:
        run: of a diffusion model, or its folder, which the new run names as its teacher.
        to: consistency, which goes from noise to data in one step.
        method: distil, along the teacher's path, or tune, from its weights alone. Both start from its weights where
            the networks agree; else tune is refused.
        out: the new run's folder; None keeps it in memory.
        steps: optimizer steps; or
        budget: seconds. Neither: 1000 steps.
        seed: decides the order of the data and all noise.
        device: auto, cpu, cuda or mps.
        resume: go on where the conversion in `out` stopped.
        report: called with an `Event` after every step.

    Raises:
        PangenError: the run cannot be converted, or any mistake in the above; before anything is written.
    """
    if to not in TARGETS:
        raise unknown("target", to, TARGETS)
    if method not in get_args(Method):
        raise unknown("method", method, get_args(Method))
    run = as_run(run)
    teacher, recipe = run.entry, run.recipe
    if not isinstance(run.model, HasDenoiser) or teacher.name in TARGETS:
        able = ", ".join(e.name for e in entries().values() if _teaches(e.capabilities, e.name))
        raise PangenError(f"{teacher.name} cannot be converted to {to}; convert a run of {able}.")
    if run.path is None:
        raise PangenError("a run in memory has no folder that its student could name; save it first.")
    if recipe.data.name == "memory":
        raise PangenError(
            f"the {teacher.name} in {run.path} was trained on data from memory, which is not kept; save the data "
            "to a file and train on that."
        )
    like = get(to).load().like(run.model)
    told = dict(recipe.codec)
    codec = told.pop("name")
    fields: dict[str, Any] = {
        "model.method": method,
        "model.teacher": str(run.path.resolve()),
        **{f"model.{name}": value for name, value in like.items()},
        **{f"codec.{name}": value for name, value in told.items()},
        "dtype": recipe.dtype,
    }
    return fit_model(
        to, data_of(run), path=Path(out) if out is not None else None, steps=steps, budget=budget, seed=seed,
        conditional=recipe.conditional, codec=codec, device=device, resume=resume, report=report, recipe=fields,
    )  # fmt: skip


def _teaches(capabilities: tuple[str, ...], name: str) -> bool:
    return "denoiser" in capabilities and name not in TARGETS
