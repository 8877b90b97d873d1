"""Likelihood of held-out data: nats an example, bits/dim, and regret where the truth is known."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pangen.capabilities import HasClassifier
from pangen.data.dataset import Data
from pangen.evaluation.intervals import mean_interval
from pangen.run import Run
from pangen.space import LogProb

WORK = 256_000
"""Dimensions times classes times examples that a comparison scores at most."""


class Examples(NamedTuple):
    """Raw held-out examples and their labels."""

    x: Any
    y: Tensor | None


def examples_compared(data: Data, split: str) -> int:
    """How many held-out examples a comparison computes likelihoods on, at least 300 if there are."""
    dims = data.train.x[0].numel() if isinstance(data.train.x, Tensor) else max(data.window, 64)
    return min(len(data.split(split)), max(WORK // (dims * max(len(data.labels), 1)), 300))


def likelihoods(run: Run, data: Data, examples: Examples, *, seed: int = 0) -> dict[str, Any]:
    """The fields `likelihood`, and where they apply `likelihood_given_label`, `classifier` and `regret`."""
    if reason := run.no_likelihood:
        return {"likelihood": {"none": reason}}
    dims = run.codec.dims(examples.x) / len(examples.x)
    discrete = data.modality != "vector"
    if run.codec.labels:
        joint = run.joint_log_prob(examples.x, seed=seed)
        found = LogProb(joint.nats.logsumexp(1), joint.kind)
    else:
        found = run.log_prob(examples.x, seed=seed)
    fields = {"likelihood": _summary(found.nats, found.kind, dims, discrete)}
    if run.codec.labels and examples.y is not None:
        own = (joint.nats - run.codec.label_log_prior).gather(1, examples.y[:, None])[:, 0]
        fields["likelihood_given_label"] = _summary(own, joint.kind, dims, discrete)
        itself = isinstance(run.model, HasClassifier)
        log_p = run.classify(examples.x, seed=seed) if itself else joint.nats.log_softmax(1)
        right = (log_p.argmax(1) == examples.y).double()
        fields["classifier"] = {
            "value": float(right.mean()),
            "interval": mean_interval(right, "classifier", seed),
            "by": "the model's own p(y given x)" if itself else "Bayes' rule",
            "samples": len(right),
        }
    if data.truth is not None:
        difference = data.truth.log_prob(examples.x).double() - found.nats
        fields["regret"] = {**mean_and_error(difference), "entropy": float(data.truth.entropy)}
    return fields


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
