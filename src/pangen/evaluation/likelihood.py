"""Likelihood of held-out data: nats an example, bits/dim, and regret where the truth is known."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from pangen.capabilities import HasClassifier
from pangen.data.dataset import Data, Truth
from pangen.evaluation.intervals import mean_interval
from pangen.run import Run
from pangen.space import LogProb

WORK = 256_000
"""Dimensions times classes times examples that a comparison scores at most."""


class Examples(NamedTuple):
    """Raw held-out examples and their conditions."""

    x: Any
    y: Any


def examples_compared(data: Data, split: str) -> int:
    """How many held-out examples a comparison computes likelihoods on, at least 300 if there are."""
    return min(len(data.split(split)), max(WORK // (data.size * max(len(data.labels), 1)), 300))


def likelihoods(run: Run, data: Data, examples: Examples, *, seed: int = 0) -> dict[str, Any]:
    """The field `likelihood`, and where they apply `likelihood_given_label`, `classifier`, `regret`, and `each` example's nats."""
    labels, itself, joint = run.codec.labels, isinstance(run.model, HasClassifier), None
    if reason := run.no_likelihood:
        fields: dict[str, Any] = {"likelihood": {"none": reason}}
    else:
        joint = run.joint_log_prob(examples.x, seed=seed) if labels else None
        fields = _of_likelihood(run, joint, data, examples, seed=seed)
    if labels and examples.y is not None and (itself or joint is not None):
        log_p = run.classify(examples.x, seed=seed) if joint is None or itself else joint.nats.log_softmax(1)
        right = (log_p.argmax(1) == examples.y).double()
        fields["classifier"] = {
            "value": float(right.mean()),
            "interval": mean_interval(right, "classifier", seed),
            "by": "the model's own p(y given x)" if itself else "Bayes' rule",
            "samples": len(right),
        }
    return fields


def _of_likelihood(
    run: Run, joint: LogProb | None, data: Data, examples: Examples, *, seed: int
) -> dict[str, Any]:
    """Of p(x), and of p(x given y) where `joint` is log p(x, y) `(N, labels)`."""
    dims, discrete = run.codec.dims(examples.x) / len(examples.x), data.discrete
    if run.answers:
        found = run.log_prob(examples.x, examples.y, seed=seed)
        return {
            "likelihood": {"none": "it knows p(x given y) alone"},
            "likelihood_given_label": _summary(found.nats, found.kind, dims, discrete),
        }
    if joint is None:
        found = run.log_prob(examples.x, seed=seed)
    else:
        found = LogProb(joint.nats.logsumexp(1), joint.kind)
    fields: dict[str, Any] = {"likelihood": _summary(found.nats, found.kind, dims, discrete)}
    if "none" not in fields["likelihood"]:
        fields["each"] = found.nats.tolist()
    if joint is not None and examples.y is not None:
        own = (joint.nats - run.codec.label_log_prior).gather(1, examples.y[:, None])[:, 0]
        fields["likelihood_given_label"] = _summary(own, joint.kind, dims, discrete)
    if data.truth is not None:
        difference = data.truth.log_prob(examples.x).double() - found.nats
        fields["regret"] = _regret(difference, data.truth.entropy, found.kind)
    return fields


def likelihood_of_the_law(data: Data, examples: Examples) -> dict[str, Any]:
    """The same fields of the law behind the data: no regret, and `surprise`, how far its mean is from the entropy here."""
    truth = cast("Truth", data.truth)
    nats = truth.log_prob(examples.x)
    dims = sum(x.numel() if isinstance(x, Tensor) else len(x) for x in examples.x) / len(examples.x)
    return {
        "likelihood": _summary(nats, "exact", dims, data.discrete),
        "regret": _regret(nats - nats, truth.entropy, "exact"),
        "surprise": mean_and_error(-nats - truth.entropy),
    }


def _regret(difference: Tensor, entropy: float, kind: str) -> dict[str, Any]:
    """The mean of log p_true(x) - log p(x), paired: its error is that of the difference, far below that of either."""
    if not torch.isfinite(difference).all():
        bad = int((~torch.isfinite(difference)).sum())
        return {"none": f"log-probability is not finite on {bad} of {len(difference)} held-out examples"}
    return {**mean_and_error(difference), "entropy": float(entropy), "kind": kind}


def bits_per_dim(nats: float, dims: float) -> float:
    """Bits for each of `dims` discrete dimensions, from mean nats of log-probability an example."""
    return -nats / (math.log(2) * dims)


def mean_and_error(nats: Tensor) -> dict[str, float]:
    """Mean and its standard error."""
    values = nats.double()
    error = float(values.std() / math.sqrt(len(values))) if len(values) > 1 else math.nan
    return {"nats": float(values.mean()), "stderr": error}


def _summary(nats: Tensor, kind: str, dims: float, discrete: bool) -> dict[str, Any]:
    if not torch.isfinite(nats).all():
        bad = int((~torch.isfinite(nats)).sum())
        return {"none": f"log-probability is not finite on {bad} of {len(nats)} held-out examples"}
    summary = mean_and_error(nats)
    return {
        **summary,
        "kind": kind,
        "bits_per_dim": bits_per_dim(summary["nats"], dims) if discrete else None,
        "dims": dims,
        "examples": len(nats),
    }
