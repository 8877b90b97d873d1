"""Arrays, in memory or in .npy and .npz files, as examples: what they hold is told by shape and type.

| shape | values | examples |
|---|---|---|
| (N, D) | any numbers | vectors |
| (N, H, W) | 0 to 255 | grey images |
| (N, C, H, W) or (N, H, W, C), C = 1 or 3 | 0 to 255 | images |
| (N,) | strings | text |

Pixels are whole numbers 0 to 255 of any type, or fractions k / 255 of them. Whatever could be
read in two ways is refused. What is too large for memory stays on disk, in an .npy file or a memory map of numpy's.
"""

from __future__ import annotations

import os
from mmap import mmap
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pangen.data.assemble import Examples
from pangen.data.stored import Stored, is_large
from pangen.errors import PangenError
from pangen.limits import UNPACKED
from pangen.memory import check_memory

SHAPES = "images are (N, H, W), (N, C, H, W) or (N, H, W, C), vectors (N, D), text a list of strings, and series (T,) or (T, C) take `series` and `window`"
CHANNELS = (1, 3)
RENEWED = 2**14
"""Examples read, after which a file is mapped anew."""
ROUNDING = 1e-4
"""How far 255 times a float32 or float16 pixel may lie from a whole number."""

PARTS = {
    "x": "train", "x_train": "train",
    "x_validation": "validation", "x_valid": "validation", "x_val": "validation",
    "x_test": "test",
}  # fmt: skip
"""The split of each key of an .npz file; labels have the same keys with y."""


def read_npy(path: Path, *, stored: bool = False) -> dict[str, Examples]:
    """The one array of an .npy file, which stays there where it is large or is to be `stored`."""
    stored = stored or is_large(path.stat().st_size)
    array = load_array(path, mapped=stored)
    return {"train": stored_examples(array, None, str(path)) if stored else examples(array, None, str(path))}


def read_npz(path: Path) -> dict[str, Examples]:
    """The splits of an .npz file: x and perhaps y, x_test, y_test, x_validation, y_validation."""
    arrays = load_array(path)
    if len(arrays) == 1:
        arrays = {"x": next(iter(arrays.values()))}  # np.savez(path, array) calls it arr_0
    known = {**PARTS, **{"y" + key[1:]: split for key, split in PARTS.items()}}
    strange = next((key for key in arrays if key not in known), None)
    if strange is not None:
        raise PangenError(
            f"{path} holds an array '{strange}'; name arrays x, y, x_validation, y_validation, x_test, y_test."
        )
    found: dict[str, Examples] = {}
    for key, split in PARTS.items():
        if key not in arrays:
            continue
        if split in found:
            raise PangenError(f"{path} holds two arrays for {split}; keep one, such as '{key}'.")
        found[split] = examples(arrays[key], arrays.get("y" + key[1:]), f"{path}, array '{key}'")
    lonely = next((key for key in arrays if key[0] == "y" and "x" + key[1:] not in arrays), None)
    if lonely is not None or "train" not in found:
        missing = f"'x{lonely[1:]}' beside '{lonely}'" if lonely else "'x' (or 'x_train')"
        raise PangenError(f"{path} holds no array {missing}; add it.")
    return found


def load_array(path: Path, *, mapped: bool = False) -> Any:
    """An array, or for .npz a dictionary of arrays; never a pickle. A `mapped` one is read when it is indexed."""
    zipped = path.suffix.lower() == ".npz"
    with open(path, "rb") as file:
        start = file.read(6)
        if (start != b"\x93NUMPY" and start[:2] != b"PK") or zipped != (start[:2] == b"PK"):
            raise PangenError(f"{path} is no {path.suffix} file, whatever its name says; save it with numpy.")
        file.seek(0)
        try:
            found = np.load(path if mapped else file, mmap_mode="r" if mapped else None, allow_pickle=False)
            if not zipped:
                return found
            size = sum(m.file_size for m in found.zip.infolist())
            UNPACKED.check(size, path)
            check_memory(size, f"the arrays of {path}", "save x as an .npy file, which can stay on disk")
            return {key: found[key] for key in found.files}
        except PangenError:
            raise
        except Exception as error:  # a damaged header makes the parser raise nearly anything
            if "allow_pickle" in str(error):
                raise PangenError(
                    f"{path} holds Python objects, which are not safe to load; save arrays of numbers."
                ) from None
            raise PangenError(f"{path} cannot be read ({_brief(error)}); save it again.") from None


def _brief(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def examples(x: Any, y: Any, source: str) -> Examples:
    """Checked examples from whatever the user has; `source` names it in errors."""
    if isinstance(x, list | tuple) and x and all(_is_pair(row) for row in x):
        if y is not None:
            raise PangenError(
                f"{source} holds pairs of texts, a source and its target each; leave out the labels."
            )
        return Examples("text", tuple(target for _, target in x), tuple(source for source, _ in x))
    if isinstance(x, list | tuple) and x and all(isinstance(row, str) for row in x):
        return Examples("text", tuple(x), None if y is None else label_array(y, len(x), source))
    array = _array(x, source)
    labels = None if y is None or not array.ndim else label_array(y, len(array), source)
    if array.dtype.kind == "U" and array.ndim == 1:
        return Examples("text", tuple(array.tolist()), labels)
    if array.dtype.kind not in "biuf":
        raise PangenError(f"{source} holds values of type {array.dtype}; give real numbers.")
    if array.ndim not in (2, 3, 4) or 0 in array.shape[1:]:
        raise PangenError(f"{source} has shape {array.shape}; {SHAPES}.")
    check_finite(array, source)
    if array.ndim == 2:
        return Examples("vector", float32(array, source), labels)
    return Examples("image", _channels_first(_pixels(array, source), source), labels)


class Mapped:
    """The examples of an array that is on disk; rows are checked when they are read."""

    def __init__(self, array: np.ndarray, name: str) -> None:
        if array.ndim > 2 and array.dtype.kind == "f":
            raise PangenError(
                f"{name} is to stay on disk and holds images of type {array.dtype}; save them as uint8, whole numbers 0 "
                "to 255."
            )
        first = examples(array[:1], None, name)
        self.array, self.name, self.modality = array, name, first.modality
        self.shape = (len(array), *first.x.shape[1:])
        self.facts = f"{array.dtype}"
        self._read = 0

    def read(self, rows: np.ndarray) -> np.ndarray:
        x = np.asarray(self._mapped(len(rows))[rows])
        check_finite(x, self.name, rows)
        if x.ndim == 2:
            return float32(x, self.name, rows)
        return _channels_first(_pixels(x, self.name), self.name)

    def _mapped(self, count: int) -> np.ndarray:
        """The map, to read `count` rows; made anew now and then, for pages that were read would stay resident in it."""
        old = self.array
        if not isinstance(old.base, mmap) or old.mode != "r":  # part of a map, or one that may be written to
            return old
        try:
            if os.path.getsize(old.filename) < old.offset + old.nbytes:
                raise PangenError(f"{self.name} has been cut off since it was looked at; start anew.")
            self._read += count
            if self._read > RENEWED:
                order = "F" if old.flags.f_contiguous and not old.flags.c_contiguous else "C"
                self.array = np.memmap(old.filename, old.dtype, "r", old.offset, old.shape, order)
                self._read = count
        except OSError:
            raise PangenError(f"{self.name} has been moved since it was looked at; start anew.") from None
        return self.array


def stored_examples(array: np.ndarray, y: Any, source: str) -> Examples:
    """The examples of an array that stays on disk; labels are in memory."""
    if not array.ndim or not len(array):
        raise PangenError(f"{source} holds no examples; {SHAPES}.")
    found = Mapped(array, source)
    labels = None if y is None else label_array(y, len(array), source)
    return Examples(found.modality, Stored.of(found), labels)


def _is_pair(row: Any) -> bool:
    return isinstance(row, list | tuple) and len(row) == 2 and all(isinstance(text, str) for text in row)


def _array(x: Any, source: str) -> np.ndarray:
    if isinstance(x, torch.Tensor):
        x = x.detach().cpu()
        return (x.float() if x.dtype == torch.bfloat16 else x).numpy()
    if isinstance(x, list | tuple) and x and all(isinstance(row, torch.Tensor) for row in x):
        x = [_array(row, source) for row in x]
    try:
        array = np.asarray(x)
    except ValueError:
        raise PangenError(
            f"{source} holds rows of different shapes; all examples must be alike: {SHAPES}."
        ) from None
    if array.dtype.kind == "O":
        raise PangenError(f"{source} holds Python objects; give numbers, or a list of strings.")
    return array


def check_finite(array: np.ndarray, source: str, rows: np.ndarray | None = None) -> None:
    """Raise at the first NaN or infinite value, with its row and column; `rows`: which rows of a larger array these are."""
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return
    bad = np.argwhere(~np.isfinite(array))
    row, *rest = bad[0].tolist()
    value = "NaN" if np.isnan(array[tuple(bad[0])]) else "an infinite value"
    place = f"column {rest[0]}" if len(rest) == 1 else f"position {tuple(rest)}"
    row, many = (row, f"{len(bad)} such in all, ") if rows is None else (rows[row], "")
    raise PangenError(
        f"{source} holds {value} at row {row}, {place} ({many}counting from 0); "
        "remove or fill in these values."
    )


def float32(array: np.ndarray, source: str, rows: np.ndarray | None = None) -> np.ndarray:
    """The vectors in 32 bits; raise where a value is too large for them. `rows`: as of `check_finite`."""
    with np.errstate(over="ignore"):
        found = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(found).all():
        row, column = np.argwhere(~np.isfinite(found))[0]
        raise PangenError(
            f"{source} holds {array[row, column]:g} at row {row if rows is None else rows[row]}, column {column}, too large for 32-bit "
            "numbers; rescale the column."
        )
    return found


def _pixels(array: np.ndarray, source: str) -> np.ndarray:
    """Whole numbers 0 to 255 as they are, fractions k / 255 times 255."""
    if array.dtype.kind == "f" and not (array == np.floor(array)).all():
        scaled = array.astype(np.float64) * 255
        whole = np.rint(scaled)
        tolerance = 0.25 if array.dtype == np.float16 else ROUNDING
        if array.min() < 0 or array.max() > 1 or np.abs(scaled - whole).max() > tolerance:
            worst = array.ravel()[np.abs(scaled - whole).argmax()]
            raise PangenError(
                f"{source} holds values such as {worst:.4g}, and pixels are whole numbers 0 to 255 or k / 255: "
                "round them first, or flatten each example to a vector, (N, D)."
            )
        array = whole
    low, high = array.min(initial=0), array.max(initial=0)
    if low < 0 or high > 255:
        raise PangenError(
            f"{source} holds values from {low} to {high}, and pixels are whole numbers 0 to 255: rescale them, "
            "or flatten each example to a vector, (N, D)."
        )
    return np.ascontiguousarray(array, dtype=np.uint8)


def _channels_first(x: np.ndarray, source: str) -> np.ndarray:
    if x.ndim == 3:
        return x[:, None]
    first, last = x.shape[1] in CHANNELS, x.shape[3] in CHANNELS
    if first and last:
        raise PangenError(
            f"{source} has shape {x.shape}, which reads as (N, C, H, W) and as (N, H, W, C); give grey images "
            "as (N, H, W), or flatten to vectors, (N, D)."
        )
    if not first and not last:
        raise PangenError(f"{source} has shape {x.shape}; images have 1 or 3 channels: {SHAPES}.")
    return x if first else np.ascontiguousarray(np.moveaxis(x, 3, 1))


def label_array(y: Any, n: int, source: str) -> np.ndarray:
    """Labels `(N,)`, whole numbers or strings."""
    array = _array(y, f"the labels of {source}")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or len(array) != n:
        raise PangenError(
            f"the labels of {source} have shape {array.shape} for {n} examples; give one label each, ({n},)."
        )
    if array.dtype.kind == "f":
        check_finite(array[:, None], f"the labels of {source}")
        if not (array == np.floor(array)).all():
            fraction = array[array != np.floor(array)][0]
            raise PangenError(
                f"the labels of {source} hold {fraction:g}; labels are whole numbers or strings, one a class."
            )
        array = array.astype(np.int64)
    if array.dtype.kind not in "biuU":
        raise PangenError(f"the labels of {source} are of type {array.dtype}; give whole numbers or strings.")
    return array
