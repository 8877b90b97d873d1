"""Pangen: train, sample, evaluate, compare and apply every family of deep generative models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pangen.errors import PangenError

if TYPE_CHECKING:
    from pangen.api import (
        advise,
        average,
        check,
        classify,
        compare,
        complete,
        compress,
        convert,
        decode,
        decompress,
        doctor,
        encode,
        evaluate,
        fill,
        fit,
        forecast,
        frontier,
        gym,
        interpolate,
        load_data,
        load_run,
        log_z,
        merge_ledgers,
        reconstruct,
        runs,
        sample,
        score_forecasts,
        show,
        stream,
        translate,
        verify,
    )

__version__ = "0.1.0"
__all__ = [
    "PangenError",
    "__version__",
    "advise",
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


def __getattr__(name: str) -> Any:
    if name in __all__:  # torch is imported by the first verb, not by `import pangen`
        from pangen import api

        return getattr(api, name)
    raise AttributeError(f"module 'pangen' has no attribute '{name}'")
