"""Data by name, by path, or from memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pangen.data.arrays import examples, read_npy, read_npz
from pangen.data.assemble import Examples, assemble
from pangen.data.dataset import Data
from pangen.data.images import ENDINGS, read_folder
from pangen.data.known import KNOWN
from pangen.data.latents import PREFIX, latent_data
from pangen.data.table import read_csv
from pangen.data.text import WINDOW, read_text
from pangen.errors import PangenError, unknown

MEMORY = "memory"
"""The name of data that was never in a file."""

OPTIONS = {
    "folder": ("size", "skip_bad", "series", "seed"),
    ".npy": ("series", "seed"),
    ".npz": ("series", "seed"),
    ".csv": ("target", "series", "seed"),
    ".txt": ("lines", "window", "series", "seed"),
}
"""What `load_data` can be told about each kind of path: a folder, or a file by its ending."""


def load_data(
    name: str | Path,
    *,
    size: Sequence[int] | None = None,
    skip_bad: bool = False,
    target: str | int | None = None,
    lines: bool = False,
    series: bool = False,
    window: int | None = None,
    seed: int = 0,
) -> Data:
    """A data set with its three splits.

    `load_data(data.name, **data.options)` gives the same data again. A name goes before a path:
    write `./digits` for a folder called digits.

    Args:
        name: a known name, a folder of PNG and JPEG images, a .npy, .npz, .csv or .txt file, or
            `latents:RUN`, the data of a run, to be modelled by that run's codes.
        size: height and width to scale every image to.
        skip_bad: leave out images that cannot be read, and note how many.
        target: the column of a .csv that holds the labels, by name, or by index from 0.
        lines: each line of a .txt is an example, instead of each window.
        series: where the data is not split, split it in its order, not by chance.
        window: characters in a window of text; 64 if not given.
        seed: where the data is not split, decides which 80 % train, 10 % validate and 10 % test.

    Raises:
        PangenError: for whatever cannot be read, or could be read in two ways.
    """
    if size is not None and (len(size) != 2 or not all(isinstance(s, int) and s > 0 for s in size)):
        raise PangenError(f"'{size}' is no image size; give height and width in pixels, such as (28, 28).")
    if window is not None and window < 1:
        raise PangenError(f"a window of {window} characters holds nothing; give at least 1.")
    given = {
        "size": None if size is None else list(size),
        "skip_bad": skip_bad,
        "target": target,
        "lines": lines,
        "series": series,
        "window": None if window == WINDOW and not lines else window,
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
    kind = "folder" if path.is_dir() else path.suffix.lower()
    if kind not in OPTIONS:
        if kind in ENDINGS:
            raise PangenError(f"{path} is one image; give a folder of at least 10.")
        raise PangenError(
            f"{path} is nothing Pangen reads; give a folder of images, or a .npy, .npz, .csv or .txt file."
        )
    _check_options(options, OPTIONS[kind], str(name))
    try:
        parts, notes = _read(path, kind, given, window or WINDOW)
    except OSError as error:
        raise PangenError(f"{error.filename or path} cannot be read: {error.strerror}.") from None
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
            255 or fractions k / 255; vectors `(N, D)`; or strings.
        y: labels `(N,)`, whole numbers or strings.

    Raises:
        PangenError: for values that are not finite, and whatever could be read in two ways.
    """
    found = examples(x, y, "x")
    options = {"seed": seed} if seed else {}
    return assemble(MEMORY, {"train": found}, source="x", seed=seed, options=options)


def _read(path: Path, kind: str, given: dict[str, Any], window: int) -> tuple[dict[str, Examples], list[str]]:
    match kind:
        case "folder":
            size = tuple(given["size"]) if given["size"] else None
            return read_folder(path, size=size, skip_bad=given["skip_bad"])
        case ".npy":
            return read_npy(path), []
        case ".npz":
            return read_npz(path), []
        case ".csv":
            return {"train": read_csv(path, target=given["target"])}, []
        case _:
            found, notes = read_text(path, lines=given["lines"], window=window)
            return {"train": found}, notes


def _find(name: str | Path) -> Path:
    path = Path(name).expanduser()
    if path.exists():
        return path
    text = str(name)
    if "/" in text or "\\" in text or text.startswith(("~", ".")) or path.suffix:
        raise PangenError(
            f"there is no file or folder '{name}'; check the path, or choose a name from `pangen data`."
        )
    raise unknown(
        "data set", text, KNOWN, hint="`pangen data` lists them, and no file or folder is called so."
    )


def _check_options(options: dict[str, Any], allowed: Sequence[str], what: str) -> None:
    wrong = next((option for option in options if option not in allowed), None)
    if wrong is None and not (options.get("lines") and "window" in options):
        return
    if wrong is None:
        raise PangenError("a window is for text without lines; leave out one of 'lines' and 'window'.")
    can = f"it can take {', '.join(allowed)}" if allowed else "its splits are fixed"
    raise PangenError(f"{what} does not take the option '{wrong}': {can}.")
