"""Data by name, by path, or from memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pangen.data.arrays import examples, load_array, read_npy, read_npz, stored_examples
from pangen.data.assemble import Examples, assemble
from pangen.data.dataset import Data
from pangen.data.folders import files_of
from pangen.data.images import ENDINGS, read_folder
from pangen.data.known import KNOWN
from pangen.data.latents import PREFIX, latent_data
from pangen.data.pairs import read_pairs
from pangen.data.series import array_series, read_series, series_data
from pangen.data.shards import ENDING as SHARD
from pangen.data.shards import read_shards
from pangen.data.sound import ENDING, MOST_RATE, sound_data
from pangen.data.stored import Stored, is_large
from pangen.data.table import read_csv
from pangen.data.text import WINDOW, read_text
from pangen.errors import PangenError, unknown

MEMORY = "memory"
"""The name of data that was never in a file."""

OPTIONS = {
    "folder": ("size", "skip_bad", "stored", "series", "seed"),
    SHARD: ("size", "skip_bad", "stored", "series", "seed"),
    "folder of sound": ("rate", "mono", "seconds", "skip_bad", "series", "seed"),
    ENDING: ("rate", "mono", "seconds", "series", "seed"),
    ".npy": ("stored", "series", "window", "seed"),
    ".npz": ("series", "seed"),
    ".csv": ("target", "series", "window", "column", "seed"),
    ".txt": ("lines", "window", "series", "seed"),
    ".tsv": ("series", "seed"),
}
"""What `load_data` can be told about each kind of path: a folder, or a file by its ending."""
SERIES = (".csv", ".npy")
"""Files of numbers, which in time order can be cut into windows."""


def load_data(
    name: str | Path,
    *,
    size: Sequence[int] | None = None,
    skip_bad: bool = False,
    target: str | int | None = None,
    lines: bool = False,
    series: bool = False,
    window: int | None = None,
    column: str | int | None = None,
    rate: int | None = None,
    mono: bool = False,
    seconds: float | None = None,
    stored: bool = False,
    seed: int = 0,
) -> Data:
    """A data set with its three splits.

    `load_data(data.name, **data.options)` gives the same data again. A name goes before a path:
    write `./digits` for a folder called digits.

    Args:
        name: a known name, a folder of PNG and JPEG images, of WAV files or of .tar archives, a .tar, .wav, .npy, .npz, .csv,
            .tsv or .txt file, or `latents:RUN`, the data of a run, to be modelled by that run's codes.
        size: height and width to scale every image to.
        skip_bad: leave out images and sound files that cannot be read, and note how many.
        target: the column of a .csv that holds the labels, by name, or by index from 0.
        lines: each line of a .txt is an example, instead of each window.
        series: the data is in time order: where it is not split, split it in that order, not by chance.
        window: characters in a window of text, 64 if not given; or, with `series`, steps in a window of the
            numbers of a .csv or .npy file. Without it each of its rows is an example.
        column: the one column of a .csv to cut into windows, by name, or by index from 0; all if not given.
        rate: samples a second that all sound is resampled to.
        mono: mix the channels of sound into one.
        seconds: of sound in a window of a recording, 1 if not given; of clips in a folder, what is longer is cut.
        stored: leave the training examples of a folder of images, of archives or of an .npy file on disk. So it is
            done, and recorded among the options, where they would take more than a quarter of the free memory.
        seed: where the data is not split, decides which 80 % train, 10 % validate and 10 % test.

    Raises:
        PangenError: for whatever cannot be read, or could be read in two ways.
    """
    if size is not None and (len(size) != 2 or not all(isinstance(s, int) and s > 0 for s in size)):
        raise PangenError(f"'{size}' is no image size; give height and width in pixels, such as (28, 28).")
    if rate is not None and not 1 <= rate <= MOST_RATE:
        raise PangenError(f"a rate of {rate} Hz is none; give samples a second, such as 8000.")
    if seconds is not None and seconds <= 0:
        raise PangenError(f"clips of {seconds} s hold nothing; give a positive number of seconds.")
    if window is not None and window < 1:
        raise PangenError(f"a window of {window} holds nothing; give at least 1.")
    given = {
        "size": None if size is None else list(size),
        "skip_bad": skip_bad,
        "target": target,
        "lines": lines,
        "series": series,
        "window": None if window == WINDOW and not lines and _is_text(name) else window,
        "column": column,
        "rate": rate,
        "mono": mono,
        "seconds": seconds,
        "stored": stored,
        "seed": seed,
    }
    options = {k: v for k, v in given.items() if v is not None and v is not False and (k, v) != ("seed", 0)}
    if name in KNOWN:
        known = KNOWN[str(name)]
        _check_options(options, known.options, f"'{name}'")
        return replace(known.load(**options), options=options)
    if str(name).startswith(PREFIX):
        _check_options(options, (), f"'{name}'")
        return latent_data(str(name).removeprefix(PREFIX))
    if name == MEMORY:
        raise PangenError("data from memory is not kept; pass the same arrays again.")
    path = _find(name)
    kind = path.suffix.lower()
    if path.is_dir():
        kind = _kind(path)
    if kind not in OPTIONS:
        if kind in ENDINGS:
            raise PangenError(f"{path} is one image; give a folder of at least 10.")
        raise PangenError(
            f"{path} is nothing Pangen reads; give a folder of images, of .wav files or of .tar archives, or a .tar, .wav, .npy, .npz, .csv, .tsv or .txt file."
        )
    _check_options(options, OPTIONS[kind], str(name))
    try:
        if kind in SERIES and window is not None:
            read = read_series(path, column) if kind == ".csv" else array_series(load_array(path), str(path))
            return series_data(str(path.resolve()), read, window, source=str(name), options=options)
        if kind in (ENDING, "folder of sound"):
            return sound_data(
                path, source=str(name), rate=rate, mono=mono, seconds=seconds, skip_bad=skip_bad,
                series=series, seed=seed, options=options,
            )  # fmt: skip
        parts, notes = _read(path, kind, given, window or WINDOW)
    except OSError as error:
        raise PangenError(f"{error.filename or path} cannot be read: {error.strerror}.") from None
    if isinstance(parts["train"].x, Stored):
        options["stored"] = True  # wherever it is loaded again, for the splits are others than in memory
    return assemble(
        str(path.resolve()),
        parts,
        source=str(name),
        notes=notes,
        series=series,
        seed=seed,
        window=(window or WINDOW) if kind == ".txt" and not lines else 0,
        options=options,
    )


def memory_data(x: Any, y: Any = None, *, seed: int = 0) -> Data:
    """Arrays, tensors or a list of strings, split 80/10/10 by `seed`.

    Args:
        x: images `(N, H, W)`, `(N, C, H, W)` or `(N, H, W, C)` with C = 1 or 3, of whole numbers 0 to
            255 or fractions k / 255; vectors `(N, D)`; or strings. A large `np.memmap` stays on disk.
        y: labels `(N,)`, whole numbers or strings.

    Raises:
        PangenError: for values that are not finite, and whatever could be read in two ways.
    """
    large = isinstance(x, np.memmap) and is_large(x.nbytes)
    found = stored_examples(x, y, "x") if large else examples(x, y, "x")
    options = {"seed": seed} if seed else {}
    return assemble(MEMORY, {"train": found}, source="x", seed=seed, options=options)


def _kind(folder: Path) -> str:
    """Of a folder, by the endings of its files: where there are images, it is they."""
    endings = {path.suffix.lower() for path in files_of(folder)}
    if endings & set(ENDINGS):
        return "folder"
    return SHARD if SHARD in endings else "folder of sound" if ENDING in endings else "folder"


def _read(path: Path, kind: str, given: dict[str, Any], window: int) -> tuple[dict[str, Examples], list[str]]:
    match kind:
        case "folder" | ".tar":
            size = tuple(given["size"]) if given["size"] else None
            read = read_folder if kind == "folder" else read_shards
            return read(path, size=size, skip_bad=given["skip_bad"], stored=given["stored"])
        case ".npy":
            return read_npy(path, stored=given["stored"]), []
        case ".npz":
            return read_npz(path), []
        case ".csv":
            return {"train": read_csv(path, target=given["target"])}, []
        case ".tsv":
            found, notes = read_pairs(path)
            return {"train": found}, notes
        case _:
            found, notes = read_text(path, lines=given["lines"], window=window)
            return {"train": found}, notes


def _find(name: str | Path) -> Path:
    path = Path(name).expanduser()
    if str(name) and path.exists():
        return path
    text = str(name)
    if not text or "/" in text or "\\" in text or text.startswith(("~", ".")) or path.suffix:
        raise PangenError(
            f"there is no file or folder '{name}'; check the path, or choose a name from `pangen data`."
        )
    raise unknown(
        "data set", text, KNOWN, hint="`pangen data` lists them, and no file or folder is called so."
    )


def _is_text(name: str | Path) -> bool:
    return KNOWN[str(name)].kind == "text" if name in KNOWN else Path(name).suffix.lower() == ".txt"


def _check_options(options: dict[str, Any], allowed: Sequence[str], what: str) -> None:
    wrong = next((option for option in options if option not in allowed), None)
    if wrong is not None:
        can = f"it can take {', '.join(allowed)}" if allowed else "its splits are fixed"
        raise PangenError(f"{what} does not take the option '{wrong}': {can}.")
    windows = "window" in options
    if windows and options.get("stored"):
        raise PangenError("windows are cut in memory: leave out one of 'stored' and 'window'.")
    if windows and options.get("lines"):
        raise PangenError("a window is for text without lines; leave out one of 'lines' and 'window'.")
    if windows and "target" in options:
        raise PangenError("windows of a series have no labels: leave out one of 'target' and 'window'.")
    if "series" in allowed and "lines" not in allowed:
        if windows and "series" not in options:
            raise PangenError(
                f"{what} is cut into windows in time order alone: add 'series', or leave out 'window'."
            )
        if "column" in options and not windows:
            raise PangenError(
                "a column is chosen of a series: add 'series' and 'window', or leave out 'column'."
            )
