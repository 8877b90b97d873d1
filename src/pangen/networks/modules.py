"""Lists of modules that know what they hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar, cast

from torch import nn

M = TypeVar("M", bound="nn.Module | Sequence[nn.Module]")


def listed(modules: Iterable[M]) -> Sequence[M]:
    """A `nn.ModuleList`, by the type of its entries: torch's own says of each that it is some module."""
    return cast("Sequence[M]", nn.ModuleList(cast("Iterable[nn.Module]", modules)))
