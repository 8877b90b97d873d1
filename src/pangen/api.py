"""The verbs: the same from Python as from the command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pangen.advice import advise
from pangen.compression import compress, decompress
from pangen.data import load_data
from pangen.data.given import as_data
from pangen.evaluation import check, compare, evaluate, frontier, gym, merge_ledgers, verify
from pangen.overview.doctor import doctor
from pangen.overview.runs import runs
from pangen.overview.show import show
from pangen.precision import Precision
from pangen.run import Given, Run, as_run, load_run
from pangen.space import Method
from pangen.tasks import (
    average,
    classify,
    complete,
    convert,
    decode,
    encode,
    fill,
    forecast,
    interpolate,
    reconstruct,
    score_forecasts,
    stream,
    translate,
)
from pangen.training.fit import Report
from pangen.training.plan import fit_model


def fit(
    model: str,
    data: Any,
    y: Any = None,
    *,
    out: str | Path | None = None,
    steps: int | None = None,
    budget: float | None = None,
    seed: int = 0,
    conditional: bool | None = None,
    codec: str | None = None,
    device: str = "auto",
    dtype: Precision | None = None,
    resume: bool = False,
    report: Report | None = None,
    recipe: Mapping[str, Any] | None = None,
) -> Run:
    """Train a model and return its run.

    Args:
        model: a name from `pangen models`.
        data: the name of a data set, a path, `latents:RUN`, a `Data`, or an array or tensor: images of integers
            `(N, H, W)`, `(N, C, H, W)` or `(N, H, W, C)`, or vectors `(N, D)`; or a list of strings.
        y: labels `(N,)` for data from memory.
        out: the run's folder; None keeps the run in memory.
        steps: optimizer steps; or
        budget: seconds, turned into steps by timing the first ones. Neither: 1000 steps.
        seed: decides initial weights, the order of the data, and all noise.
        conditional: give the model the labels; None: when it can take them and there are some.
        codec: a codec's name, where a model works behind several.
        device: auto, cpu, cuda or mps.
        dtype: of weights and noise: float32, or float64, slower and exact to more digits.
        resume: go on where the run in `out` stopped.
        report: called with an `Event` after every step.
        recipe: dotted fields to set, such as `{"model.latent": 8, "training.lr": 1e-3}`.

    Raises:
        PangenError: for any mistake in the above, before anything is written.
    """
    return fit_model(
        model,
        as_data(data, y),
        path=Path(out) if out is not None else None,
        steps=steps,
        budget=budget,
        seed=seed,
        conditional=conditional,
        codec=codec,
        device=device,
        resume=resume,
        report=report,
        recipe={**(recipe or {}), **({"dtype": dtype} if dtype else {})},
    )


def sample(
    run: Run | str | Path,
    n: int = 16,
    given: Given = None,
    *,
    seed: int = 0,
    **how: Any,
) -> Any:
    """Draw `n` raw examples from a run; the i-th is a function of (seed, i) and its condition alone.

    Args:
        run: a `Run` or its folder.
        n: examples.
        given: a class name or index, or a text, or one for each sample; None: as often as the training data has them.
        seed: decides what is drawn.
        how: settings of the model's sampler.

    Returns:
        Images uint8 `(n, C, H, W)`, vectors and tables float32 `(n, D)`, series float32 `(n, columns, window)`, or a
        tuple of texts or of clips float32 `(T,)`.

    Raises:
        PangenError: the run cannot be read or draws nothing, or a condition or a setting does not fit it.
    """
    return as_run(run).sample(n, given, seed=seed, **how)


def log_z(
    run: Run | str | Path, method: Method | None = None, *, chains: int = 0, seed: int = 0
) -> dict[str, Any]:
    """The log normalising constant of an energy-based run, in nats of the model's own space.

    Args:
        run: a `Run` or its folder.
        method: "exact", a sum over states; "ais", annealed importance sampling; None: the first that can be.
        chains: of the annealing, each way; 0: the recipe's number.
        seed: decides their noise.

    Returns:
        `{log_z, low, high, method}`, all labels together.

    Raises:
        PangenError: the model has no such constant, or too many states for a sum.
    """
    found = as_run(run).log_z(method, chains=chains, seed=seed)
    return {
        "log_z": float(found.value), "low": float(found.low), "high": float(found.high), "method": found.method,
    }  # fmt: skip


__all__ = [
    "advise",
    "as_data",
    "average",
    "check",
    "classify",
    "compare",
    "complete",
    "compress",
    "convert",
    "decode",
    "decompress",
    "doctor",
    "encode",
    "evaluate",
    "fill",
    "fit",
    "forecast",
    "frontier",
    "gym",
    "interpolate",
    "load_data",
    "load_run",
    "log_z",
    "merge_ledgers",
    "reconstruct",
    "runs",
    "sample",
    "score_forecasts",
    "show",
    "stream",
    "translate",
    "verify",
]
