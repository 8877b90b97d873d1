"""Against a law that is known: nats above it, a test whether samples are of it, and the modes they are in."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pangen.data.dataset import Truth
from pangen.evaluation.features import Features
from pangen.evaluation.fidelity import distances
from pangen.evaluation.intervals import normal_interval, resampling_weights
from pangen.evaluation.two_sample import FEWER
from pangen.rng import generator

LAW_ROW = "the law itself"
PERMUTATIONS = 200
MOST = 1000
"""Examples of each kind that the test takes."""
SCALES, NEIGHBOURS = 4, 5


def against_law(law: Truth, real: Any, x: Any, features: Features, *, seed: int = 0) -> dict[str, Any]:
    """The field `against_law` of raw samples: `apart` of real examples, `modes`, and the share that is `impossible`.

    `apart` is the largest of the maximum mean discrepancies (Gretton et al. 2012) at several scales, from that of
    neighbours to that of all, each in units of its null distribution, which is that of the same
    examples under other names. z is in deviations of this maximum's null distribution, p the share of it that is as large;
    the interval of z is as wide as examples and samples drawn again from themselves make it.
    """
    mode = law.mode(x)
    found = mode[mode >= 0].unique()
    return {
        "apart": {
            **_apart(features.embed(real[:MOST]), features.embed(x[:MOST]), seed),
            "features": features.name,
        },
        "modes": {"found": len(found), "of": law.modes},
        "impossible": float((mode < 0).double().mean()),
    }


def is_product(law: Truth, x: Tensor, few: int = 10) -> bool:
    """Whether the values of an example are independent: log p(x) is the sum of theirs, on the first of raw examples `(N, ...)`."""
    x = x[:few]
    alone = torch.eye(x[0].numel(), dtype=torch.bool).view(-1, *x.shape[1:])
    parts = torch.stack([law.log_prob(x, one) for one in alone]).sum(0)
    return bool(torch.allclose(law.log_prob(x), parts, rtol=0, atol=1e-9))


def _apart(real: Tensor, fake: Tensor, seed: int) -> dict[str, Any]:
    n, m = len(real), len(fake)
    between = distances(*[torch.cat([real, fake])] * 2)
    signs = torch.cat([torch.full((n,), 1 / n), torch.full((m,), -1 / m)]).double()
    orders = [torch.randperm(n + m, generator=generator("cpu", "null", seed, i)) for i in range(PERMUTATIONS)]
    drawn = [resampling_weights(size, FEWER, name, seed) for size, name in ((n, "law"), (m, "samples"))]
    again = torch.cat([drawn[0], -drawn[1]], 1)
    w = torch.stack([signs, *(signs[order] for order in orders)])  # the first row keeps the names
    scales = _scales(between)
    squared = torch.stack([_squared(torch.cat([w, again]), between / s) for s in scales])
    largest = _in_units_of_the_null(squared).amax(0)
    value, null = largest[0], largest[1 : 1 + PERMUTATIONS]
    z = _in_units_of_the_null(largest)
    return {
        "z": float(z[0]),
        "interval": normal_interval(float(z[0]), z[1 + PERMUTATIONS :], least=-math.inf),
        "p": (1 + int((null >= value).sum())) / (1 + len(null)),
        "scales": scales,
        "samples": m,
        "reference": n,
    }


def _squared(w: Tensor, between: Tensor) -> Tensor:
    """Squared discrepancies by a Gaussian kernel, of signed weights `(rows, n + m)`.

    Products are float32: what they round away is a ten-thousandth of the deviation that z is in.
    """
    kernel = (-(between**2) / 2).exp().float()
    return ((w.float() @ kernel).double() * w).sum(1)


def _in_units_of_the_null(values: Tensor) -> Tensor:
    """`(..., 1 + permutations + resamples)`, the first under the true names."""
    null = values[..., 1 : 1 + PERMUTATIONS]
    return (values - null.mean(-1, keepdim=True)) / null.std(-1, keepdim=True).clamp(min=1e-12)


def _scales(between: Tensor) -> list[float]:
    """From the distance of near neighbours to the median distance, by equal ratios; where all are equal, 1."""
    positive = between[between > 0]
    if not len(positive):
        return [1.0]
    near = between.kthvalue(min(NEIGHBOURS + 1, len(between)), dim=1).values.median()
    ends = torch.stack([near.clamp(min=float(positive.min())), positive.median()]).log()
    low, high = ends.tolist()
    return torch.linspace(low, high, SCALES).exp().tolist()
