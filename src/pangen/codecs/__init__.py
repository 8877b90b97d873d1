"""Codecs: raw data <-> tensors of a `Space`, and the change of volume between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from pangen.codecs.codec import Codec, Encoded
from pangen.codecs.images import Binary, Dequantise, Grid, Levels
from pangen.codecs.learned import LearnedCodec, code_space, sort
from pangen.codecs.text import Characters
from pangen.codecs.vectors import Standardise
from pangen.errors import PangenError, unknown
from pangen.registry import Entry

if TYPE_CHECKING:
    from pangen.data.dataset import Data

CODECS: dict[str, type[Codec]] = {
    codec.name: codec for codec in (Binary, Grid, Levels, Dequantise, Standardise, Characters, LearnedCodec)
}


def choose_codec(
    entry: Entry, data: Data, *, conditional: bool | None = None, name: str | None = None
) -> Codec:
    """The first codec of a model that can hold the data, fitted on its training split.

    `conditional`: whether the model is given the labels; None: when it can take them and there
    are some. `name` asks for one codec by name.
    """
    if name is not None and name not in CODECS:
        raise unknown("codec", name, CODECS)
    for candidate in _candidates(entry, data):
        if name in (None, candidate):
            return CODECS[candidate].fit(data, **_labels(entry, data, conditional))
    if name is not None and accepts(entry, data):
        raise PangenError(
            f"{entry.name} cannot model '{data.name}' behind the codec '{name}'; take {' or '.join(_candidates(entry, data))}."
        )
    accepted = ", ".join(entry.spaces)
    raise PangenError(f"{entry.name} cannot model '{data.name}' ({describe(data)}): it accepts {accepted}.")


def accepts(entry: Entry, data: Data) -> bool:
    """Whether a model has a codec for the data."""
    return bool(_candidates(entry, data))


def _candidates(entry: Entry, data: Data) -> list[str]:
    """The codecs that hold the data for a model, the preferred first.

    Codes are taken by whoever knows their layout and their values from its codecs, together or apart.
    """
    if LearnedCodec.applies(data):
        known = frozenset().union(*(CODECS[name].shows for name in entry.codecs))
        return [LearnedCodec.name] if sort(code_space(data.encoder)) <= known else []
    return [name for name in entry.codecs if CODECS[name].applies(data)]


def describe(data: Data) -> str:
    """The kind of a data set in a user's words."""
    if data.encoder:
        return "codes that are " + _CODES[sort(code_space(data.encoder))]
    if data.modality == "image":
        return "binary images" if data.levels == 2 else "grey and colour images"
    return {"vector": "vectors", "text": "text"}[data.modality]


_CODES = {
    frozenset({"vector", "real"}): "real vectors",
    frozenset({"map", "real"}): "maps of real numbers",
    frozenset({"sequence", "tokens"}): "sequences of tokens",
}


def codec_from_json(fields: Mapping[str, Any]) -> Codec:
    """The codec that `Codec.to_json` wrote."""
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    name = fields.pop("name", None)
    if name not in CODECS:
        raise unknown("codec", str(name), CODECS)
    return CODECS[name](**fields)


def _labels(entry: Entry, data: Data, conditional: bool | None) -> dict[str, Any]:
    if conditional is None:
        conditional = entry.conditional and bool(data.labels)
    if not conditional:
        return {}
    if not entry.conditional:
        raise PangenError(f"{entry.name} cannot be conditioned on labels; leave out 'conditional'.")
    if not data.labels or data.train.y is None:
        raise PangenError(f"'{data.name}' has no labels to condition on.")
    counts = torch.bincount(data.train.y, minlength=len(data.labels))
    return {"labels": data.labels, "label_counts": tuple(counts.tolist())}


__all__ = [
    "CODECS",
    "Codec",
    "Encoded",
    "LearnedCodec",
    "accepts",
    "choose_codec",
    "codec_from_json",
    "describe",
]
