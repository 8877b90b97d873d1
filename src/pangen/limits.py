"""How much an input may claim to hold before anything of it is believed; who trusts it can raise each limit."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pangen.errors import PangenError


@dataclass(frozen=True)
class Limit:
    """At most `usual` of `what`, or as many as an environment variable says."""

    variable: str
    usual: int
    what: str

    @property
    def value(self) -> int:
        told = os.environ.get(self.variable, "")
        try:
            return int(float(told)) if told else self.usual
        except (ValueError, OverflowError):
            raise PangenError(
                f"{self.variable} = '{told}' is no number of {self.what}; set it to one such as {self.usual}."
            ) from None

    def check(self, count: int, source: str | Path) -> None:
        """Raise where `source` claims more."""
        if count > self.value:
            raise PangenError(
                f"{source} claims more than {self.value} {self.what}; if it is meant so, raise that limit with the "
                f"environment variable {self.variable}."
            )


PIXELS = Limit("PANGEN_MOST_PIXELS", 10**8, "pixels")
"""Of one image, whatever its file's size: a small file can unpack to any number."""
SAMPLES = Limit("PANGEN_MOST_SAMPLES", 2**29, "samples of sound")
"""Of one file, in all its channels."""
UNPACKED = Limit("PANGEN_MOST_UNPACKED", 2**34, "unpacked bytes")
"""Of one archive or compressed file."""
FACTS = Limit("PANGEN_MOST_FACTS", 2**26, "bytes of facts")
"""Of one JSON file of a run, of the header of a file of weights or of a compressed one, or of a label or caption in an archive."""
PARTS = Limit("PANGEN_MOST_PARTS", 20_000, "tensors of weights")
"""Of one model, as its recipe has it, however few of them are in its file."""

LIMITS = (PIXELS, SAMPLES, UNPACKED, FACTS, PARTS)
