"""Small models and data whose evaluation is known beforehand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pangen.data.dataset import Data, Split
from pangen.evaluation import features
from pangen.model import GenerativeModel
from pangen.registry import Entry, entries
from pangen.rng import generator
from pangen.space import Batch, LogProb, Loss, Progress, Space


class NormalTruth:
    """Independent standard normals in two dimensions."""

    entropy = math.log(2 * math.pi * math.e)
    modes = 1

    def log_prob(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        each = -(x.double() ** 2) / 2 - math.log(2 * math.pi) / 2
        return (each if seen is None else each[:, seen]).sum(1)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.randn(n, 2, generator=generator)

    def mode(self, x: Tensor) -> Tensor:
        return torch.zeros(len(x), dtype=torch.long)


def normal_data() -> Data:
    """Known truth; the training split has mean 0 and deviation 1 exactly, so its codec is the identity."""
    parts = [NormalTruth().sample(n, generator("cpu", "normal", n)) for n in (400, 150, 200)]
    parts[0] = (parts[0] - parts[0].mean(0)) / parts[0].std(0, correction=0)
    return Data("normal", "vector", *(Split(x) for x in parts), truth=NormalTruth())


def image_data() -> Data:
    """Three classes of 4x4 images with 5 grey levels: a bright row, with noise."""
    parts = []
    for n in (180, 60, 90):
        g = generator("cpu", "images", n)
        y = torch.randint(3, (n,), generator=g)
        x = torch.randint(0, 2, (n, 1, 4, 4), generator=g)
        x[torch.arange(n), 0, y] += 3
        parts.append(Split(x.to(torch.uint8), y))
    return Data("rows", "image", *parts, levels=5, labels=("top", "upper", "lower"))


class Oracle(GenerativeModel):
    """The law of `normal_data` itself, scaled by `scale`."""

    def __init__(self, space: Space, *, scale: float = 1.0) -> None:
        super().__init__(space)
        self.register_buffer("scale", torch.tensor(scale))

    def fit_exactly(self, train: Batch, validation: Batch) -> dict[str, Any]:
        return {}

    def log_prob(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> LogProb:
        return LogProb(NormalTruth().log_prob(x / self.scale) - 2 * self.scale.log(), "exact")

    def trajectory(
        self, n: int, y: Any = None, *, generator: torch.Generator, **how: Any
    ) -> Iterator[Tensor]:
        yield torch.randn(n, 2, generator=generator) * self.scale


class Memory(GenerativeModel):
    """Gives back its training examples, or `junk`."""

    def __init__(self, space: Space, *, n: int = 1) -> None:
        super().__init__(space)
        self.register_buffer("seen", torch.zeros(n, *space.shape))

    def fit_exactly(self, train: Batch, validation: Batch) -> dict[str, Any]:
        self.seen = train.x.clone()
        return {"n": len(train.x)}

    def trajectory(
        self, n: int, y: Any = None, *, generator: torch.Generator, **how: Any
    ) -> Iterator[Tensor]:
        yield self.seen[torch.randint(len(self.seen), (n,), generator=generator)]


class Mean(GenerativeModel):
    """The mean of each class and noise about it, found by steps."""

    selection = "loss"

    def __init__(self, space: Space, *, noise: float = 0.3) -> None:
        super().__init__(space)
        self.noise, self.mean = noise, nn.Embedding(space.classes + 1, space.dims)

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        y = batch.y if batch.y is not None else torch.full((len(batch.x),), self.space.classes)
        return Loss(((batch.x.flatten(1) - self.mean(y)) ** 2).mean())

    def trajectory(
        self, n: int, y: Any = None, *, generator: torch.Generator, **how: Any
    ) -> Iterator[Tensor]:
        y = torch.full((n,), self.space.classes) if y is None else y
        x = self.mean(y) + self.noise * torch.randn(n, self.space.dims, generator=generator)
        yield x.view(n, *self.space.shape).clamp(-1, 1)


class Broken(Mean):
    """Its loss is not a number from the third step on."""

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        found = super().loss(batch, progress)
        return Loss(found.total * math.nan) if progress.step > 2 else found


class Buggy(Mean):
    """Cannot be sampled, without having said so."""

    def trajectory(
        self, n: int, y: Any = None, *, generator: torch.Generator, **how: Any
    ) -> Iterator[Tensor]:
        raise IndexError("row 7")


def entry(name: str, cls: str, codecs: tuple[str, ...], **facts: Any) -> Entry:
    facts = {"density": "none", "reason": "no density", **facts}
    return Entry(
        name, facts.pop("family", "latent"), f"evaluation_fakes:{cls}", "a fake", "nobody", codecs, **facts
    )


IMAGE, VECTOR = ("grid",), ("standardise",)
FAKES = {
    "oracle": entry("oracle", "Oracle", VECTOR, density="exact", capabilities=("log_prob", "closed_form")),
    "wide": entry(
        "wide",
        "Oracle",
        VECTOR,
        density="exact",
        capabilities=("log_prob", "closed_form"),
        family="classical",
    ),
    "memory": entry("memory", "Memory", (*IMAGE, *VECTOR), capabilities=("closed_form",)),
    "mean": entry("mean", "Mean", IMAGE, conditional=True),
    "broken": entry("broken", "Broken", IMAGE, conditional=True),
    "buggy": entry("buggy", "Buggy", IMAGE, conditional=True),
    "codes": entry("codes", "Mean", IMAGE, samples=False, sampling="none: no prior"),
}


@contextmanager
def quick_fakes() -> Iterator[None]:
    """For fixtures that serve several tests: the fakes stand in the registry, and features come of a few steps."""
    with pytest.MonkeyPatch.context() as patch:
        for name, fake in FAKES.items():
            patch.setitem(entries(), name, fake)
        patch.setattr(features, "_taught", partial(features._taught, steps=5))
        yield
