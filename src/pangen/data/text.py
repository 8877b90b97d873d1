"""Text files: one stream cut into windows, or a line for each example."""

from __future__ import annotations

from pathlib import Path

from pangen.data.assemble import Examples
from pangen.errors import PangenError

WINDOW = 64
"""Characters in a window, if nothing else is asked for."""


def read_text(path: Path, *, lines: bool, window: int) -> tuple[Examples, list[str]]:
    """The examples of a file, and what was left out of it."""
    text = read_characters(path)
    if lines:
        rows = [row.removesuffix("\r") for row in text.removesuffix("\n").split("\n")]
        kept = tuple(row for row in rows if row)
        empty = len(rows) - len(kept)
        return Examples("text", kept), [f"{empty} empty lines were left out."] if empty else []
    found = windows(text, window)
    rest = len(text) - window * len(found)
    note = f"the last {rest} characters fill no window of {window} and were left out."
    return Examples("text", found), [note] if rest else []


def read_characters(path: Path) -> str:
    """The characters of a UTF-8 file, its line ends as they are, without a byte-order mark."""
    return characters(path.read_bytes(), str(path))


def characters(raw: bytes, source: str) -> str:
    """The same of what was read from `source`."""
    try:
        return raw.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise PangenError(
            f"{source} is not UTF-8 text: byte {raw[error.start]:#04x} at offset {error.start}; "
            "save it as UTF-8."
        ) from None


def windows(text: str, window: int) -> tuple[str, ...]:
    """The non-overlapping windows that fill the text from its start."""
    return tuple(text[i : i + window] for i in range(0, len(text) - window + 1, window))
