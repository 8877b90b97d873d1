"""The one exception users meet: what happened, where, and what to do about it."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


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


class LostError(PangenError):
    """A process that works with this one has ended; says which heard it."""


class StorageError(PangenError):
    """A file that could not be written; what its place held before is as it was."""

    def __init__(self, path: Path, error: OSError, what: str = "write") -> None:
        self.why, self.remedy = (
            f"cannot {what} {path}: {error.strerror or error}",
            REMEDIES.get(error.errno or 0, ""),
        )
        super().__init__(f"{self.why}; {self.remedy and self.remedy + ', or '}choose another place with -o.")


REMEDIES = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some space there",
    errno.EFBIG: "allow larger files with `ulimit -f unlimited`",
    errno.EMFILE: "allow more open files with `ulimit -n 1024`",
    errno.ENFILE: "close other programs",
}
"""What helps against refusals of the operating system that have nothing to do with the file asked for."""


def refused(error: OSError) -> PangenError:
    """For a refusal of the operating system that nobody expected where it came."""
    where = f" {error.filename}" if error.filename else ""
    advice = REMEDIES.get(error.errno or 0, "check that file or folder" if where else "check the machine")
    return PangenError(f"the system refused{where}: {error.strerror or error}; {advice}, and try again.")


NO_NUMBERS = "probabilities came out as no numbers: the training diverged, or the run is damaged."
"""What is said of weights that are finite, and what is computed with them is not."""
