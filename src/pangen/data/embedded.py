"""Data that comes with the package: scikit-learn's 1797 handwritten digits, what is made of them, and toys."""

from __future__ import annotations

from dataclasses import replace
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from pangen.data.dataset import Data, Split, as_splits
from pangen.data.pairs import TOYS, toy_data
from pangen.rng import generator

SPLIT = (1297, 200, 300)
"""Train, validation and test: fixed, in an order fixed by seed 0."""
STACKS = (40_000, 1000, 10_000)
"""The same of `stacked-digits`."""
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CAPTIONS = (
    "a {word}",
    "the digit {digit}",
    "the number {word}",
    "a handwritten {word}",
    "{word}",
    "a picture of a {digit}",
)
THRESHOLD = 8
"""The level, of 0 to 16, from which a pixel of `digits-binary` is 1."""


def embedded_data(name: str) -> Data:
    """`digits`, what is made of them, or pairs of texts that follow a rule."""
    made = {
        "digits": digits, "digits-binary": digits_binary, "stacked-digits": stacked_digits,
        "captioned-digits": captioned_digits,
    }  # fmt: skip
    return toy_data(name) if name in TOYS else made[name]()


def digits() -> Data:
    """1797 images 8x8 with 17 grey levels and 10 classes."""
    # read from where scikit-learn keeps them: to import it takes longer than a small training
    package = Path(cast("str", cast("ModuleSpec", find_spec("sklearn")).origin)).parent
    rows = torch.from_numpy(np.loadtxt(package / "datasets/data/digits.csv.gz", np.uint8, delimiter=","))
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]
    x, y = rows[:, :-1].reshape(-1, 1, 8, 8), rows[:, -1].long()
    train, validation, test = (Split(a, b) for a, b in zip(x.split(SPLIT), y.split(SPLIT), strict=True))
    return Data("digits", "image", train, validation, test, levels=17, labels=tuple("0123456789"))


def digits_binary() -> Data:
    """The digits, the same in each split, as black and white images."""
    grey = digits()
    parts = {
        name: replace(split, x=(split.x >= THRESHOLD).to(torch.uint8))
        for name, split in (("train", grey.train), ("validation", grey.validation), ("test", grey.test))
    }
    return replace(grey, name="digits-binary", levels=2, **as_splits(parts))


def captioned_digits() -> Data:
    """The digits, the same in each split, each with one of six captions, drawn by chance."""
    grey = digits()
    captions = [
        [form.format(word=word, digit=digit) for form in CAPTIONS] for digit, word in enumerate(WORDS)
    ]
    parts = {}
    for name in ("train", "validation", "test"):
        split = grey.split(name)
        drawn = torch.randint(len(CAPTIONS), (len(split),), generator=generator("cpu", "captions", name))
        classes = cast("Tensor", split.y).tolist()
        y = tuple(captions[c][i] for c, i in zip(classes, drawn.tolist(), strict=True))
        parts[name] = replace(split, y=y)
    meanings = {text: digit for digit, texts in enumerate(captions) for text in texts}
    return replace(grey, name="captioned-digits", labels=(), meanings=meanings, **as_splits(parts))


def stacked_digits() -> Data:
    """Three digits of one split, drawn by chance, as the colours of an image: 1000 modes (Metz et al. 2017,
    Section 3.3.1, who stacked MNIST)."""
    grey = digits()
    parts: list[Split] = []
    for split, n in zip((grey.train, grey.validation, grey.test), STACKS, strict=True):
        drawn = torch.randint(len(split), (n, 3), generator=torch.Generator().manual_seed(len(parts)))
        parts.append(Split(split.x[drawn, 0]))
    train, validation, test = parts
    return Data("stacked-digits", "image", train, validation, test, levels=grey.levels)
