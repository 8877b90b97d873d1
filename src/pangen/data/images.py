"""A folder of PNG and JPEG images, labelled and split by its subfolders where it has some."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pangen.data.assemble import Examples
from pangen.errors import PangenError

ENDINGS = (".png", ".jpg", ".jpeg")
SPLITS = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
}
"""Subfolders that name a split."""


class _Tally:
    """What was done to images on the way, for the notes."""

    def __init__(self) -> None:
        self.bad, self.transparent = 0, 0


class _Picture(NamedTuple):
    path: Path
    pixels: np.ndarray
    """uint8 `(H, W)` or `(H, W, 3)`."""


def read_folder(
    folder: Path, *, size: tuple[int, int] | None, skip_bad: bool
) -> tuple[dict[str, Examples], list[str]]:
    """Its splits, all in "train" when it does not say; and what there is to note."""
    files = [path.relative_to(folder) for path in _walk(folder, set())]
    images = sorted((f for f in files if f.suffix.lower() in ENDINGS), key=_natural)
    if not images:
        what = f"no image among its {len(files)} files" if files else "no image: it is empty"
        raise PangenError(f"{folder} holds {what}; give a folder of .png or .jpg images, or a data file.")
    tally = _Tally()
    read: dict[str, tuple[list[_Picture], list[str] | None]] = {}
    for split, members in _by_split(folder, images).items():
        top = folder if split is None else folder / members[0].parts[0]
        labels = _labels(top, [folder / member for member in members])
        pictures, kept = [], []
        for i, member in enumerate(members):
            pixels = _read(folder / member, size, skip_bad, tally)
            if pixels is not None:
                pictures.append(_Picture(folder / member, pixels))
                kept.append(labels[i] if labels else "")
        read[split or "train"] = pictures, kept if labels else None
    every = [picture for pictures, _ in read.values() for picture in pictures]
    _check_sizes(every)
    colour = any(picture.pixels.ndim == 3 for picture in every)
    parts = {
        split: Examples("image", _stack(pictures, colour), None if labels is None else _classes(labels))
        for split, (pictures, labels) in read.items()
    }
    return parts, _notes(every, tally, colour, len(files) - len(images))


def _walk(folder: Path, seen: set[str]) -> Iterator[Path]:
    """Files of a folder and its subfolders, hidden ones left out, links followed once."""
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "__MACOSX")):
            continue
        if path.is_dir():
            yield from _walk(path, seen)
        else:
            yield path


def _natural(path: Path) -> tuple[Any, ...]:
    """Order by name, numbers by value: 2.png before 10.png."""
    pieces = re.split(r"(\d+)", path.as_posix())
    return tuple((int(p), "") if i % 2 else (-1, p) for i, p in enumerate(pieces)), path.as_posix()


def _by_split(folder: Path, images: list[Path]) -> dict[str | None, list[Path]]:
    """Images of each split, when subfolders are called train and test or validation; else of None."""
    tops = {f.parts[0] for f in images if len(f.parts) > 1}
    splits = {top: SPLITS[top.lower()] for top in tops if top.lower() in SPLITS}
    if "train" not in splits.values() or len(splits) < 2:
        return {None: images}
    found: dict[str | None, list[Path]] = {}
    for top, split in sorted(splits.items()):
        if split in found:
            raise PangenError(f"{folder} holds two folders for {split}, one of them '{top}'; keep one.")
        found[split] = [f for f in images if f.parts[0] == top]
    outside = next((f for f in images if f.parts[0] not in splits), None)
    if outside is not None:
        raise PangenError(
            f"{folder} has folders for splits and {outside} beside them; move it into train, validation or test."
        )
    return found


def _labels(top: Path, images: list[Path]) -> list[str] | None:
    """The subfolder of each image; None when all lie in the folder itself."""
    names = [parts[0] if len(parts := path.relative_to(top).parts) > 1 else "" for path in images]
    if set(names) == {""}:
        return None
    if "" in names:
        loose = images[names.index("")]
        raise PangenError(
            f"{top} holds images in subfolders, and {loose.name} outside them; "
            "put all in subfolders, one for each class, or none."
        )
    if len(set(names)) == 1:
        raise PangenError(
            f"all images of {top} lie in one subfolder, and one class is nothing to tell apart: "
            f"give {top / names[0]} itself, or a subfolder for each class."
        )
    return names


def _classes(labels: list[str]) -> np.ndarray:
    """Names of subfolders; as numbers if all are, so that 10 comes after 2."""
    numbers = all(label.isdecimal() and label == str(int(label)) for label in labels)
    return np.array([int(label) for label in labels] if numbers else labels)


def _read(path: Path, size: tuple[int, int] | None, skip_bad: bool, tally: _Tally) -> np.ndarray | None:
    """Pixels of a file; None if it is bad and to be skipped."""
    try:
        return _pixels(path, size, tally)
    except PangenError:
        raise
    except Exception as error:  # a damaged file makes the decoder raise nearly anything
        if not skip_bad:
            raise PangenError(
                f"{path} cannot be read ({_why(error)}); mend or remove it, or leave out such images with --skip-bad."
            ) from None
        tally.bad += 1
        return None


def read_picture(path: Path) -> np.ndarray:
    """Pixels of one file: uint8 `(H, W)`, or `(H, W, 3)` in colour."""
    try:
        return _pixels(path, None, _Tally())
    except PangenError:
        raise
    except Exception as error:
        raise PangenError(f"{path} cannot be read ({_why(error)}); give another image.") from None


def _why(error: Exception) -> str:
    reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    return "no image format known" if "cannot identify" in reason else reason


def _pixels(path: Path, size: tuple[int, int] | None, tally: _Tally) -> np.ndarray:
    from PIL import Image, ImageOps

    with Image.open(path) as file:
        file.load()
        image = ImageOps.exif_transpose(file)  # upright, as viewers show it
    if image.mode[0] in "IF":
        raise PangenError(f"{path} has more than 8 bits a channel; convert it to 8.")
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema()[0] < 255:
            tally.transparent += 1
        white = Image.new("RGBA", image.size, "white")
        grey = file.mode in ("L", "LA", "La", "1")
        image = Image.alpha_composite(white, image).convert("L" if grey else "RGB")
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    if file.mode in ("P", "PA") and _is_grey(image):
        image = image.convert("L")  # a palette does not say whether its colours are grey
    if size is not None and (image.height, image.width) != size:
        image = image.resize(size[::-1], Image.Resampling.LANCZOS)
    return np.array(image, dtype=np.uint8)


def _is_grey(image: Any) -> bool:
    pixels = np.asarray(image.convert("RGB"))
    return bool((pixels == pixels[..., :1]).all())


def _check_sizes(pictures: list[_Picture]) -> None:
    sizes = [picture.pixels.shape[:2] for picture in pictures]
    other = next((i for i, size in enumerate(sizes) if size != sizes[0]), None)
    if other is not None:
        first, second = (f"{h}x{w}" for h, w in (sizes[0], sizes[other]))
        raise PangenError(
            f"images differ in size: {pictures[0].path} is {first} and {pictures[other].path} {second} "
            f"(height x width); scale all of them with --size, such as --size {first}."
        )


def _stack(pictures: list[_Picture], colour: bool) -> np.ndarray:
    if not pictures:
        return np.empty((0, 1, 1, 1), np.uint8)
    x = [p.pixels if p.pixels.ndim == 3 else p.pixels[..., None] for p in pictures]
    if colour:
        x = [np.broadcast_to(pixels, (*pixels.shape[:2], 3)) for pixels in x]
    return np.ascontiguousarray(np.stack(x).transpose(0, 3, 1, 2))


def _notes(pictures: list[_Picture], tally: _Tally, colour: bool, others: int) -> list[str]:
    grey = sum(picture.pixels.ndim == 2 for picture in pictures)
    notes = {
        f"{tally.bad} images could not be read and were left out.": tally.bad,
        f"{tally.transparent} transparent images were laid on white.": tally.transparent,
        f"{grey} grey images were made colour images, as {len(pictures) - grey} others are.": colour and grey,
        f"{others} files that are no PNG or JPEG images were left out.": others,
    }
    return [note for note, count in notes.items() if count]
