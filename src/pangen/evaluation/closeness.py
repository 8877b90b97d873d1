"""The field `fidelity` of a row: every measure of samples against the same real examples, in the same features."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pangen.errors import PangenError
from pangen.evaluation.features import Features
from pangen.evaluation.fidelity import (
    Pairs,
    class_weights,
    density_coverage,
    frechet_distance,
    frechet_of_moments,
    precision_recall,
    resampled_moments,
)
from pangen.evaluation.intervals import centred_interval, mean_interval
from pangen.evaluation.likelihood import Examples
from pangen.evaluation.two_sample import (
    frechet_extrapolated,
    gaussian,
    mmd,
    polynomial,
    sliced_wasserstein,
    two_sample_hits,
)

NEIGHBOURS = {"precision": 3, "recall": 3, "density": 5, "coverage": 5}
FEWEST = 10
"""Examples without which there is no fidelity."""


class Closeness:
    """Real examples that all models' samples are set against.

    Args:
        features: the coordinates of everything here but near-copies.
        reference: real examples and their conditions.
        shares: how often each class occurs `(classes,)`; None without classes.
        seed: of resampling.
    """

    def __init__(self, features: Features, reference: Examples, shares: Tensor | None, *, seed: int) -> None:
        self.features, self.shares, self.seed = features, shares, seed
        self.real, self.y = features.embed(reference.x), reference.y
        self.hash = hashlib.sha256(self.real.float().contiguous().numpy().tobytes()).hexdigest()[:16]
        self._gaussian, self._first = gaussian(self.real), Pairs(self.real, self.real)

    def measure(self, x: Any, y: Any) -> tuple[dict[str, Any], list[float]]:
        """All measures of raw samples and their conditions, and the resampled Fréchet distances `(RESAMPLES)`."""
        n = min(len(x), len(self.real))
        if n < FEWEST:
            return {"none": f"{n} examples are too few to measure by; {FEWEST} are needed"}, []
        fake, labels = self.features.embed(x[:n]), (self.y, None if y is None else y[:n])
        frechet, replicates = self._frechet(fake, labels[1])
        given: dict[str, Any] = {"labels": labels, "shares": self.shares, "seed": self.seed}
        entries = {"frechet": frechet}
        pairs = Pairs(self.real, fake, self._first)
        pr = precision_recall(pairs, NEIGHBOURS["precision"])
        dc = density_coverage(pairs, NEIGHBOURS["density"])
        for name, values in (
            ("precision", pr.of_samples), ("recall", pr.of_real), ("density", dc.of_samples), ("coverage", dc.of_real),
        ):  # fmt: skip
            entries[name] = self._share(name, values, n, neighbours=NEIGHBOURS[name])
        measures: dict[str, Callable[[], tuple[float, list[float]]]] = {
            "frechet_extrapolated": lambda: frechet_extrapolated(self.real, fake, **given),
            "kernel_distance": lambda: mmd(polynomial(pairs), **given),
            "mmd": lambda: mmd(self._gaussian(pairs), **given),
            "sliced_wasserstein": lambda: sliced_wasserstein(self.real, fake, seed=self.seed),
        }
        for name, of in measures.items():
            value, interval = of()
            entries[name] = {"value": value, "interval": interval, **self._facts(n)}
        hits = two_sample_hits(self.real, fake, seed=self.seed)
        entries["two_sample"] = self._share("two-sample", hits, n, asked=len(hits))
        return entries, replicates

    def frechet(self, x: Any, y: Any) -> dict[str, Any]:
        """That measure alone."""
        n = min(len(x), len(self.real))
        if n < FEWEST:
            raise PangenError(f"{n} examples are too few to measure by; {FEWEST} are needed.")
        return self._frechet(self.features.embed(x[:n]), None if y is None else y[:n])[0]

    def _frechet(self, fake: Tensor, y: Any) -> tuple[dict[str, Any], list[float]]:
        """Weighted as the classes occur."""
        labels = (self.y, y)
        value = frechet_distance(self.real, fake, *(class_weights(ys, self.shares) for ys in labels))
        redrawn = resampled_moments(fake, y, self.shares, "fake", self.seed)
        replicates = frechet_of_moments(*self._resampled, *redrawn)
        found = {"value": value, "interval": centred_interval(value, replicates), **self._facts(len(fake))}
        return found, replicates.tolist()

    @cached_property
    def _resampled(self) -> tuple[Tensor, Tensor]:
        return resampled_moments(self.real, self.y, self.shares, "real", self.seed)

    def _share(self, name: str, values: Tensor, n: int, **facts: Any) -> dict[str, Any]:
        return {**share(values, name, self.seed), **facts, **self._facts(n)}

    def _facts(self, n: int) -> dict[str, Any]:
        return {
            "features": self.features.name,
            "samples": n,
            "reference": len(self.real),
            "reference_hash": self.hash,
        }


def share(values: Tensor, name: str, seed: int, **facts: Any) -> dict[str, Any]:
    """The mean of one value an example, with its interval."""
    values = values.to(torch.float64)
    return {"value": float(values.mean()), "interval": mean_interval(values, name, seed), **facts}
