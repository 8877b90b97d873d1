"""Data sets: embedded, known truth, from files, from memory."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pangen.data.dataset import Data, Split, Truth
    from pangen.data.describe import describe_data
    from pangen.data.known import catalogue
    from pangen.data.load import load_data, memory_data

_MODULES = {
    "Data": "dataset",
    "Split": "dataset",
    "Truth": "dataset",
    "catalogue": "known",
    "describe_data": "describe",
    "load_data": "load",
    "memory_data": "load",
}

__all__ = ["Data", "Split", "Truth", "catalogue", "describe_data", "load_data", "memory_data"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:  # torch is imported by what needs it, not by the catalogue
        return getattr(import_module(f"pangen.data.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'pangen.data' has no attribute '{name}'")
