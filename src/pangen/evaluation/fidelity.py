"""How near samples are to real data, in a feature space: `(N, d)` float64 against `(M, d)`."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cached_property
from typing import NamedTuple, overload

import torch
from torch import Tensor

from pangen.evaluation.intervals import resampling_weights

RESAMPLES = 200


class PerExample(NamedTuple):
    """What each example contributes to a pair of metrics; the metrics are the means."""

    of_samples: Tensor
    """Precision or density `(M,)`, one value a sample."""
    of_real: Tensor
    """Recall or coverage `(N,)`, one value a real example."""


def frechet_distance(
    real: Tensor, fake: Tensor, real_weights: Tensor | None = None, fake_weights: Tensor | None = None
) -> float:
    """Squared Fréchet distance between Gaussians fitted to two sets (Dowson and Landau 1982).

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)); Heusel et al. 2017 brought it to samples. Weights
    `(N,)` and `(M,)` sum to one.
    """
    return float(frechet_of_moments(*moments(real, real_weights), *moments(fake, fake_weights)))


@overload
def class_weights(y: Tensor | None, shares: Tensor | None, drawn: Tensor) -> Tensor: ...
@overload
def class_weights(y: Tensor | None, shares: Tensor | None, drawn: None = None) -> Tensor | None: ...
def class_weights(y: Tensor | None, shares: Tensor | None, drawn: Tensor | None = None) -> Tensor | None:
    """Weights `(N,)` under which the classes `y` `(N,)` have the given shares `(classes,)`.

    A small draw of real data has its classes in other shares by chance; left alone, that moves
    the mean of all features more than most models do. `drawn` `(..., N)` are weights to start
    from; without classes they are returned as they are.
    """
    if y is None or shares is None:
        return drawn
    start = torch.ones(len(y), dtype=torch.float64) if drawn is None else drawn
    members = torch.nn.functional.one_hot(y, len(shares)).double()
    totals = start @ members
    weights = start * (shares / totals.clamp(min=1e-12))[..., y]
    return weights / weights.sum(-1, keepdim=True)


def moments(x: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean `(d,)` and covariance `(d, d)`, unbiased; `weights` `(n,)` sum to one."""
    w = x.new_full((len(x),), 1 / len(x)) if weights is None else weights
    mean = w @ x
    centred = x - mean
    return mean, (centred * w[:, None]).T @ centred / (1 - (w**2).sum())


def frechet_of_moments(m1: Tensor, S1: Tensor, m2: Tensor, S2: Tensor) -> Tensor:
    """The distance from means `(..., d)` and covariances `(..., d, d)`.

    tr (S1 S2)^(1/2) is the sum of square roots of the eigenvalues of R S2 R with R = S1^(1/2):
    a symmetric problem, without the complex roots that a matrix square root of S1 S2 can meet.
    """
    values, vectors = torch.linalg.eigh(S1)
    R = (vectors * values.clamp(min=0).sqrt().unsqueeze(-2)) @ vectors.mT
    shared = torch.linalg.eigvalsh(R @ S2 @ R).clamp(min=0).sqrt().sum(-1)
    traces = S1.diagonal(dim1=-2, dim2=-1).sum(-1) + S2.diagonal(dim1=-2, dim2=-1).sum(-1)
    return (((m1 - m2) ** 2).sum(-1) + traces - 2 * shared).clamp(min=0)


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances `(N, M)`, exactly 0 between equal rows."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


class Pairs:
    """Real examples `(N, d)` and samples `(M, d)`, with the distances among them, each found once.

    `others`: pairs with the same real examples.
    """

    def __init__(self, real: Tensor, fake: Tensor, others: Pairs | None = None) -> None:
        self.real, self.fake = real, fake
        self._found: dict[Hashable, Tensor] = {} if others is None else others._found

    def of_real_alone(self, what: Hashable, find: Callable[[], Tensor]) -> Tensor:
        """What the real examples decide, whatever the samples: found once for all pairs that have them."""
        if what not in self._found:
            self._found[what] = find()
        return self._found[what]

    @property
    def of_real(self) -> Tensor:
        """`(N, N)`."""
        return self.of_real_alone("distances", lambda: distances(self.real, self.real))

    def reach(self, k: int) -> Tensor:
        """Distance `(N,)` of each real example to its k-th nearest other."""
        return self.of_real_alone(("reach", k), lambda: neighbour_radii(self.of_real, k))

    @cached_property
    def of_fake(self) -> Tensor:
        """`(M, M)`."""
        return distances(self.fake, self.fake)

    @cached_property
    def between(self) -> Tensor:
        """`(N, M)`."""
        return distances(self.real, self.fake)


def neighbour_radii(within: Tensor, k: int) -> Tensor:
    """Distance `(N,)` of each example to its k-th nearest other, of those among all `(N, N)`."""
    return within.kthvalue(min(k + 1, len(within)), dim=1).values  # the nearest is itself


def precision_recall(pairs: Pairs, k: int = 3) -> PerExample:
    """Improved precision and recall (Kynkäänniemi et al. 2019, Eq. 1 to 3).

    Precision: the share of samples within the k-neighbour ball of some real example. Recall: the
    share of real examples within the k-neighbour ball of some sample.
    """
    precise = (pairs.between <= pairs.reach(k)[:, None]).any(0)
    recalled = (pairs.between <= neighbour_radii(pairs.of_fake, k)).any(1)
    return PerExample(precise.double(), recalled.double())


def density_coverage(pairs: Pairs, k: int = 5) -> PerExample:
    """Density and coverage (Naeem et al. 2020, Eq. 3 and 4).

    Density: how many real k-neighbour balls hold a sample, over k. Coverage: the share of real
    examples whose k-neighbour ball holds a sample.
    """
    inside = pairs.between <= pairs.reach(k)[:, None]
    return PerExample(inside.double().sum(0) / k, inside.any(1).double())


def resampled_moments(
    x: Tensor, y: Tensor | None, shares: Tensor | None, *keys: int | str
) -> tuple[Tensor, Tensor]:
    """Means `(RESAMPLES, d)` and covariances `(RESAMPLES, d, d)` of a set that was drawn again from itself.

    The i-th draws the same examples whenever it is asked, so that distances of two models' samples from real ones
    are paired. With `shares` `(classes,)`, sets whose classes are known are weighted to them in each.
    """
    drawn = class_weights(y, shares, resampling_weights(len(x), RESAMPLES, *keys))
    found = [moments(x, w) for w in drawn]
    return torch.stack([m for m, _ in found]), torch.stack([S for _, S in found])
