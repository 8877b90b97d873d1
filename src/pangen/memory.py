"""Memory: how much is free, and requests that cannot be met refused before they are tried."""

from __future__ import annotations

import os

from pangen.errors import PangenError


def check_memory(need: int, what: str, advice: str) -> None:
    """Raise where `what` needs more bytes than are free."""
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # a system that does not tell
        return
    if need > free:
        raise PangenError(
            f"{what} need about {need / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free; {advice}."
        )


def is_exhausted(error: BaseException) -> bool:
    """Whether an exception says that memory has run out: Python's own, or torch's on any device."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and any(
            words in str(error) for words in ("not enough memory", "can't allocate memory", "out of memory")
        )
    )
