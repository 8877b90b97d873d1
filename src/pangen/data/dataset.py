"""A data set as it is in the world, before any codec: its splits, labels, and known truth."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict

import numpy as np
import torch
from torch import Tensor

from pangen.data.stored import Stored
from pangen.errors import unknown

if TYPE_CHECKING:
    from pangen.data.series import Series

Modality = Literal["image", "vector", "table", "text", "series", "sound"]
SPLITS = ("train", "validation", "test")
REAL = frozenset({"vector", "table", "series"})
"""Modalities whose values are, or may be, real numbers: they have densities."""


class Truth(Protocol):
    """The law a known-truth set was drawn from."""

    @property
    def entropy(self) -> float:
        """Of one example, in nats (differential entropy where the examples are real-valued)."""
        ...

    @property
    def modes(self) -> int:
        """Parts that can be told apart, such as the components of a mixture."""
        ...

    def log_prob(self, x: Any, seen: Tensor | None = None) -> Tensor:
        """Exact log p(x) in nats `(B,)` of raw examples, as `Split.x` holds them, or of what is `seen` of them."""
        ...

    def mode(self, x: Any) -> Tensor:
        """The mode of each raw example `(B,)`, from 0; -1 where p is 0."""
        ...

    def sample(self, n: int, generator: torch.Generator) -> Any:
        """`n` raw examples."""
        ...


DECIMALS = 4
"""A number has few decimals if there are no more."""


@dataclass(frozen=True)
class Column:
    """One column of a table: a category where it has `words`, else a number."""

    name: str
    words: tuple[str, ...] = ()
    points: tuple[float, ...] = ()
    """All values of a number that has few, in rising order; empty: any number may come."""
    decimals: int | None = None
    """Of a number whose values all have few; None: as many as seven digits leave."""

    def cell(self, value: float) -> str:
        """As a file has it: empty where it is missing."""
        if value != value:  # NaN
            return ""
        if self.words:
            return self.words[int(value)]
        if self.decimals is None:
            return f"{value:.7g}"
        return f"{round(value, self.decimals) + 0.0:.{self.decimals}f}"  # no zero has a sign


def written(table: tuple[Column, ...], raw: Tensor) -> list[list[str]]:
    """Rows of a table as a file has them."""
    return [[column.cell(v) for column, v in zip(table, row, strict=True)] for row in raw.tolist()]


@dataclass(frozen=True)
class Split:
    """Raw examples and their conditions.

    `x`: images uint8 `(N, C, H, W)` in {0 .. levels - 1}; vectors float32 `(N, D)`; tables float32 `(N, columns)`, of
    categories the index of the word, NaN where a cell is missing; series
    float32 `(N, columns, window)`; text a tuple of strings; sound a tuple of float32 `(T,)` in [-1, 1]; images and vectors larger than
    memory a `Stored`, which reads them when they are asked for. `y`: labels int64 `(N,)`, a tuple of texts that the examples answer to or that
    describe them, or None. With `redraw`, `x` holds grey values 0..255 and each
    reading draws a binary image, a pixel being 1 with probability value / 255.
    """

    x: Any
    y: Tensor | tuple[str, ...] | None = None
    redraw: bool = False

    def __len__(self) -> int:
        return len(self.x)

    @property
    def stored(self) -> bool:
        """Whether its examples are on disk until they are asked for."""
        return isinstance(self.x, Stored)

    def in_memory(self) -> Split:
        """This split; of stored examples a fixed sample, spread evenly over it."""
        return Split(self.x.sample, self.conditions(self.x.seen)) if self.stored else self

    def places(self, index: Sequence[int]) -> list[int]:
        """Where examples of `in_memory()` stand in this split."""
        return self.x.seen[torch.tensor(index, dtype=torch.long)].tolist() if self.stored else list(index)

    def take(self, index: Tensor, generator: torch.Generator | None = None) -> tuple[Any, Any]:
        """Raw examples and conditions at `index` `(B,)`."""
        y = self.conditions(index)
        if isinstance(self.x, tuple):
            return tuple(self.x[i] for i in index.tolist()), y
        x = self.x[index]
        if self.redraw:
            x = torch.bernoulli(x.float() / 255, generator=generator).to(torch.uint8)
        return x, y

    def conditions(self, index: Tensor) -> Tensor | tuple[str, ...] | None:
        """Conditions alone at `index` `(B,)`."""
        y = tuple(self.y[i] for i in index.tolist()) if isinstance(self.y, tuple) else self.y
        return y[index] if isinstance(y, Tensor) else y

    def all(self, generator: torch.Generator | None = None) -> tuple[Any, Any]:
        """Every example, in order. Raises `PangenError` where stored ones do not fit into memory."""
        if self.stored:
            return self.x.whole(), self.y
        return self.take(torch.arange(len(self)), generator)

    def first(self, n: int) -> Split:
        """The first `n` examples."""
        return replace(self, x=self.x[:n], y=None if self.y is None else self.y[:n])


class Splits(TypedDict):
    """The three splits of a data set."""

    train: Split
    validation: Split
    test: Split


def as_splits(parts: Mapping[str, Split]) -> Splits:
    """The three splits by the names that `Data` has for them."""
    return {"train": parts["train"], "validation": parts["validation"], "test": parts["test"]}


@dataclass(frozen=True)
class Data:
    """A data set with its three splits, fixed by a recorded seed and fingerprint."""

    name: str
    modality: Modality
    train: Split
    validation: Split
    test: Split
    levels: int = 0
    """Grey levels of images; 0: real values. Text finds its vocabulary in its codec."""
    labels: tuple[str, ...] = ()
    """Names of the classes; empty for unlabelled data."""
    meanings: Mapping[str, int] = field(default_factory=dict)
    """Where examples have texts beside them: the class that each of these speaks of, where that is known."""
    table: tuple[Column, ...] = ()
    """Columns of a table of categories and numbers."""
    truth: Truth | None = None
    alphabet: str | None = None
    """The characters a text can have, where that is known; None: any character may come."""
    window: int = 0
    """Steps of the windows a series, or characters of those a text was cut into; 0: each example is a line.
    Sound: samples in each clip; 0: clips differ in length."""
    rate: int = 0
    """Sound: samples a second."""
    series: Series | None = None
    """What the windows of a series were cut from."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What `load_data` was told beside the name: enough to load the same data again."""
    notes: tuple[str, ...] = ()
    """Problems found on loading, each one sentence."""
    columns: tuple[str, ...] = ()
    """Names of the coordinates of vectors, where they have some."""
    encoder: str = ""
    """The folder of the run whose codes are modelled in the place of the examples; empty: they themselves."""
    raw_name: str = ""
    """Of data with an encoder: what the data itself is called."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one raw example; `(window,)` for text and sound."""
        return (self.window,) if isinstance(self.train.x, tuple) else tuple(self.train.x.shape[1:])

    @property
    def size(self) -> int:
        """Values in one example, about as many as there are in the largest."""
        if not isinstance(self.train.x, tuple):
            return math.prod(self.shape)
        return max(map(len, self.train.x)) if self.modality == "sound" else max(self.window, 64)

    @property
    def pairs(self) -> bool:
        """Whether each text answers to another."""
        return self.modality == "text" and isinstance(self.train.y, tuple)

    @property
    def captioned(self) -> bool:
        """Whether each example, which is no text, has one beside it."""
        return self.modality != "text" and isinstance(self.train.y, tuple)

    def classes(self, y: Tensor | tuple[str, ...] | None) -> Tensor | None:
        """The class of each condition `(N,)`: itself, or what a text speaks of; None where that is not known."""
        if not isinstance(y, tuple):
            return y
        known = all(text in self.meanings for text in y)
        return torch.tensor([self.meanings[text] for text in y]) if known else None

    @property
    def discrete(self) -> bool:
        """Whether its examples have probabilities, and not densities."""
        return self.modality not in REAL

    def split(self, name: str) -> Split:
        """One of train, validation and test; raises `PangenError` for another name."""
        if name not in SPLITS:
            raise unknown("split", name, SPLITS)
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]

    @property
    def fingerprint(self) -> str:
        """A hash over the content of all splits, of stored examples over names, sizes and a fixed sample; 16 hexadecimal
        digits."""
        digest = hashlib.sha256(f"{self.modality} {self.levels} {self.labels}".encode())
        for split in (self.train, self.validation, self.test):
            if split.stored:
                digest.update(f"{split.x.shape} {split.x.source.facts}".encode())
                digest.update(np.ascontiguousarray(split.x.sample.numpy()).tobytes())
            elif isinstance(split.x, Tensor):
                digest.update(str(tuple(split.x.shape)).encode())
                digest.update(np.ascontiguousarray(split.x.numpy()).tobytes())
            elif self.modality == "sound":
                digest.update(f"{self.rate} {[len(clip) for clip in split.x]}".encode())
                digest.update(b"".join(clip.numpy().tobytes() for clip in split.x))
            else:
                digest.update("\0".join(split.x).encode())
            if isinstance(split.y, tuple):
                digest.update("\0".join(("", *split.y)).encode())
            elif split.y is not None:
                digest.update(np.ascontiguousarray(split.y.numpy()).tobytes())
        return digest.hexdigest()[:16]
