"""Codecs: raw data <-> tensors of a `Space`, and the change of volume between them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_type_hints

import pydantic
import torch

from pangen.codecs.codec import Codec, Encoded
from pangen.codecs.images import Binary, Dequantise, Grid, ImageCodec, Levels
from pangen.codecs.learned import LearnedCodec, code_space, sort
from pangen.codecs.pairs import CharacterPairs, Pairs, SubwordPairs, captions
from pangen.codecs.series import Columns, Quantise, Scale, Windows
from pangen.codecs.sound import MuLaw, Sound, Waveform
from pangen.codecs.subwords import Bytes, Subwords
from pangen.codecs.tables import Cells
from pangen.codecs.text import Characters, Text
from pangen.codecs.vectors import Standardise
from pangen.codecs.words import Words
from pangen.errors import PangenError, unknown
from pangen.registry import Entry

if TYPE_CHECKING:
    from pangen.data.dataset import Data

CODECS: dict[str, type[Codec]] = {
    codec.name: codec
    for codec in (
        Binary,
        Grid,
        Levels,
        Dequantise,
        Standardise,
        Cells,
        Characters,
        Bytes,
        Subwords,
        Words,
        CharacterPairs,
        SubwordPairs,
        Scale,
        Columns,
        Quantise,
        MuLaw,
        Waveform,
        LearnedCodec,
    )
}

FINITE = pydantic.ConfigDict(allow_inf_nan=False)


def choose_codec(
    entry: Entry,
    data: Data,
    *,
    conditional: bool | None = None,
    name: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Codec:
    """The first codec of a model that can hold the data, fitted on its training split.

    `conditional`: whether the model is given the labels; None: when it can take them and there
    are some. `name` asks for one codec by name, and `settings` are for it.
    """
    if name is not None and name not in list(CODECS):  # of a damaged recipe it may be anything
        raise unknown("codec", str(name), CODECS)
    for candidate in _candidates(entry, data):
        if name in (None, candidate):
            told = _settings(CODECS[candidate], settings or {})
            labels = _labels(entry, data, CODECS[candidate], conditional)
            return CODECS[candidate].fit(data, **told, **labels)
    if name is not None and accepts(entry, data):
        raise PangenError(
            f"{entry.name} cannot model '{data.name}' behind the codec '{name}'; take {' or '.join(_candidates(entry, data))}."
        )
    accepted = ", ".join(entry.spaces)
    hint = _AS_SERIES.get(data.modality, "") if "scale" in entry.codecs or "quantise" in entry.codecs else ""
    raise PangenError(
        f"{entry.name} cannot model '{data.name}' ({describe(data)}): it accepts {accepted}{hint}."
    )


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
    if data.modality == "series":
        return f"series of {data.shape[0]} columns"
    if data.pairs:
        return "pairs of texts"
    if data.table:
        words = next((column.name for column in data.table if column.words), None)
        return f"a table with words in '{words}'" if words else "a table with gaps"
    return {"vector": "vectors", "text": "text", "sound": "sound"}[data.modality]


_AS_SERIES = {
    "vector": "; rows in time order become a series with --series --window N",
    "series": "; choose one with --column",
}
_CODES = {
    frozenset({"vector", "real"}): "real vectors",
    frozenset({"map", "real"}): "maps of real numbers",
    frozenset({"sequence", "tokens"}): "sequences of tokens",
}


def codec_from_json(fields: Mapping[str, Any]) -> Codec:
    """The codec that `Codec.to_json` wrote."""
    given = {k: codec_from_json(v) if isinstance(v, Mapping) else v for k, v in fields.items()}
    name = str(given.pop("name", None))
    if name not in CODECS:
        raise unknown("codec", name, CODECS)
    codec, hints = CODECS[name], get_type_hints(CODECS[name], include_extras=True)
    types = {field.name: hints[field.name] for field in dataclasses.fields(codec)}
    try:
        return codec(**{k: _recorded(types[k], v) for k, v in given.items()})
    except (KeyError, TypeError, pydantic.ValidationError, pydantic.PydanticUserError) as error:
        why = error.errors()[0]["msg"] if isinstance(error, pydantic.ValidationError) else error
        raise PangenError(
            f"the codec '{name}' cannot be made of what is recorded ({why}): the run is damaged."
        ) from None


def _recorded(kind: Any, value: Any) -> Any:
    """A value of a codec's field, checked against the field's type; tuples stand in JSON as lists."""
    if isinstance(value, Codec):
        if not isinstance(value, kind):
            raise TypeError(f"{value.name} stands where {kind} should")
        return value
    return pydantic.TypeAdapter(kind, config=FINITE).validate_python(value)


def _settings(codec: type[Codec], given: Mapping[str, Any]) -> dict[str, Any]:
    """Checked by type and range."""
    known, found = codec.settings(), {}
    for name, value in given.items():
        if name not in known:
            hint = "" if known else f"the codec {codec.name} has no settings; take another with --codec."
            raise unknown("recipe field", f"codec.{name}", [f"codec.{k}" for k in known], hint=hint)
        try:
            found[name] = pydantic.TypeAdapter(known[name]).validate_python(value)
        except pydantic.ValidationError as error:
            message = error.errors()[0]["msg"]
            raise PangenError(
                f"recipe field 'codec.{name}' = {value}: {message[0].lower() + message[1:]}."
            ) from None
    return found


def _labels(entry: Entry, data: Data, codec: type[Codec], conditional: bool | None) -> dict[str, Any]:
    if issubclass(codec, Pairs):
        if conditional is False:
            raise PangenError(
                f"{entry.name} answers to texts and cannot do without: leave out 'unconditional'."
            )
        return {}
    able = entry.captions if data.captioned else entry.conditional
    if conditional is None:
        conditional = able and (data.captioned or bool(data.labels))
    if not conditional:
        return {}
    if data.captioned:
        if not able:
            raise PangenError(f"{entry.name} cannot be conditioned on texts; leave out 'conditional'.")
        return captions(data)
    if not entry.conditional:
        raise PangenError(f"{entry.name} cannot be conditioned on labels; leave out 'conditional'.")
    if not data.labels or not isinstance(data.train.y, torch.Tensor):
        raise PangenError(f"'{data.name}' has no labels to condition on.")
    counts = torch.bincount(data.train.y, minlength=len(data.labels))
    return {"labels": data.labels, "label_counts": tuple(counts.tolist())}


__all__ = [
    "CODECS",
    "Cells",
    "Codec",
    "Encoded",
    "ImageCodec",
    "LearnedCodec",
    "Sound",
    "Text",
    "Windows",
    "accepts",
    "choose_codec",
    "codec_from_json",
    "describe",
]
