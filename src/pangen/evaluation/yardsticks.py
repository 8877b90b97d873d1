"""What stands beside the models in every table: real data, and five ways to cheat a metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pangen.data.dataset import Data
from pangen.evaluation.features import Features
from pangen.evaluation.fidelity import distances
from pangen.evaluation.likelihood import Examples
from pangen.rng import generator

REAL_ROW = "held-out real data"
INDEPENDENT = "independent values"
CHEATS = (
    "copies of the training set", "real, one half missing", "one good example repeated", INDEPENDENT, "noise",
)  # fmt: skip
NEIGHBOURS = 5


def cheats(data: Data, held_out: Examples, copies: Examples, features: Features, n: int) -> list[Examples]:
    """As `CHEATS` names them: what stands in the place of `n` samples, by nobody's honest work.

    Args:
        data: the data set.
        held_out: real examples that the reference does not hold.
        copies: examples of the training split.
        features: in which an example is good, or far from others.
        n: rows of those that can have any number.
    """
    told = features.embed(held_out.x)
    mean = told.mean(0)
    leading = torch.linalg.eigh((told - mean).T @ (told - mean)).eigenvectors[:, -1]
    along = (told - mean) @ leading
    half = (along <= along.median()).nonzero()[:, 0]
    radii = distances(told, told).topk(min(NEIGHBOURS + 1, len(told)), largest=False).values[:, -1]
    best = radii.argmin().repeat(n)
    rows = torch.arange(n) % len(copies.x)
    source = taken(copies, rows)
    return [
        copies,
        taken(held_out, half),
        taken(held_out, best),
        Examples(_independent(source), source.y),
        Examples(_noise(data, source.x), source.y),
    ]


def taken(examples: Examples, index: Tensor) -> Examples:
    """Those at `index` `(n,)`."""

    def of(values: Any) -> Any:
        return values if values is None else _at(values, index)

    return Examples(of(examples.x), of(examples.y))


def _at(values: Any, index: Tensor) -> Any:
    return values[index] if isinstance(values, Tensor) else tuple(values[i] for i in index.tolist())


def _independent(examples: Examples) -> Any:
    """Each value drawn by itself as it occurs at its place, within its class: right in all marginals, blind to the rest.

    Texts and clips have no places: theirs are drawn from all of their values.
    """
    g = generator("cpu", "yardstick", "independent")
    x, y = examples
    if not isinstance(x, Tensor):
        return _rewritten(x, lambda n, pool: pool[torch.randint(len(pool), (n,), generator=g)])
    classes = y if isinstance(y, Tensor) else torch.zeros(len(x), dtype=torch.long)
    flat, out = x.flatten(1), torch.empty_like(x.flatten(1))
    for c in classes.unique():
        rows = (classes == c).nonzero()[:, 0]
        order = torch.rand(len(rows), flat.shape[1], generator=g).argsort(0)
        out[rows] = flat[rows].gather(0, order)
    return out.view_as(x)


def _noise(data: Data, x: Any) -> Any:
    """Uniform over all grey levels, over each coordinate's range or words, over all characters, or white sound as loud as the data."""
    g = generator("cpu", "yardstick", "noise")
    if not isinstance(x, Tensor):
        if data.modality == "sound":
            return _rewritten(x, lambda n, pool: torch.randn(n, generator=g) * pool.std())
        letters = torch.tensor(sorted({ord(c) for text in x for c in text} or {ord(" ")}))
        return _rewritten(x, lambda n, _: _any_of(letters, n, g))
    if data.levels:
        return torch.randint(data.levels, x.shape, generator=g).to(x.dtype)
    train = data.train.in_memory().x
    low, high = (train.nan_to_num(end).aminmax(dim=0)[i] for i, end in enumerate((math.inf, -math.inf)))
    drawn = low + (high - low) * torch.rand(x.shape, generator=g, dtype=x.dtype)
    for i, column in enumerate(data.table):
        if values := column.points or tuple(range(len(column.words))):
            drawn[:, i] = _any_of(torch.tensor(values, dtype=x.dtype), len(x), g)
    return torch.where(x.isnan(), x, drawn)


def _any_of(values: Tensor, n: int, g: torch.Generator) -> Tensor:
    return values[torch.randint(len(values), (n,), generator=g)]


def _rewritten(items: Sequence[Any], draw: Any) -> tuple[Any, ...]:
    """Texts or clips of the same lengths, their values drawn by `draw(n, pool)` from the pool of all."""
    if isinstance(items[0], str):
        pool = torch.tensor([ord(c) for text in items for c in text] or [ord(" ")])
        return tuple("".join(map(chr, draw(len(text), pool).tolist())) for text in items)
    pool = torch.cat(list(items))
    return tuple(draw(len(clip), pool).clamp(-1, 1) for clip in items)
