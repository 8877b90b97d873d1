"""The data that a run is measured on: its own, or others of their kind."""

from __future__ import annotations

from typing import cast

from pangen.codecs import Cells
from pangen.data import load_data
from pangen.data.dataset import Column, Data
from pangen.data.latents import unchanged
from pangen.errors import PangenError
from pangen.run import Run


def data_of(run: Run) -> Data:
    """The data a run was trained on, if it is still the same."""
    spec = run.recipe.data
    return unchanged(load_data(spec.name, **spec.options), spec)


def check_kind(run: Run, data: Data) -> None:
    """Raise when the data are of another kind than a run's own."""
    codec, name = run.codec.outer, run.entry.name
    if run.answers and not (data.pairs or data.captioned):
        raise PangenError(f"this {name} answers to texts, and '{data.name}' has none beside its examples.")
    theirs = codec.raw_shape
    if not type(codec).applies(data) or (data.modality not in ("text", "sound") and theirs != data.shape):
        raise PangenError(
            f"this {name} was trained on examples of shape {theirs}; '{data.name}' holds {data.modality.removesuffix('s')}s "
            f"of shape {data.shape}: evaluate it on data of its own kind."
        )
    levels = getattr(codec, "levels", data.levels)
    if levels != data.levels:
        raise PangenError(
            f"this {name} was trained on {levels} levels; '{data.name}' has {data.levels}: evaluate it on data of its own kind."
        )
    rate = getattr(codec, "rate", data.rate)
    if rate != data.rate:
        raise PangenError(
            f"this {name} was trained on sound of {rate} Hz; '{data.name}' has {data.rate}: read it with --rate {rate}."
        )
    for mine, its in zip(cast("Cells", codec).table if data.table else (), data.table, strict=True):
        if (mine.name, mine.words) != (its.name, its.words):
            raise PangenError(
                f"this {name} was trained on a column '{mine.name}' {_words(mine)}; '{data.name}' has '{its.name}' {_words(its)} there."
            )
    if run.codec.labels and run.codec.labels != data.labels:
        raise PangenError(f"this {name} was trained with other labels than '{data.name}' has.")


def _words(column: Column) -> str:
    return f"of {', '.join(map(repr, column.words))}" if column.words else "of numbers"
