"""A model's capability card: torch-free facts, so that listing models is instant."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pangen.model import GenerativeModel

Density = Literal["exact", "lower bound", "estimate", "none"]

CODEC_SPACES = {
    "binary": ("binary images",),
    "grid": ("binary images", "grey and colour images"),
    "levels": ("binary images", "grey and colour images"),
    "dequantise": ("binary images", "grey and colour images"),
    "standardise": ("vectors",),
    "cells": ("tables",),
    "scale": ("series of one column",),
    "columns": ("series",),
    "quantise": ("series",),
    "characters": ("text",),
    "bytes": ("text",),
    "bpe": ("text",),
    "words": ("text",),
    "mulaw": ("sound",),
    "waveform": ("sound",),
    "character-pairs": ("pairs of texts",),
    "bpe-pairs": ("pairs of texts",),
}
"""What each codec accepts, in a user's words."""


@dataclass(frozen=True)
class Entry:
    """One model's capability card."""

    name: str
    family: str
    target: str
    """Where the class is: "module:Class"."""
    summary: str
    paper: str
    codecs: tuple[str, ...]
    """Codecs it works behind, the preferred first."""
    density: Density
    reason: str = ""
    """Why there is no density, or when it is weaker than `density` says."""
    capabilities: tuple[str, ...] = ()
    """Names from `capabilities.CAPABILITIES`."""
    sampling: str = "1 pass"
    """Network evaluations for a sample."""
    samples: bool = True
    """False: it cannot be sampled on its own, and says why."""
    conditional: bool = False
    """Whether it can be conditioned on a class."""
    captions: bool = False
    """Whether it can be conditioned on a text that describes the example."""
    chains: bool = False
    """Whether samples are the ends of Markov chains, which may not have mixed."""
    showcase: bool = False
    """Whether `compare` takes it unasked."""

    @property
    def spaces(self) -> tuple[str, ...]:
        """The kinds of data it accepts, in a user's words."""
        return tuple(dict.fromkeys(s for codec in self.codecs for s in CODEC_SPACES[codec]))

    def load(self) -> type[GenerativeModel]:
        """Import the class."""
        module, _, attribute = self.target.partition(":")
        return getattr(import_module(module), attribute)


IMAGES = ("binary", "grid")
TAXONOMY = {
    "exact": "explicit density, exact",
    "lower bound": "explicit density, approximate",
    "estimate": "explicit density, approximate",
    "none": "implicit density",
}
