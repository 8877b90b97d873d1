"""Data that comes with the package: scikit-learn's 1797 handwritten digits."""

from __future__ import annotations

import torch

from pangen.data.dataset import Data, Split

SPLIT = (1297, 200, 300)
"""Train, validation and test: fixed, in an order fixed by seed 0."""


def digits() -> Data:
    """1797 images 8x8 with 17 grey levels and 10 classes."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    order = torch.randperm(len(raw.images), generator=torch.Generator().manual_seed(0))
    x = torch.from_numpy(raw.images).to(torch.uint8)[order, None]
    y = torch.from_numpy(raw.target).long()[order]
    parts = [Split(a, b) for a, b in zip(x.split(SPLIT), y.split(SPLIT), strict=True)]
    return Data("digits", "image", *parts, levels=17, labels=tuple("0123456789"))
