"""The coordinates in which samples are set against real data, learnt from the training split alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from pangen.data.dataset import Column, Data
from pangen.errors import PangenError
from pangen.evaluation.kind import check_kind
from pangen.evaluation.networks import Network, applied, network_of
from pangen.evaluation.sound import log_mel
from pangen.networks.linear import Linear
from pangen.rng import generator, seed_of
from pangen.run import Run, as_run
from pangen.threads import threads

Lent = Run | str | Path | Network
"""What lends its features: a run of a `vit` or `cnn`, or its folder; `imagenet`; a network's file, or a function."""
WIDEST = 32
FEW_PIXELS = 64
"""Images of no more have principal components, that keep most of them."""
GRAMS = 256
"""Most frequent training bigrams and trigrams that describe a text."""
TRIGRAMS = 512
"""Counters that all trigrams of a text are spread over, where texts are looked for copies."""
TURNS = 4
"""Ways to turn an image, that a network is taught to tell apart where there are no labels."""
Task = Callable[[Tensor, Any], tuple[Tensor, Tensor]]
"""Images and their labels to what a network sees, and the classes that it tells apart."""
FITTED_ON = 10_000
"""Training examples that principal components and n-grams are found on, at most."""


@dataclass(frozen=True)
class Features:
    """A fixed map from raw examples to vectors `(N, dims)` float64, and its exact name."""

    name: str
    dims: int
    embed: Callable[[Any], Tensor]


def flatten(data: Data, raw: Any) -> Tensor:
    """Raw examples as plain coordinates `(N, D)` float32.

    Texts are counted trigrams; grey levels are scaled to [0, 1]; sound becomes log-mel spectrograms; other numbers to the training split's mean 0 and deviation 1;
    of tables, words and missing cells are indicators.
    """
    if data.modality == "sound":
        return log_mel(raw, data.rate)
    if data.modality == "text":
        return _trigrams(raw)
    if data.modality == "image":
        return raw.flatten(1).float() / (data.levels - 1)
    if data.modality == "table":
        columns = zip(data.table, data.train.x.T, raw.T, strict=True)
        return torch.cat([_column(*each) for each in columns], 1)
    train = data.train.in_memory().x.double()
    std = train.std(0, correction=0)
    return ((raw.double() - train.mean(0)) / torch.where(std > 0, std, 1.0)).float().flatten(1)


def _column(column: Column, train: Tensor, raw: Tensor) -> Tensor:
    """Of a table's column `(N,)`: an indicator for each word, or a standardised number, 0 where it is missing; and an
    indicator of that, where it occurs."""
    missing, seen = raw.isnan(), train[~train.isnan()].double()
    if column.words:
        values = (raw[:, None] == torch.arange(len(column.words), device=raw.device)).float()
    else:
        std = float(seen.std(correction=0)) or 1.0
        values = ((raw.double() - seen.mean()) / std).nan_to_num(0.0).float()[:, None]
    return torch.cat([values, missing[:, None].float()], 1) if len(seen) < len(train) else values


def coordinates(data: Data) -> str:
    """What `flatten` gives, in a user's words."""
    named = {
        "image": "pixels",
        "table": "standardised numbers and indicators",
        "sound": "log-mel spectrograms",
        "text": "character trigrams",
    }
    return named.get(data.modality, "standardised coordinates")


def choose_features(data: Data, examples: int) -> Features:
    """The features for this kind of data: at most 32, and at most a fifth of `examples`."""
    most = max(min(WIDEST, examples // 5), 1)
    train = data.train.in_memory().first(FITTED_ON).all(generator("cpu", "features"))[0]
    if data.modality == "text":
        return _ngrams(train, most)
    if data.modality == "image" and len(data.labels) > 1 and data.train.y is not None:
        return _taught(data, most, f"{data.name} classifier", len(data.labels), lambda x, y: (x, y))
    if data.modality == "image" and data.size > FEW_PIXELS:
        return _taught(data, most, f"{data.name} self-supervised by turns", TURNS, _turned)
    if data.modality == "vector" and data.shape[0] <= most:
        return Features("standardised coordinates", data.shape[0], lambda raw: flatten(data, raw).double())
    what = coordinates(data)
    project, dims = _principal(flatten(data, train).double(), most)
    return Features(
        f"principal components of {what}, {dims}-d", dims, lambda raw: project(flatten(data, raw).double())
    )


def features_of(lent: Lent, data: Data, examples: int) -> Features:
    """What a trained network knows of examples: its features' leading principal components."""
    most = max(min(WIDEST, examples // 5), 1)
    train = data.train.in_memory().first(FITTED_ON).all(generator("cpu", "features"))[0]
    known: Callable[[Any], Tensor]
    found = None if isinstance(lent, Run) else network_of(lent)
    if found is None:
        run = as_run(cast("Run | str | Path", lent))
        check_kind(run, data)
        name, known = f"{run.entry.name} trained on {run.recipe.data.name}", run.features
    else:
        if data.modality != "image":
            raise PangenError(
                f"a network sees images, and '{data.name}' holds {data.modality.removesuffix('s')}s: leave the features out."
            )
        name, known = found[0], partial(applied, found[1], levels=data.levels)
    project, dims = _principal(known(train), most)
    return Features(f"{name}, principal components, {dims}-d", dims, lambda raw: project(known(raw)))


def _principal(x: Tensor, most: int) -> tuple[Callable[[Tensor], Tensor], int]:
    """Projection on the leading principal components of `x` `(N, D)`."""
    mean = x.mean(0)
    values, vectors = torch.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    dims = max(min(most, int((values > 1e-10 * values[-1]).sum())), 1)
    basis = vectors[:, -dims:].flip(1)
    return lambda new: (new - mean) @ basis, dims


def _ngrams(train: tuple[str, ...], most: int) -> Features:
    counts: Counter[str] = Counter()
    for text in train:
        counts.update(_grams(text))
    index = {gram: i for i, (gram, _) in enumerate(counts.most_common(GRAMS))}

    def frequencies(texts: tuple[str, ...]) -> Tensor:
        width = max(len(index), 1)
        known = [[index[gram] for gram in _grams(text) if gram in index] for text in texts]
        return _shares(known, texts, width).sqrt()  # variance-stabilising: rare grams count as well

    project, dims = _principal(frequencies(train), most)
    name = f"frequencies of {len(index)} character bigrams and trigrams, principal components, {dims}-d"
    return Features(name, dims, lambda texts: project(frequencies(texts)))


def _trigrams(texts: Sequence[str]) -> Tensor:
    """Roots of the shares of all trigrams, each in the counter that its hash names: rare ones count too."""
    hashed = []
    for text in texts:
        codes = np.frombuffer(f"\0\0{text}".encode("utf-32-le", "surrogatepass"), dtype=np.int32).astype(
            np.int64
        )
        index = (codes[:-2] * 31 + codes[1:-1]) * 31 + codes[2:]
        hashed.append(index * 2654435761 % 2**32 % TRIGRAMS)
    return _shares(hashed, texts, TRIGRAMS).float().sqrt()


def _shares(rows: Sequence[Any], texts: Sequence[str], width: int) -> Tensor:
    """How often each number below `width` occurs in the row of each text, over the text's length `(texts, width)` float64."""
    lengths = torch.tensor([len(row) for row in rows])
    columns = torch.from_numpy(np.concatenate([np.asarray(row, dtype=np.int64) for row in rows]))
    place = torch.arange(len(rows)).repeat_interleave(lengths) * width + columns
    counts = torch.bincount(place, minlength=len(rows) * width).view(len(rows), width).double()
    return counts / torch.tensor([[max(len(text), 1)] for text in texts])


def _grams(text: str) -> list[str]:
    return [text[i : i + n] for n in (2, 3) for i in range(len(text) - n + 1)]


class _Classifier(nn.Module):
    """Two convolutions (the second halves the image, once more where it is large), then `dims` features."""

    def __init__(self, shape: tuple[int, ...], dims: int, classes: int) -> None:
        super().__init__()
        C, H, W = shape
        first = 2 if min(H, W) >= 16 else 1
        self.convolutions = nn.Sequential(
            nn.Conv2d(C, 16, 3, first, 1), nn.GELU(), nn.Conv2d(16, 32, 3, 2, 1), nn.GELU(), nn.Flatten()
        )
        with torch.no_grad():
            width = self.convolutions(torch.zeros(1, *shape)).shape[1]
        # a fixed length for every example: else the few the network is surest of rule the covariance;
        # of few dimensions a fixed length would leave little but signs
        length = nn.LayerNorm(dims, elementwise_affine=False) if dims >= 8 else nn.Identity()
        self.features = nn.Sequential(Linear(width, dims), length)
        self.head = nn.Sequential(nn.GELU(), Linear(dims, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(self.convolutions(x)))


def _turned(x: Tensor, _: Any) -> tuple[Tensor, Tensor]:
    """Images, each turned, and how: by quarters where they are square (Gidaris et al. 2018), else by halves and mirrors."""
    way = torch.randint(TURNS, (len(x),))
    square = x.shape[2] == x.shape[3]
    ways = [
        torch.rot90(x, i, (2, 3)) if square else x.flip([d for d, bit in ((2, 1), (3, 2)) if i & bit])
        for i in range(TURNS)
    ]
    return torch.stack(ways)[way, torch.arange(len(x))], way


def _taught(data: Data, dims: int, name: str, classes: int, task: Task, *, steps: int = 500, batch: int = 128) -> Features:  # fmt: skip
    """Last hidden layer of a small convolutional classifier, standardised on the training split.

    `task` makes of images and their labels what the classifier sees, and the classes it tells apart.
    """
    top = data.levels - 1
    with torch.random.fork_rng(devices=[]), threads(1):
        torch.manual_seed(seed_of("feature classifier"))
        net = _Classifier(data.shape, dims, classes)
        optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
        train = data.train.in_memory()
        for _ in range(steps):
            x, y = task(*train.take(torch.randint(len(train), (batch,))))
            loss = nn.functional.cross_entropy(net(x.float() / top), y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()

    @torch.no_grad()
    def hidden(raw: Tensor) -> Tensor:
        parts = [net.features(net.convolutions(part.float() / top)) for part in raw.split(500)]
        return torch.cat(parts).double()

    seen = hidden(data.train.in_memory().first(FITTED_ON).all(generator("cpu", "features"))[0])
    mean, std = seen.mean(0), seen.std(0).clamp(min=1e-6)
    return Features(f"{name}, {dims}-d", dims, lambda raw: (hidden(raw) - mean) / std)
