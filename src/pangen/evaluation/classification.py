"""Classes told by samples, and by probabilities: accuracy, log loss, and whether confidence is deserved."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pangen.evaluation.intervals import centred_interval, mean_interval, resampling_weights

CLASSIFIER = "logistic regression"
BINS = 15
"""Of confidence, equally wide (Guo et al. 2017)."""
RESAMPLES = 500


def synthetic_accuracy(x: Tensor, y: Tensor, real_x: Tensor, real_y: Tensor) -> Tensor:
    """Which real examples `(N,)` a classifier trained on samples `x` `(M, d)`, `y` `(M,)` gets right.

    Train on synthetic, test on real: the "classification accuracy score" of Ravuri and Vinyals 2019.
    """
    if len(y.unique()) == 1:
        return real_y == y[0]
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1.0, max_iter=300).fit(x.numpy(), y.numpy())
    return torch.from_numpy(model.predict(real_x.numpy())) == real_y


def scores(log_p: Tensor, y: Tensor, *keys: int | str) -> dict[str, Any]:
    """How good log p(y given x) `(N, classes)` is of examples whose classes are known.

    `accuracy`, `log_loss` in nats, and `calibration_error`: the mean distance of a bin's accuracy from its mean
    confidence (Naeini et al. 2015), each with a 95 % interval; `reliability` has the bins.
    """
    log_p = log_p.double()
    confidence, chosen = log_p.exp().max(1)
    right = (chosen == y).double()
    loss = -log_p.gather(1, y[:, None])[:, 0]
    place = (confidence * BINS).ceil().long().clamp(1, BINS) - 1  # a bin holds its upper end
    member = torch.nn.functional.one_hot(place, BINS).double()
    off = member * (right - confidence)[:, None]
    error = float((off.sum(0) / len(y)).abs().sum())
    draws = torch.cat(
        [resampling_weights(len(y), 100, *keys, "calibration", i) @ off for i in range(RESAMPLES // 100)]
    )
    return {
        "accuracy": _mean(right, *keys, "accuracy"),
        "log_loss": _mean(loss, *keys, "log loss"),
        "calibration_error": {
            "value": error,
            "interval": centred_interval(error, draws.abs().sum(1)),
            "bins": BINS,
            "samples": len(y),
        },
        "reliability": [
            {
                "from": b / BINS,
                "to": (b + 1) / BINS,
                "samples": int((place == b).sum()),
                "confidence": float(confidence[place == b].mean()),
                "accuracy": float(right[place == b].mean()),
            }
            for b in range(BINS)
            if bool((place == b).any())
        ],
    }


def _mean(values: Tensor, *keys: int | str) -> dict[str, Any]:
    return {
        "value": float(values.mean()),
        "interval": mean_interval(values, *keys, resamples=RESAMPLES),
        "samples": len(values),
    }
