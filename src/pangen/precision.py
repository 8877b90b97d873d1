"""Which floating-point numbers a run computes with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

Precision = Literal["float32", "float64"]


@contextmanager
def precision(name: Precision) -> Iterator[None]:
    """Make new tensors, and with them noise, codes and weights, of this type."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, name))
    try:
        yield
    finally:
        torch.set_default_dtype(before)
