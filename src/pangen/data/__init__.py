"""Data sets: embedded, known truth, from files, from memory."""

from pangen.data.dataset import Data, Split, Truth
from pangen.data.load import load_data, memory_data

__all__ = ["Data", "Split", "Truth", "load_data", "memory_data"]
