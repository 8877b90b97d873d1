"""Train on synthetic, test on real: what a classifier learns from samples and their labels.

Ravuri and Vinyals 2019, "Classification accuracy score".
"""

from __future__ import annotations

import torch
from torch import Tensor

CLASSIFIER = "logistic regression"


def synthetic_accuracy(x: Tensor, y: Tensor, real_x: Tensor, real_y: Tensor) -> Tensor:
    """Which real examples `(N,)` a classifier trained on samples `x` `(M, d)`, `y` `(M,)` gets right."""
    if len(y.unique()) == 1:
        return real_y == y[0]
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1.0, max_iter=300).fit(x.numpy(), y.numpy())
    return torch.from_numpy(model.predict(real_x.numpy())) == real_y
