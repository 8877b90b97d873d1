"""A generative model as a classifier: p(y given x), also where some of x is missing."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pangen.capabilities import HasClassifier, HasMarginal
from pangen.data.dataset import Split
from pangen.data.given import as_data
from pangen.errors import PangenError
from pangen.evaluation.classification import scores
from pangen.evaluation.kind import check_kind, data_of
from pangen.rng import chunks, generator
from pangen.run import Run, as_run

DONORS = 10_000
"""Training examples that imputation looks at, at most."""
ROWS = 256


class Classified(NamedTuple):
    """What a run makes of examples."""

    log_p: Tensor
    """log p(y given x) `(N, classes)`."""
    labels: tuple[str, ...]
    facts: dict[str, Any]
    """Model, data, how it was found and, where the classes are known, `classification.scores`."""


def classify(
    run: Run | str | Path,
    data: Any = None,
    *,
    split: str = "test",
    missing: float = 0.0,
    imputations: int = 5,
    examples: int | None = None,
    seed: int = 0,
) -> Classified:
    """The class of each example by a run that was trained with labels.

    Args:
        run: a `Run` or its folder.
        data: a name, a path, a `Data` or an array; None: the data it was trained on. Without labels nothing is scored.
        split: train, validation or test.
        missing: share of the pixels or features that are hidden, each by chance.
        imputations: training examples that lend what is missing, one after the other, to a model that has no
            marginals; p(y given x) is the mean.
        examples: how many, from the first; None: all.
        seed: decides what is hidden, and noise.

    Raises:
        PangenError: the run knows no labels or no probabilities, or the data is of another kind.
    """
    run = as_run(run)
    if not run.codec.labels:
        raise PangenError(
            f"this {run.entry.name} was trained without labels; fit a conditional one on labelled data."
        )
    found = data_of(run) if data is None else as_data(data)
    if not 0 <= missing < 1:
        raise PangenError(f"a share of {missing:g} cannot be missing; give one from 0 to less than 1.")
    if imputations < 1 or (examples is not None and examples < 1):
        raise PangenError("imputations and examples are whole numbers of at least 1.")
    part = found.split(split)
    check_kind(run, found if found.labels else replace(found, labels=run.codec.labels))
    x, y = (part if examples is None else part.first(examples)).all(generator("cpu", "classify", split))
    if len(x) == 0:
        raise PangenError(f"the {split} split of '{found.name}' is empty; take another with --split.")
    facts: dict[str, Any] = {
        "model": run.entry.name, "data": found.name, "split": split, "examples": len(x),
        "by": "the model's own p(y given x)" if isinstance(run.model, HasClassifier) else "Bayes' rule",
        "missing": missing,
    }  # fmt: skip
    if missing == 0:
        log_p = run.classify(x, seed=seed)
    else:
        donors = found.split("validation" if split == "train" else "train")
        log_p, facts["missing_values"] = _partly(run, x, missing, donors, imputations, seed)
    facts["times_chosen"] = dict(
        zip(run.codec.labels, log_p.argmax(1).bincount(minlength=log_p.shape[1]).tolist(), strict=True)
    )
    if found.labels and isinstance(y, Tensor):
        facts |= scores(log_p, y, "classify", seed)
    return Classified(log_p, run.codec.labels, facts)


def _partly(
    run: Run, x: Any, missing: float, donors: Split, imputations: int, seed: int
) -> tuple[Tensor, str]:
    """log p of the labels where a share of x is hidden, and what became of that."""
    if not isinstance(x, Tensor) or run.codec.space.shape != tuple(x.shape[1:]):
        raise PangenError("pixels and features alone can be missing: of images and vectors as they are.")
    observed = shown(x, missing, seed)
    if isinstance(run.model, HasMarginal):
        return run.classify(x, observed, seed=seed), "marginalised exactly"
    lent = donors.first(DONORS).all(generator("cpu", "classify", "donors"))[0]
    copies = imputed(x, observed, lent, imputations)
    log_p = torch.stack([run.classify(copy, seed=seed) for copy in copies])
    return log_p.logsumexp(0) - math.log(len(copies)), f"imputed from the {len(copies)} nearest examples"


def shown(x: Tensor, missing: float, seed: int) -> Tensor:
    """What stays of each example, of an image whole pixels: bool like x; that of the i-th depends on (seed, i) alone."""
    shape = (1, *x.shape[2:]) if x.dim() == 4 else x.shape[1:]
    rows = [
        (torch.rand(ROWS, *shape, generator=noise) >= missing)[: stop - start]
        for start, stop, noise in chunks(len(x), ROWS, "cpu", "missing", seed)
    ]
    return torch.cat(rows).expand(x.shape)


def imputed(x: Tensor, observed: Tensor, donors: Tensor, count: int) -> Tensor:
    """Copies of x `(count, N, ...)`, each with what is missing from another of the nearest training examples.

    Near in what is observed, each feature in units of its standard deviation (of pixels, as they are). The
    donors stand for draws of what is missing given the rest, and p(y given the rest) is the mean over these.
    """
    flat, pool, seen = x.flatten(1).float(), donors.flatten(1).float(), observed.flatten(1).float()
    scale = pool.std(0).clamp(min=1e-6) if x.dim() == 2 else torch.ones(pool.shape[1])
    centre = pool.mean(0)
    a, b = (flat - centre) / scale * seen, (pool - centre) / scale
    nearest = []
    for rows, mask in zip(a.split(ROWS), seen.split(ROWS), strict=True):
        square = mask @ b.square().T - 2 * rows @ b.T  # but for the length of what is seen, the same for all
        nearest.append(square.topk(min(count, len(pool)), largest=False).indices)
    found = donors[torch.cat(nearest).T]
    return torch.where(observed, x, found)
