"""Memory: how much is free and how much is held, and requests that cannot be met refused before they are tried."""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pangen.errors import PangenError

if TYPE_CHECKING:
    import torch

GROUP = Path("/sys/fs/cgroup")
"""Where the limit of a container stands."""
KEPT = {-1: 2**30, -3: 2**28}
"""Of the C library's allocator: M_TRIM_THRESHOLD, freed bytes at the heap's end that stay; M_MMAP_THRESHOLD, the
smallest block that has pages of its own, which its end gives back."""


def keep_freed() -> None:
    """Let freed memory stay with the process, unless the environment says otherwise; glibc alone knows how.

    A step of a convolutional network gives back hundreds of megabytes and asks for them again, and the system clears
    each page anew: up to a fifth of the step.
    """
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another system, or another C library
        return
    for parameter, value in KEPT.items():
        mallopt(parameter, value)


def free_memory(device: torch.device | None = None) -> int | None:
    """Bytes that can still be had, of the machine or of an accelerator; None on a system that does not tell."""
    if device is not None and device.type == "cuda":
        import torch

        return torch.cuda.mem_get_info(device)[0]
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        free = int(found[1]) * 1024 if found else os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None
    try:
        most, now = (int((GROUP / name).read_text()) for name in ("memory.max", "memory.current"))
    except (ValueError, OSError):  # there is no limit
        return free
    kept = re.search(r"^inactive_file (\d+)", _read(GROUP / "memory.stat"), re.MULTILINE)
    return min(
        free, most - now + (int(kept[1]) if kept else 0)
    )  # what is kept of files is given up when needed


def used_memory() -> int | None:
    """Bytes that this process holds; None on a system that does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, IndexError):
        return None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def gibibytes(count: float) -> str:
    """In words."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**29 else f"{count / 2**20:.0f} MiB"


def check_memory(need: int, what: str, advice: str) -> None:
    """Raise where `what` needs more bytes than are free."""
    free = free_memory()
    if free is not None and need > free:
        raise PangenError(f"{what} need about {gibibytes(need)} and {gibibytes(free)} are free; {advice}.")


def is_lost(error: BaseException) -> bool:
    """Whether an exception says that an accelerator has stopped to answer."""
    return isinstance(error, RuntimeError) and (
        type(error).__name__ == "AcceleratorError"
        or str(error).startswith(("CUDA error", "HIP error", "MPS error"))
    )


def is_exhausted(error: BaseException) -> bool:
    """Whether an exception says that memory has run out: Python's own, or torch's on any device."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and any(
            words in str(error) for words in ("not enough memory", "can't allocate memory", "out of memory")
        )
    )
