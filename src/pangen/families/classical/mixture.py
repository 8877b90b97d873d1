"""A mixture of Gaussians for each class, fitted by expectation maximisation (Dempster et al. 1977).

Fitted by scikit-learn's `GaussianMixture`. The number of components, the form of their
covariances and the ridge on them are chosen on validation data, the same for all classes. So
that fitting stays within a minute, EM sees at most `POINTS` examples, evenly spaced in the
training split, and candidates that cost more than `WORK` multiplications a round are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pangen.errors import PangenError
from pangen.families.classical.gaussians import log_gaussians
from pangen.model import GenerativeModel
from pangen.samplers.tokens import inverse_cdf
from pangen.settings import Natural
from pangen.space import Batch, LogProb, Space

POINTS, JUDGES, WORK = 20_000, 2000, 1.3e10
COMPONENTS = (1, 2, 4, 8, 16, 32, 64)
RIDGES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.2, 0.4)
MIDDLE = 5
"""Added to every variance, in units of the data's mean variance, and where that search starts."""

Covariance = Literal["full", "diag"]


class Mixture(GenerativeModel):
    """p(x given y) = sum_k w_yk N(x; mu_yk, Sigma_yk); the null condition is the mixture over classes.

    Args:
        components: Gaussians of a class; 0: chosen by `fit_exactly`.
        covariance: full matrices or diagonal ones; "chosen" by `fit_exactly`.
    """

    def __init__(
        self,
        space: Space,
        *,
        components: Natural = 0,
        covariance: Literal["chosen", "full", "diag"] = "chosen",
    ) -> None:
        super().__init__(space)
        self.components, self.covariance = components, covariance
        rows, K, D = max(space.classes, 1), components, space.dims
        self.log_class: Tensor = nn.Buffer(torch.full((rows,), -math.log(rows)))
        self.log_w: Tensor = nn.Buffer(torch.zeros(rows, K))
        self.mean: Tensor = nn.Buffer(torch.zeros(rows, K, D))
        # Sigma = L L^T; of a diagonal one only the diagonal
        self.L: Tensor = nn.Buffer(torch.zeros(rows, K, *((D,) if covariance == "diag" else (D, D))))

    def fit_exactly(self, train: Batch, validation: Batch) -> dict[str, Any]:
        x, classes = train.x.flatten(1), self.space.classes
        groups = [x]
        if classes and train.y is not None:
            counts = torch.bincount(train.y, minlength=classes).float()
            self.log_class = (counts / counts.sum()).log()
            # a class of fewer than two examples borrows those of all
            groups = [x[train.y == c] if counts[c] > 1 else x for c in range(classes)]
        groups = [group[:: math.ceil(len(x) / POINTS)] for group in groups]
        seed = int(torch.randint(2**31, ()))
        every = math.ceil(len(validation.x) / JUDGES)
        xs = validation.x[::every].split(100)
        ys = [None] * len(xs) if validation.y is None else validation.y[::every].split(100)
        unit = float(x.var(0).mean())
        scores: dict[tuple[Covariance, int, int], float] = {}

        def best(covariance: Covariance | None = None) -> tuple[Covariance, int, int]:
            return max((k for k in scores if covariance in (None, k[0])), key=scores.__getitem__)

        def better(covariance: Covariance, K: int, ridge: int) -> bool:
            """Whether a candidate not seen before is the best of its form."""
            key = covariance, K, ridge
            if key in scores:
                return False
            self._em(groups, covariance, K, RIDGES[ridge] * unit, seed)
            scores[key] = sum(float(self.log_prob(*part).nats.sum()) for part in zip(xs, ys, strict=True))
            return best(covariance) == key

        least, asked = min(map(len, groups)), self.components
        if asked > least:
            raise PangenError(
                f"model.components = {asked} is more than the {least} examples of a class; ask for fewer."
            )
        for covariance in ("diag", "full") if self.covariance == "chosen" else (self.covariance,):
            misses = 0
            for K in (asked,) if asked else COMPONENTS:
                work = sum(map(len, groups)) * K * x.shape[1] ** (2 if covariance == "full" else 1)
                if misses == 2 or (not asked and K > 1 and (work > WORK or least < 5 * K)):
                    break
                misses = 0 if better(covariance, K, MIDDLE) else misses + 1
            for step in (1, -1):
                _, K, i = best(covariance)
                while 0 <= i + step < len(RIDGES) and better(covariance, K, i + step):
                    i += step
        covariance, K, i = best()
        self._em(groups, covariance, K, RIDGES[i] * unit, seed)
        return {"components": K, "covariance": covariance}

    def _em(self, groups: list[Tensor], covariance: Covariance, K: int, ridge: float, seed: int) -> None:
        from sklearn.mixture import GaussianMixture

        weights, means, roots = [], [], []
        for x in groups:
            em = GaussianMixture(
                K, covariance_type=covariance, reg_covar=ridge, random_state=seed,
                tol=1e-3 * x.shape[1], max_iter=1000,  # a thousandth of a nat a dimension ends it
            )  # fmt: skip
            em.fit(x.double().numpy())
            sigma = torch.from_numpy(em.covariances_)
            roots.append(sigma.sqrt() if covariance == "diag" else torch.linalg.cholesky(sigma))
            weights.append(torch.from_numpy(em.weights_))
            means.append(torch.from_numpy(em.means_))
        self.components, self.covariance = K, covariance
        self.log_w = torch.stack(weights).log().float()
        self.mean, self.L = torch.stack(means).float(), torch.stack(roots).float()

    def _class_nats(self, x: Tensor, c: int, seen: Tensor | None) -> Tensor:
        """log p(x given class c) `(B,)`, or that of what is seen of x."""
        nats = log_gaussians(x, self.mean[c], self.L[c], seen)
        return (self.log_w[c][:, None] + nats).logsumexp(0)

    def log_prob(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> LogProb:
        return LogProb(self._nats(x.flatten(1), y), "exact")

    def marginal_log_prob(self, x: Tensor, observed: Tensor, y: Tensor | None = None) -> LogProb:
        return LogProb(self._nats(x.flatten(1), y, observed.flatten(1)), "exact")

    def _nats(self, x: Tensor, y: Tensor | None, seen: Tensor | None = None) -> Tensor:
        rows = len(self.log_w)
        y = torch.full((len(x),), self.space.classes, device=x.device) if y is None else y
        asked = range(rows) if bool((y == self.space.classes).any()) else y.unique().tolist()
        # for every example, whatever its class: its number must not depend on its neighbours'
        nats = {c: self._class_nats(x, c, seen) for c in asked}
        joint = x.new_full((len(x), rows + 1), -torch.inf)
        for c in asked:
            joint[:, c] = nats[c]
        joint[:, -1] = (joint[:, :-1] + self.log_class).logsumexp(1)
        return joint.gather(1, torch.where(y == self.space.classes, rows, y)[:, None])[:, 0]

    def trajectory(self, n: int, y: Tensor | None = None, *, generator: torch.Generator) -> Iterator[Tensor]:
        u = torch.rand(2, n, generator=generator, device=self.device)
        z = torch.randn(n, self.space.dims, generator=generator, device=self.device)
        c = inverse_cdf(self.log_class.expand(n, -1), u[0])
        if y is not None:
            c = torch.where(y == self.space.classes, c, y)
        k = inverse_cdf(self.log_w[c], u[1])
        roots = zip(c.tolist(), k.tolist(), z, strict=True)
        noise = [self.L[i, j] * e if self.covariance == "diag" else self.L[i, j] @ e for i, j, e in roots]
        yield (self.mean[c, k] + torch.stack(noise)).view(n, *self.space.shape)
