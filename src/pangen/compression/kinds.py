"""What a run takes of files: images, text or sound, as units that a model can code, and what else makes up the bytes.

A kind reads a file into a `Form`, which with the units gives the file back byte for byte; what it cannot read so is
kept as it is. Forms are JSON and stand in the header.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from pangen.codecs import Codec, ImageCodec, Text
from pangen.codecs.sound import LEVELS, MuLaw, quantise
from pangen.codecs.text import Characters
from pangen.compression.tokens import segments
from pangen.errors import PangenError

Form = dict[str, Any]

WHOLE = "buif"
"""Kinds of arrays that can hold whole numbers."""


class StrangeError(Exception):
    """A file that holds nothing for this run."""


class Kind(Protocol):
    """Files to units and back."""

    def read(self, name: str, content: bytes) -> tuple[Form, Any]:
        """Raises `StrangeError`."""
        ...

    def write(self, form: Form, units: Any) -> bytes: ...

    def size(self, form: Form) -> int:
        """Tokens or values that the units of a form have together."""
        ...


@dataclass(frozen=True)
class Images:
    """An array of whole numbers, or a PNG file as Pillow writes it. Units: levels uint8 `(n, *shape)`.

    `pixels`: of any PNG file the pixels alone.
    """

    shape: tuple[int, ...]
    levels: int
    pixels: bool = False

    def read(self, name: str, content: bytes) -> tuple[Form, np.ndarray]:
        return self._array(content) if content[:6] == b"\x93NUMPY" else self._png(content)

    def _array(self, content: bytes) -> tuple[Form, np.ndarray]:
        try:
            x = np.load(io.BytesIO(content), allow_pickle=False)
        except Exception:  # a damaged header makes numpy raise nearly anything
            raise StrangeError from None
        shapes = (self.shape, self.shape[1:])[: 2 if self.shape[0] == 1 else 1]
        if x.dtype.kind not in WHOLE or x.shape[1:] not in shapes or not x.flags.c_contiguous:
            raise StrangeError
        if not ((x >= 0) & (x < self.levels) & (x == np.floor(x))).all():
            raise StrangeError
        body = x.nbytes
        head = content[: len(content) - body] if body else content
        form = {"npy": text_of(head), "type": x.dtype.str, "n": len(x)}
        return form, x.astype(np.uint8).reshape(-1, *self.shape)

    def _png(self, content: bytes) -> tuple[Form, np.ndarray]:
        from PIL import Image

        try:
            with Image.open(io.BytesIO(content)) as image:
                image.load()
        except Exception:  # a damaged file makes the decoder raise nearly anything
            raise StrangeError from None
        C, H, W = self.shape
        if image.format != "PNG" or image.mode != {1: "L", 3: "RGB"}.get(C) or image.size != (W, H):
            raise StrangeError
        planes = np.asarray(image).reshape(H, W, C).transpose(2, 0, 1)
        x = np.rint(planes * ((self.levels - 1) / 255)).astype(np.uint8)
        if not np.array_equal(self._grey(x), planes):
            raise StrangeError
        ways = [{"png": how} for how in ([6, 0], [6, 1], [9, 0], [1, 0], [0, 0])]
        same = (form for form in ways if self.write(form, x[None]) == content)
        form = next(same, ways[0] if self.pixels else None)
        if form is None:
            raise StrangeError
        return form, x[None]

    def _grey(self, x: np.ndarray) -> np.ndarray:
        return np.rint(x * (255 / (self.levels - 1))).astype(np.uint8)

    def write(self, form: Form, units: np.ndarray) -> bytes:
        if "npy" in form:
            dtype = np.dtype(form["type"])
            if dtype.kind not in WHOLE:
                raise ValueError(f"an array of {dtype}")
            return bytes_of(form["npy"]) + units.astype(dtype).tobytes()
        from PIL import Image

        effort, optimize = form["png"]
        planes = self._grey(units[0]).transpose(1, 2, 0)
        content = io.BytesIO()
        image = Image.fromarray(planes[..., 0] if planes.shape[2] == 1 else planes)
        image.save(content, "png", compress_level=int(effort), optimize=bool(optimize))
        return content.getvalue()

    def count(self, form: Form) -> int:
        return form["n"] if "npy" in form else 1

    def size(self, form: Form) -> int:
        return self.count(form) * math.prod(self.shape)


@dataclass(frozen=True)
class Texts:
    """UTF-8. Units: tokens of lines, or of the pieces that a stream is cut into."""

    codec: Text

    def read(self, name: str, content: bytes) -> tuple[Form, list[np.ndarray]]:
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            raise StrangeError from None
        codec = self.codec
        rows = text.split("\n") if codec.lines else [text]
        tokens = [np.array(codec.tokens(row), np.int64) for row in rows]
        long = {i for i, row in enumerate(tokens) if codec.lines and len(row) > codec.length - 1}
        form: Form = {"long": [[i, rows[i]] for i in sorted(long)]} if long else {}
        if isinstance(codec, Characters):
            kept = (row for i, row in enumerate(rows) if i not in long)
            strange = "".join(c for row in kept for c in row if codec.unknown(c))
            form |= {"strange": strange} if strange else {}
        if codec.lines:
            units = [row[:0] if i in long else row for i, row in enumerate(tokens)]
            return form | {"lines": len(rows)}, units
        sizes = segments(len(tokens[0]), codec.context)
        return form | {"tokens": len(tokens[0])}, np.split(tokens[0], np.cumsum(sizes)[:-1]) if sizes else []

    def write(self, form: Form, units: Sequence[np.ndarray]) -> bytes:
        codec = self.codec
        parts = units if codec.lines else [np.concatenate([np.empty(0, np.int64), *units])]
        rows = [codec.text(part.tolist()) for part in parts]
        strange = iter(form.get("strange", ""))
        if "strange" in form:
            rows = ["".join(next(strange) if c == "\ufffd" else c for c in row) for row in rows]
        for i, row in form.get("long", ()):
            rows[i] = row
        text = "\n".join(rows)
        return text.encode("utf-8")

    def lengths(self, form: Form) -> list[int]:
        """Of the pieces that a stream is cut into."""
        return segments(form["tokens"], self.codec.context)

    def count(self, form: Form) -> int:
        return form["lines"] if self.codec.lines else len(self.lengths(form))

    def size(self, form: Form) -> int:
        return form["lines" if self.codec.lines else "tokens"]


@dataclass(frozen=True)
class Sounds:
    """A WAV file of one channel of 16 bits. Units: the samples as 16-bit numbers int64 `(n,)`.

    The model knows their mu-law levels; a sample is any of those that its level stands for.
    """

    rate: int
    room: int
    """Samples of a row."""

    def read(self, name: str, content: bytes) -> tuple[Form, np.ndarray]:
        start, size, told = 12, 0, None
        if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
            raise StrangeError
        while start + 8 <= len(content):
            name_of, size = (
                content[start : start + 4],
                int.from_bytes(content[start + 4 : start + 8], "little"),
            )
            start += 8
            if name_of == b"data":
                break
            told = content[start : start + size] if name_of == b"fmt " else told
            start += size + size % 2
        else:
            raise StrangeError
        size = min(size, len(content) - start) // 2 * 2
        usual = np.frombuffer((told or b"").ljust(16, b"\0")[:16], np.dtype("<u2,<u2,<u4,<u4,<u2,<u2"))[0]
        if tuple(usual)[:3] != (1, 1, self.rate) or usual[5] != 16:
            raise StrangeError
        x = np.frombuffer(content, "<i2", size // 2, start).astype(np.int64)
        form = {"head": text_of(content[:start]), "samples": len(x)}
        tail = content[start + size :]
        return form | ({"tail": text_of(tail)} if tail else {}), x

    def write(self, form: Form, units: np.ndarray) -> bytes:
        return bytes_of(form["head"]) + units.astype("<i2").tobytes() + bytes_of(form.get("tail", ""))

    def lengths(self, form: Form) -> list[int]:
        n = form["samples"]
        return [min(self.room, n - start) for start in range(0, n, self.room)]

    def size(self, form: Form) -> int:
        return form["samples"]


def cells() -> tuple[Tensor, Tensor, Tensor]:
    """The level `(65536,)` of each 16-bit sample from -32768 on; the first sample of each level, and how many it has."""
    level = quantise(torch.arange(-(2**15), 2**15) / 2**15)
    count = torch.bincount(level, minlength=LEVELS)
    return level, count.cumsum(0) - count, count


def kind_of(codec: Codec, *, pixels: bool = False) -> Images | Texts | Sounds | None:
    """What files a codec's data can be of; None where values have a density and no probability."""
    if isinstance(codec, ImageCodec):
        return Images(tuple(codec.shape), codec.levels, pixels)
    if isinstance(codec, Text):
        return Texts(codec)
    if isinstance(codec, MuLaw):
        return Sounds(codec.rate, codec.length - codec.ends)
    return None


def text_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def bytes_of(text: str) -> bytes:
    return base64.b64decode(text)


def same(kind: Kind, name: str, content: bytes, *, pixels: bool) -> tuple[Form, Any] | None:
    """A file's form and units, if they give it back; None if it must be kept as it is."""
    try:
        form, units = kind.read(name, content)
        again = kind.write(form, units)
    except (StrangeError, PangenError):
        return None
    return (form, units) if again == content or (pixels and "png" in form) else None
