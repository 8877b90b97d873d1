"""Small data of every kind, and each model on each kind it claims to accept."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache

import torch

from pangen.codecs import CODECS, Codec, choose_codec
from pangen.codecs.pairs import Pairs
from pangen.data import Data, Split
from pangen.data.dataset import Column
from pangen.data.series import Clock, Series, series_data
from pangen.recipes import DataSpec, Recipe, Training, settings_of
from pangen.registry import Entry, entries

CLASSES = ("a", "b", "c")
SMALL = {
    "width": 16,
    "pairs": 2,
    "channels": 16,
    "train_steps": 1,
    "blocks": 2,
    "latent": 3,
    "codes": 16,
    "chains": 8,
    "sweeps": 10,
    "temperatures": 40,
    "weights": 8,
    "samples": 3,
    "draws": 4,
    "pseudo_inputs": 6,
    "skip": 16,
    "dilations": 2,
    "steps": 4,
}

SMALL_CODEC = {"vocabulary": 258}
FEW = {"batch": 32, "validations": 2, "validation_examples": 16, "warmup": 0}


def _images(n: int, shape: tuple[int, ...], levels: int, generator: torch.Generator) -> Split:
    """Each class is a template; its pixels move by a level now and then."""
    y = torch.randint(len(CLASSES), (n,), generator=generator)
    templates = torch.randint(levels, (len(CLASSES), *shape), generator=torch.Generator().manual_seed(7))
    noise = torch.randint(levels, (n, *shape), generator=generator)
    keep = torch.rand(n, *shape, generator=generator) < 0.8
    return Split(torch.where(keep, templates[y], noise).to(torch.uint8), y)


def _vectors(n: int, dims: int, generator: torch.Generator) -> Split:
    y = torch.randint(len(CLASSES), (n,), generator=generator)
    return Split(3.0 * y[:, None] + torch.randn(n, dims, generator=generator) * torch.arange(1, dims + 1), y)


TABLE = (
    Column("kind", ("x", "y")),
    Column("many", ("p", "q", "r")),
    Column("few", points=(0.0, 2.5)),
    Column("any"),
)


def _table(n: int, generator: torch.Generator) -> Split:
    """Each class has its own mean; one cell of ten is missing."""
    y = torch.randint(len(CLASSES), (n,), generator=generator)
    kind, few = torch.randint(2, (2, n), generator=generator)
    x = torch.stack([kind, (y + kind) % 3, 2.5 * few, 3 * y + torch.randn(n, generator=generator)], 1)
    return Split(torch.where(torch.rand(n, 4, generator=generator) < 0.1, math.nan, x), y)


def _text(n: int, window: int, generator: torch.Generator) -> Split:
    lengths = torch.randint(1, 9, (n,), generator=generator).tolist()
    starts = torch.randint(5, (n,), generator=generator).tolist()
    return Split(tuple(("abcde" * 4)[s : s + (window or m)] for s, m in zip(starts, lengths, strict=True)))


def _series(name: str, columns: int, window: int, generator: torch.Generator) -> Data:
    """Seasons of four steps, a walk, and noise."""
    steps = torch.arange(400)
    walk = 0.1 * torch.randn(columns, 400, generator=generator).cumsum(1)
    values = torch.sin(math.pi * steps / 2) + walk + 0.2 * torch.randn(columns, 400, generator=generator)
    names = tuple(f"column {i}" for i in range(columns))
    return series_data(name, Series(values, names, Clock()), window)


def _pairs(n: int, generator: torch.Generator) -> Split:
    """Each text is another backwards."""
    y = _text(n, 0, generator).x
    return Split(tuple(text[::-1] for text in y), y)


def _sound(n: int, window: int, generator: torch.Generator) -> Split:
    """Each class is a pitch; clips start anywhere in their wave."""
    y = torch.randint(len(CLASSES), (n,), generator=generator)
    phase = torch.rand(n, generator=generator).tolist()
    lengths = torch.randint(3, 16, (n,), generator=generator).tolist()
    waves = zip(y.tolist(), phase, lengths, strict=True)
    return Split(
        tuple((torch.arange(window or m) * (0.3 + 0.3 * c) + 6 * p).sin() / 2 for c, p, m in waves), y
    )


@cache
def data(name: str) -> Data:
    """160 training and 40 validation and test examples."""
    generator = torch.Generator().manual_seed(0)
    sizes = (160, 40, 40)
    match name.split("-"):
        case ["image", shape, levels]:
            parts = [_images(n, tuple(map(int, shape.split("x"))), int(levels), generator) for n in sizes]
            return Data(name, "image", *parts, levels=int(levels), labels=CLASSES)
        case ["vector", dims]:
            return Data(name, "vector", *[_vectors(n, int(dims), generator) for n in sizes], labels=CLASSES)
        case ["table"]:
            return Data(name, "table", *[_table(n, generator) for n in sizes], labels=CLASSES, table=TABLE)
        case ["sound", window]:
            return Data(
                name, "sound", *[_sound(n, int(window), generator) for n in sizes], window=int(window), rate=8000,
                labels=CLASSES,
            )  # fmt: skip
        case ["text", window]:
            return Data(name, "text", *[_text(n, int(window), generator) for n in sizes], window=int(window))
        case ["captions", shape, levels]:
            parts = [_images(n, tuple(map(int, shape.split("x"))), int(levels), generator) for n in sizes]
            parts = [replace(part, y=tuple(f"class {CLASSES[c]}" for c in part.y.tolist())) for part in parts]
            return Data(name, "image", *parts, levels=int(levels))
        case ["pairs"]:
            return Data(name, "text", *[_pairs(n, generator) for n in sizes])
        case ["series", shape]:
            columns, window = map(int, shape.split("x"))
            return _series(name, columns, window, generator)
    raise ValueError(name)


DATA = (
    "image-1x5x7-2",
    "image-1x5x7-5",
    "image-3x6x6-4",
    "image-1x17x16-3",
    "vector-2",
    "vector-5",
    "table",
    "text-12",
    "text-0",
    "series-1x12",
    "series-2x6",
    "sound-17",
    "sound-0",
    "pairs",
    "captions-1x5x7-5",
)


ROWS = {("ddpm", "series-2x6"), ("ddpm", "sound-0"), ("consistency", "sound-17")}
"""Models on series and sound in real numbers, the second and the third by a U-Net of one side."""


@dataclass(frozen=True)
class Case:
    """One model behind one codec on one data set."""

    entry: Entry
    codec_name: str
    data_name: str
    network: str = ""
    """Another than the model takes by itself."""

    def __str__(self) -> str:
        network = f"-{self.network}" if self.network else ""
        return f"{self.entry.name}{network}-{self.codec_name}-{self.data_name}"

    @property
    def data(self) -> Data:
        return data(self.data_name)

    @property
    def codec(self) -> Codec:
        return choose_codec(self.entry, self.data, name=self.codec_name, settings=self.codec_settings)

    @property
    def codec_settings(self) -> dict[str, int]:
        """Small ones, of those that the codec has."""
        return {k: v for k, v in SMALL_CODEC.items() if k in CODECS[self.codec_name].settings()}

    def recipe(self, steps: int = 40, **training: object) -> Recipe:
        known = settings_of(self.entry.name).__dataclass_fields__
        chosen = {"network": self.network} if self.network else {}
        defaults = {k: v for k, v in self.entry.load().training_defaults.items() if k != "steps"}
        return Recipe.from_json(
            {
                "data": DataSpec(name=self.data_name),
                "codec": {"name": self.codec_name, **self.codec_settings},
                "model": {
                    "name": self.entry.name,
                    **{k: v for k, v in SMALL.items() if k in known},
                    **chosen,
                },
                "training": Training(**{**defaults, **FEW, "steps": steps, **training}),
                "conditional": self.entry.conditional and bool(self.data.labels or self.data.captioned),
                "chunk": 8,
            }
        )


CASES = [
    Case(entry, codec, name)
    for entry in entries().values()
    for codec in entry.codecs
    for name in DATA
    if CODECS[codec].applies(data(name))
    and (name != "pairs" or issubclass(CODECS[codec], Pairs))
    and (name != "captions-1x5x7-5" or entry.name in ("ddpm", "edm", "vae"))  # others as these
    and not (name == "image-1x17x16-3" and entry.family in ("autoregressive", "classical"))
    and not (name == "image-1x17x16-3" and entry.family == "flow" and codec == "grid")
    and not (name == "image-1x17x16-3" and entry.name in ("score", "flow-matching"))  # as edm
    and not (name == "image-1x17x16-3" and entry.name == "masked-diffusion")  # it does not convolve
    and not (codec in ("columns", "waveform") and (entry.name, name) not in ROWS)  # as these
]
CASES += [
    Case(entries()["edm"], *where, "dit") for where in (("grid", "image-3x6x6-4"), ("columns", "series-2x6"))
]
"""Every model on every kind of data it accepts; the larger image is for those that convolve."""
ONE_EACH = [next(case for case in CASES if case.entry is entry) for entry in entries().values()]
