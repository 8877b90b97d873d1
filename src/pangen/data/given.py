"""Data however a user hands it over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pangen.data.dataset import Data
from pangen.data.load import load_data, memory_data
from pangen.errors import PangenError


def as_data(data: Any, y: Any = None) -> Data:
    """A `Data` from a name, a path, or what is in memory."""
    if isinstance(data, Data):
        return data
    if isinstance(data, str | Path):
        if y is not None:
            raise PangenError("labels come with a data set by name; give y only with data from memory.")
        return load_data(str(data))
    return memory_data(data, y)
