"""Every model by name.

Adding a model is one `Entry` in its family's `__init__`. The conformance suite proves each fact true.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points

from pangen.entry import TAXONOMY, Density, Entry
from pangen.errors import PangenError, unknown
from pangen.families import (
    adversarial,
    autoregressive,
    classical,
    consistency,
    diffusion,
    energy,
    flow,
    latent,
)

FAMILIES = (classical, energy, latent, adversarial, flow, autoregressive, diffusion, consistency)
"""In the order in which they are listed."""


@cache
def entries() -> Mapping[str, Entry]:
    """All models, ours and those installed packages offer in the group "pangen.models"."""
    found = {entry.name: entry for family in FAMILIES for entry in family.MODELS}
    for point in entry_points(group="pangen.models"):
        entry = point.load()
        if not isinstance(entry, Entry):
            raise PangenError(f"the entry point '{point.name}' ({point.value}) is no pangen.registry.Entry.")
        found[entry.name] = entry
    return found


def get(name: str) -> Entry:
    """The entry of a model, or an error that suggests the nearest name."""
    if name not in entries():
        raise unknown("model", name, entries(), hint="`pangen models` lists them.")
    return entries()[name]


__all__ = ["TAXONOMY", "Density", "Entry", "entries", "get"]
