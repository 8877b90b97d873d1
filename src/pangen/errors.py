"""The one exception users meet: what happened, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class PangenError(Exception):
    """A mistake the user can mend, told in one sentence; the command line exits with 2."""


def unknown(what: str, name: str, known: Iterable[str], *, hint: str = "") -> PangenError:
    """The error for a name that does not exist, with the nearest one that does."""
    known = sorted(known)
    near = get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    advice = f"did you mean '{near[0]}'?" if near else hint or f"known: {', '.join(known)}."
    return PangenError(f"unknown {what} '{name}': {advice}")


class DivergedError(PangenError):
    """A training that has lost its way, before that could reach the weights; says at which step."""
