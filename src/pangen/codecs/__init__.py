"""Codecs: raw data <-> tensors of a `Space`, and the change of volume between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from pangen.codecs.codec import Codec, Encoded
from pangen.codecs.images import Binary, Dequantise, Grid, Levels
from pangen.codecs.text import Characters
from pangen.codecs.vectors import Standardise
from pangen.errors import PangenError, unknown
from pangen.registry import Entry

if TYPE_CHECKING:
    from pangen.data.dataset import Data

CODECS: dict[str, type[Codec]] = {
    codec.name: codec for codec in (Binary, Grid, Levels, Dequantise, Standardise, Characters)
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
    for candidate in [name] if name else entry.codecs:
        codec = CODECS[candidate]
        if candidate in entry.codecs and codec.applies(data):
            return codec.fit(data, **_labels(entry, data, conditional))
    accepted = ", ".join(entry.spaces)
    raise PangenError(f"{entry.name} cannot model '{data.name}' ({describe(data)}): it accepts {accepted}.")


def accepts(entry: Entry, data: Data) -> bool:
    """Whether a model has a codec for the data."""
    return any(CODECS[name].applies(data) for name in entry.codecs)


def describe(data: Data) -> str:
    """The kind of a data set in a user's words."""
    if data.modality == "image":
        return "binary images" if data.levels == 2 else "grey and colour images"
    return {"vector": "vectors", "text": "text"}[data.modality]


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


__all__ = ["CODECS", "Codec", "Encoded", "accepts", "choose_codec", "codec_from_json", "describe"]
