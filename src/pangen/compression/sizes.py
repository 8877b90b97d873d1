"""The same inputs by other programs and formats: bytes, for comparison."""

from __future__ import annotations

import gzip
import io
import lzma
import math
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from pangen.compression.kinds import Images, Kind, Sounds, same

WIDEST = 16383
"""Pixels of a side of a WebP image."""


def others(contents: Mapping[str, bytes], kind: Kind) -> dict[str, int]:
    """Bytes by name: of all files behind one another, and of images and sound by what is made for them.

    Of one file for each image and one sheet of all images the smaller counts.
    """
    every = b"".join(contents.values())
    found = {
        "gzip -9": len(gzip.compress(every, 9)),
        "xz -9e": len(lzma.compress(every, preset=9 | lzma.PRESET_EXTREME)),
    }
    if find_spec("zstandard"):
        found["zstd -19"] = len(import_module("zstandard").ZstdCompressor(level=19).compress(every))
    read = (same(kind, name, content, pixels=True) for name, content in contents.items())
    units = [pair[1] for pair in read if pair]
    if isinstance(kind, Images) and units:
        images = np.concatenate(units)
        found |= {name: smaller(images, kind.levels, how) for name, how in FORMATS.items()}
    if isinstance(kind, Sounds) and units and find_spec("soundfile"):
        found["flac"] = sum(flac(clip, kind.rate) for clip in units if len(clip))
    return found


FORMATS = {
    "png": {"format": "png", "optimize": True},
    "webp": {"format": "webp", "lossless": True, "quality": 100, "method": 6},
}


def smaller(images: np.ndarray, levels: int, how: Mapping[str, Any]) -> int:
    """Of one file for each image `(n, C, H, W)` and one sheet of all of them."""
    return min(
        sum(saved(image, levels, how) for image in images), sum(saved(s, levels, how) for s in sheets(images))
    )


def sheets(images: np.ndarray) -> Iterator[np.ndarray]:
    """As many images side by side and below one another as the formats allow."""
    n, C, H, W = images.shape
    wide = min(math.ceil(math.sqrt(n * H / W)), WIDEST // W)
    most = wide * (WIDEST // H)
    for start in range(0, n, most):
        part = images[start : start + most]
        high = -(-len(part) // wide)
        part = np.concatenate([part, np.zeros((high * wide - len(part), C, H, W), np.uint8)])
        yield part.reshape(high, wide, C, H, W).transpose(2, 0, 3, 1, 4).reshape(C, high * H, wide * W)


def saved(image: np.ndarray, levels: int, how: Mapping[str, Any]) -> int:
    """Bytes of one image `(C, H, W)` of levels; of two levels a pixel is a bit."""
    from PIL import Image

    planes = image.transpose(1, 2, 0)
    picture = Image.fromarray(planes[..., 0] if len(image) == 1 else planes)
    if levels == 2 and len(image) == 1:
        picture = Image.fromarray(planes[..., 0] * 255).convert("1")
    content = io.BytesIO()
    picture.save(content, **how)
    return content.tell()


def flac(clip: np.ndarray, rate: int) -> int:
    import soundfile

    content = io.BytesIO()
    soundfile.write(content, clip.astype(np.int16), rate, format="FLAC", subtype="PCM_16")
    return len(content.getvalue())
