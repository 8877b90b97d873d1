"""Named data sets whose files the user keeps in `data_home()`."""

from __future__ import annotations

import gzip
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pangen.data.arrays import examples
from pangen.data.assemble import assemble
from pangen.data.dataset import Data, Split, as_splits
from pangen.data.known import KNOWN
from pangen.data.pairs import translations
from pangen.data.series import read_series, series_data
from pangen.data.sound import spoken_digits
from pangen.data.text import WINDOW, read_characters, windows
from pangen.errors import PangenError
from pangen.limits import UNPACKED
from pangen.rng import generator

CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
           "Ankle boot")  # fmt: skip
THINGS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PEOPLE = 40
DAYS = 8
"""Of a series by the hour, in a window if nothing else is asked for."""
TRAIN = 50_000
"""The first of the 60 000 training images train; the rest validate."""


def local_data(
    name: str, *, window: int | None = None, column: str | int = "OT", seconds: float | None = None
) -> Data:
    """The data set of that name."""
    paths = KNOWN[name].paths()
    if name == "multi30k":
        return translations(name, paths)
    if name == "tinyshakespeare":
        return _shakespeare(name, paths[0], window or WINDOW)
    if name.startswith("ett"):
        return _transformer(name, paths[0], window or DAYS * 24, column)
    if name == "fsdd":
        return spoken_digits(name, paths[0], seconds)
    if name == "cifar10-lossless-4k":
        return _cifar(name, paths)
    if name == "olivetti-faces":
        return _faces(name, paths[0])
    if name.startswith("uci-"):
        return _table(name, paths[0])
    return _mnist(name, paths)


def _mnist(name: str, paths: list[Path]) -> Data:
    x, y, test_x, test_y = (_read_idx(path) for path in paths)
    x, test_x = x[:, None], test_x[:, None]
    parts = {
        "train": Split(x[:TRAIN], y[:TRAIN].long()),
        "validation": Split(x[TRAIN:], y[TRAIN:].long()),
        "test": Split(test_x, test_y.long()),
    }
    binary = name.startswith("mnist-binary")
    if binary:
        for split, part in parts.items():
            redraw = split == "train" and name == "mnist-binary-dynamic"
            parts[split] = replace(part, redraw=True) if redraw else replace(part, x=_draw(part.x, split))
    labels = CLOTHES if name == "fashion-mnist" else tuple("0123456789")
    return Data(name, "image", **as_splits(parts), levels=2 if binary else 256, labels=labels)


def _cifar(name: str, paths: list[Path]) -> Data:
    """Pictures of 1024 x 1000 pixels, each of whose rows is an image; the last 500 images test."""
    x, y = torch.cat([_read_rows(path) for path in paths[:-1]]), torch.from_numpy(_read_labels(paths[-1]))
    if len(x) != len(y):
        raise PangenError(f"{paths[-1]} holds {len(y)} labels for {len(x)} images: get the files again.")
    parts = {
        split: Split(images, labels)
        for split, images, labels in zip(
            ("train", "validation", "test"), x.split([3250, 250, 500]), y.split([3250, 250, 500]), strict=True
        )
    }
    return Data(name, "image", **as_splits(parts), levels=256, labels=THINGS)


def _faces(name: str, path: Path) -> Data:
    """Of each person the first seven images train, one validates and two test."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        x = loadmat(path)["faces"].T.reshape(PEOPLE, 10, 64, 64).swapaxes(2, 3)  # stored by columns
    except (OSError, ValueError, KeyError, TypeError, MatReadError) as error:
        raise PangenError(f"{path} cannot be read ({error}): get the file again.") from None
    x, y = torch.from_numpy(x.astype(np.uint8)), torch.arange(PEOPLE)[:, None].expand(-1, 10)
    parts = {
        split: Split(x[:, at].reshape(-1, 1, 64, 64), y[:, at].flatten())
        for split, at in (
            ("train", slice(0, 7)),
            ("validation", slice(7, 8)),
            ("test", slice(8, 10)),
        )
    }
    return Data(
        name, "image", **as_splits(parts), levels=256, labels=tuple(f"person {i}" for i in range(PEOPLE))
    )


def _read_rows(path: Path) -> Tensor:
    from PIL import Image

    try:
        with Image.open(path) as file:
            pixels = np.array(file.convert("RGB"))
        rows = pixels.reshape(1000, 32, 32, 3)
    except (OSError, ValueError) as error:
        raise PangenError(f"{path} cannot be read ({error}): get the file again.") from None
    return torch.from_numpy(np.ascontiguousarray(rows.transpose(0, 3, 1, 2)))


def _read_labels(path: Path) -> np.ndarray:
    try:
        return np.load(path).astype(np.int64)
    except (OSError, ValueError) as error:
        raise PangenError(f"{path} cannot be read ({error}): get the file again.") from None


def _table(name: str, path: Path) -> Data:
    """A table without a header, split 80/10/10 by seed 0."""
    try:
        values = np.loadtxt(path, delimiter=",", ndmin=2)  # decompresses by the ending
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise PangenError(f"{path} cannot be read ({error}): get the file again.") from None
    return assemble(name, {"train": examples(values, None, str(path))}, source=str(path))


def _transformer(name: str, path: Path, window: int, column: str | int) -> Data:
    """The first 12, 4 and 4 months of 30 days (Zhou et al. 2021), one column of them."""
    series = read_series(path, column)
    month = 30 * 24
    if series.values.shape[1] < 20 * month:
        raise PangenError(f"{path} holds {series.values.shape[1]} hours, not 20 months: get the file again.")
    series = replace(series, values=series.values[:, : 20 * month])
    return series_data(name, series, window, ends=(12 * month, 16 * month, 20 * month))


def _draw(grey: Tensor, split: str) -> Tensor:
    """One binary image of each, a pixel being 1 with probability value / 255: always the same one."""
    noise = generator("cpu", "mnist-binary", split)
    drawn = [torch.rand(part.shape, generator=noise) * 255 < part for part in grey.split(5000)]
    return torch.cat(drawn).to(torch.uint8)


def _read_idx(path: Path) -> Tensor:
    """An uint8 array in the IDX format: two zero bytes, type 8, rank, big-endian sizes, values."""
    try:
        with gzip.open(path) as file:
            raw = file.read(UNPACKED.value + 1)
        UNPACKED.check(len(raw), path)
        zero, kind, rank = struct.unpack(">HBB", raw[:4])
        shape = struct.unpack(f">{rank}I", raw[4 : 4 + 4 * rank])
        values = np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)
        if (zero, kind) != (0, 8):
            raise ValueError("it does not start as an IDX file of bytes does")
    except (OSError, EOFError, ValueError, struct.error, zlib.error) as error:
        raise PangenError(f"{path} cannot be read ({error}): get the file again.") from None
    return torch.from_numpy(values.copy())


def _shakespeare(name: str, path: Path, window: int) -> Data:
    """Test is the last tenth, which the literature calls the validation split.

    Validation, which chooses the best weights, is the last twentieth of the rest. Each part is
    cut into windows; characters at its end that fill none are left out.
    """
    text = read_characters(path)
    rest = int(0.9 * len(text))
    train = int(0.95 * rest)
    parts = {
        "train": Split(windows(text[:train], window)),
        "validation": Split(windows(text[train:rest], window)),
        "test": Split(windows(text[rest:], window)),
    }
    for part, split in parts.items():
        if not len(split):
            raise PangenError(
                f"{path}: windows of {window} characters leave none for {part}; choose a smaller window."
            )
    return Data(name, "text", **as_splits(parts), window=window)
