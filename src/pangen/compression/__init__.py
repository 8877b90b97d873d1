"""Likelihoods as files: lossless compression by a model's probabilities."""

from pangen.compression.archive import compress, decompress

__all__ = ["compress", "decompress"]
