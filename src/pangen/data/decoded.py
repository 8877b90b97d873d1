"""Examples that are files, or lie in files, of their own: each is decoded when it is asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np

from pangen.data.dataset import Modality
from pangen.data.stored import evenly
from pangen.errors import PangenError

PROBED = 500
"""Examples, evenly spread, that say what all are like."""


class Files(Protocol):
    """Encoded examples by their number."""

    name: str
    facts: str

    def __len__(self) -> int: ...

    def called(self, row: int) -> str:
        """What one is called in errors."""
        ...

    def decode(self, row: int) -> np.ndarray:
        """An image uint8 `(C, H, W)` or a vector float32 `(D,)`. Raises `PangenError`."""
        ...


class Decoded:
    """All examples of some files, each as large as the others; grey images among coloured ones are made coloured."""

    def __init__(self, files: Files) -> None:
        self.files, self.name, self.facts = files, files.name, files.facts
        rows = evenly(len(files), PROBED).tolist()
        shapes: list[tuple[int, ...]] = [()] * len(rows)

        def look(i: int) -> None:
            shapes[i] = files.decode(rows[i]).shape

        _each(look, len(rows))
        self.example = max(shapes, key=lambda shape: (len(shape) == len(shapes[0]), shape[0]))
        self.shape = (len(files), *self.example)
        self.modality: Modality = "image" if len(self.example) == 3 else "vector"
        for row, shape in zip(rows, shapes, strict=True):
            self._check(row, shape)

    def read(self, rows: np.ndarray) -> np.ndarray:
        x = np.empty((len(rows), *self.example), np.uint8 if self.modality == "image" else np.float32)

        def fill(i: int) -> None:
            found = self.files.decode(int(rows[i]))
            self._check(int(rows[i]), found.shape)
            x[i] = found

        _each(fill, len(rows))
        return x

    def _check(self, row: int, shape: tuple[int, ...]) -> None:
        if shape == self.example:
            return
        where, example = self.files.called(row), self.example
        if len(shape) != len(example) or len(shape) == 1:
            raise PangenError(f"{where} has shape {shape} and others {example}; all examples must be alike.")
        if shape[1:] != example[1:]:
            first, second = (f"{h}x{w}" for _, h, w in (example, shape))
            raise PangenError(
                f"images differ in size: {where} is {second} and others {first} (height x width); scale all of them with "
                f"--size, such as --size {first}."
            )
        if shape[0] > example[0]:
            raise PangenError(
                f"{where} is in colour, and the {min(PROBED, len(self.files))} images that were looked at first are grey; "
                "save all of them in colour, or all grey."
            )


def _each(work: Callable[[int], None], n: int) -> None:
    """`work` of each number below `n`, by a thread for each processor: decoders of images let go of the interpreter."""
    stretches = [
        range(part[0], part[-1] + 1)
        for part in np.array_split(np.arange(n), os.cpu_count() or 1)
        if len(part)
    ]

    def several(stretch: range) -> None:
        for i in stretch:
            work(i)

    with ThreadPoolExecutor(len(stretches)) as pool:
        list(pool.map(several, stretches))
