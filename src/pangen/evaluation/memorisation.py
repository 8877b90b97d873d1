"""Memorisation: samples nearer to training examples than unseen real data is, and traces of who was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pangen.evaluation.intervals import LEVEL, mean_interval
from pangen.rng import generator

ALPHA = 0.01
"""Share of unseen real examples that may be called near-copies."""
NEIGHBOURS = 50
"""Training examples whose mean distance is what a nearest distance is set against (Carlini et al. 2023)."""
EQUAL = 1e-30
"""Ratios below are of equals."""
ROWS = 256
FEW = 64
"""Dimensions up to which distances are computed in float64."""
CLOSEST, BESIDE = 6, 3
"""Samples that a report shows, and training examples beside each."""


@dataclass(frozen=True)
class Nearest:
    """The nearest training examples of each of some examples."""

    ratio: Tensor
    """Distance to the nearest over the mean distance to the next `NEIGHBOURS - 1` `(N,)`; 0 for a copy."""
    index: Tensor
    """Of the `BESIDE` nearest, nearest first `(N, BESIDE)`."""


def nearest(x: Tensor, train: Tensor) -> Nearest:
    """Of rows `(N, d)` among the rows of `train` `(M, d)`."""
    found, index = _neighbours(x, train, min(NEIGHBOURS, len(train)))
    first, others = found[:, 0], found[:, 1:].mean(1)
    # a training example that occurs k times is at distance 0 from its copy k times
    ratio = torch.where(first > 0, first / others.clamp(min=1e-30), 0.0)
    return Nearest(ratio, index[:, :BESIDE])


def _neighbours(x: Tensor, among: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The distances of rows `(N, d)` to the k nearest of others `(M, d)`, and which these are, both `(N, k)`; nearest first.

    The first distance is exact. By matrix products the others lose digits, the fewer the nearer the rows are to the origin.
    """
    kind, centre = x.dtype, among.mean(0)
    x, among = x - centre, among - centre
    if x.shape[1] <= FEW:  # there many are so near that only more digits tell them apart
        x, among = x.double(), among.double()
    squares = among.square().sum(1)
    found = [torch.addmm(squares, part, among.T, alpha=-2).topk(k, largest=False) for part in x.split(ROWS)]
    index = torch.cat([part.indices for part in found])
    rest = torch.cat([part.values for part in found])[:, 1:] + x.square().sum(1, keepdim=True)
    first = torch.linalg.vector_norm(x - among[index[:, 0]], dim=1, keepdim=True)
    return torch.cat([first, rest.clamp(min=0).sqrt()], 1).to(kind), index


def copy_threshold(held_out: Tensor, alpha: float = ALPHA) -> float:
    """What the ratios `(n,)` of a share `alpha` of unseen real examples are below.

    The j-th smallest of n, with j = alpha (n + 1) rounded down: an unseen example of the same law is
    below it with probability j / (n + 1), whatever the law; j is at least 1, so that of few examples
    the rate is 1 / (n + 1).
    """
    return float(held_out.sort().values[max(int(alpha * (len(held_out) + 1)), 1) - 1])


def false_positive_rate(n: int, alpha: float = ALPHA) -> float:
    """What `copy_threshold` of `n` examples promises, to within ties."""
    return max(int(alpha * (n + 1)), 1) / (n + 1)


class Memory:
    """What unseen real data looks like to the training split: the measure of near-copies and of membership.

    Args:
        train: training examples as coordinates `(M, d)`.
        unseen: real examples `(n, d)` that no training saw; thresholds come from them.
        seed: of resampling.
        near: whether nearness counts, or equality alone, as where the unseen follow another law by now.
    """

    def __init__(self, train: Tensor, unseen: Tensor, *, seed: int = 0, near: bool = True) -> None:
        self.train, self.unseen, self.seed = train, unseen, seed
        ratios = nearest(unseen, train).ratio
        # where unseen examples repeat training examples, so do more than `ALPHA` of honest samples: then only equals count
        self.threshold = max(copy_threshold(ratios), EQUAL) if near else EQUAL
        equal = float((ratios < EQUAL).double().mean())
        self.rate = max(false_positive_rate(len(unseen)), equal) if near else equal
        order = torch.randperm(len(train), generator=generator("cpu", "members", seed))
        self._members = train[order[: len(unseen)]]

    def copies(self, x: Tensor) -> tuple[dict[str, Any], Nearest]:
        """The share of near-copies among samples `(N, d)` with its interval, and what they are nearest to."""
        found = nearest(x, self.train)
        copied = (found.ratio < self.threshold).double()
        return {
            "value": float(copied.mean()),
            "interval": mean_interval(copied, "copies", self.seed),
            "threshold": self.threshold,
            "alpha": self.rate,
            "by": "nearest distance over the mean of the next",
        }, found

    def membership(self, x: Tensor) -> dict[str, Any]:
        """How well nearness to samples `(N, d)` tells training examples from unseen ones (Chen et al. 2020)."""
        members, others = (-_neighbours(part, x, 1)[0][:, 0] for part in (self._members, self.unseen))
        return {**auc(members, others), "by": "distance to the nearest sample"}


def auc(members: Tensor, others: Tensor) -> dict[str, Any]:
    """P(score of a member > score of another), and its 95 % interval (DeLong et al. 1988); .5 tells nothing."""
    members, others = members.double(), others.double()
    m, n = len(members), len(others)
    ordered = others.sort().values.contiguous()
    below, upto = (torch.searchsorted(ordered, members, right=right) for right in (False, True))
    of_members = (below + upto).double() / (2 * n)
    ordered = members.sort().values.contiguous()
    below, upto = (torch.searchsorted(ordered, others, right=right) for right in (False, True))
    of_others = 1 - (below + upto).double() / (2 * m)
    value = float(of_members.mean())
    half = 1.96 * float(of_members.var() / m + of_others.var() / n) ** 0.5
    if half == 0:  # all or nothing leaves no spread: the reach of a share that was never seen otherwise
        half = 1 - (1 - LEVEL) ** (1 / min(m, n))
    interval = [max(value - half, 0.0), min(value + half, 1.0)]
    return {"value": value, "interval": interval, "members": m, "others": n}
