"""A folder of PNG and JPEG images, labelled and split by its subfolders where it has some, or with captions.

What is too large for memory stays in its files, each decoded when it is asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np

from pangen.data.assemble import Examples
from pangen.data.decoded import Decoded
from pangen.data.folders import files_of, read_splits
from pangen.data.stored import FEWEST, Stored, is_large
from pangen.data.text import read_characters
from pangen.errors import PangenError
from pangen.limits import PIXELS
from pangen.memory import check_memory

ENDINGS = (".png", ".jpg", ".jpeg")
FIRST = 100
"""Images among which one that can be read says how large all are."""


class Tally:
    """What was done to images on the way, for the notes."""

    def __init__(self) -> None:
        self.bad, self.transparent = 0, 0


class _Picture(NamedTuple):
    path: Path
    pixels: np.ndarray
    """uint8 `(H, W)` or `(H, W, 3)`."""


def read_folder(
    folder: Path, *, size: tuple[int, int] | None, skip_bad: bool, stored: bool = False
) -> tuple[dict[str, Examples], list[str]]:
    """Its splits, all in "train" when it does not say; and what there is to note."""
    files = files_of(folder)
    images = [f for f in files if f.suffix.lower() in ENDINGS]
    if not images:
        what = f"no image among its {len(files)} files" if files else "no image: it is empty"
        raise PangenError(
            f"{folder} holds {what}; give a folder of .png or .jpg images or of .wav sound, or a data file."
        )
    check_size(len(images), size)
    tally = Tally()
    if stored or is_large(len(images) * _bytes([folder / image for image in images[:FIRST]], size)):
        return _stored(folder, images, size, skip_bad, len(files) - len(images))

    def read(path: Path) -> _Picture | None:
        pixels = _read(path, size, skip_bad, tally)
        return None if pixels is None else _Picture(path, pixels)

    found = read_splits(folder, images, read, "images")
    every = [picture for pictures, _ in found.values() for picture in pictures]
    _check_sizes(every)
    colour = any(picture.pixels.ndim == 3 for picture in every)
    texts = _captions([picture.path for picture in every])
    parts = {
        split: Examples(
            "image", _stack(pictures, colour), tuple(texts[p.path] for p in pictures) if texts else labels
        )
        for split, (pictures, labels) in found.items()
    }
    return parts, _notes(every, tally, colour, len(files) - len(images) - len(texts))


def check_size(count: int, size: tuple[int, int] | None) -> None:
    """Raise where even the few images that are always in memory cannot be scaled to a `size`."""
    if size is not None:
        what = f"images of {size[0]}x{size[1]}"
        check_memory(min(count, FEWEST) * 3 * size[0] * size[1], what, "take a smaller --size")


def _bytes(paths: list[Path], size: tuple[int, int] | None) -> int:
    """Of the pixels of an image, by the first header that can be read."""
    if size is not None:
        return 3 * size[0] * size[1]
    for path in paths:
        try:
            with opened(path) as file:
                return file.width * file.height * (1 if file.mode in ("1", "L", "LA") else 3)
        except Exception:  # whoever reads it will tell
            continue
    return 0


class _Pictures:
    """Image files of a folder."""

    def __init__(self, folder: Path, paths: Sequence[Path], size: tuple[int, int] | None) -> None:
        self.paths, self.size, self.name = paths, size, str(folder)
        digest = hashlib.sha256("\0".join(p.relative_to(folder).as_posix() for p in paths).encode())
        self.facts = f"{size} {digest.hexdigest()}"

    def __len__(self) -> int:
        return len(self.paths)

    def called(self, row: int) -> str:
        return str(self.paths[row])

    def decode(self, row: int) -> np.ndarray:
        pixels = _read(self.paths[row], self.size, False, Tally())
        return planes(cast(np.ndarray, pixels))  # bad ones are refused


def _stored(
    folder: Path, images: list[Path], size: tuple[int, int] | None, skip_bad: bool, others: int
) -> tuple[dict[str, Examples], list[str]]:
    """`read_folder` of files that are decoded later; those that are bad are found now if they are to be left out."""
    tally = Tally()

    def listed(path: Path) -> Path | None:
        return None if skip_bad and _read(path, size, True, tally) is None else path

    found = read_splits(folder, images, listed, "images")
    texts = _captions([path for paths, _ in found.values() for path in paths])
    empty = next((split for split, (paths, _) in found.items() if not paths), None)
    if empty is not None:
        raise PangenError(f"{folder} holds no image for {empty} that can be read.")
    parts = {
        split: Examples(
            "image",
            Stored.of(Decoded(_Pictures(folder, paths, size))),
            tuple(texts[path] for path in paths) if texts else labels,
        )
        for split, (paths, labels) in found.items()
    }
    return parts, _notes([], tally, False, others - len(texts))


def planes(pixels: np.ndarray) -> np.ndarray:
    """Pixels `(H, W)` or `(H, W, 3)` as `(C, H, W)`."""
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _captions(images: list[Path]) -> dict[Path, str]:
    """The text beside each image, in NAME.txt beside NAME.png; empty where there are none."""
    written = [path for path in images if path.with_suffix(".txt").is_file()]
    if not written:
        return {}
    captioned = set(written)
    bare = next((path for path in images if path not in captioned), None)
    if bare is not None:
        raise PangenError(
            f"{written[0]} has a caption beside it, {written[0].with_suffix('.txt').name}, and {bare} has none; "
            "write one for each image, or move them away."
        )
    texts = {path: " ".join(read_characters(path.with_suffix(".txt")).split()) for path in images}
    empty = next((path for path, text in texts.items() if not text), None)
    if empty is not None:
        raise PangenError(
            f"{empty.with_suffix('.txt')} is empty; write a caption, or remove it and its image."
        )
    return texts


def _read(path: Path, size: tuple[int, int] | None, skip_bad: bool, tally: Tally) -> np.ndarray | None:
    """Pixels of a file; None if it is bad and to be skipped."""
    try:
        return decode(path, str(path), size, tally)
    except PangenError:
        raise
    except Exception as error:  # a damaged file makes the decoder raise nearly anything
        if not skip_bad:
            raise PangenError(
                f"{path} cannot be read ({why(error)}); mend or remove it, or leave out such images with --skip-bad."
            ) from None
        tally.bad += 1
        return None


def read_picture(path: Path) -> np.ndarray:
    """Pixels of one file: uint8 `(H, W)`, or `(H, W, 3)` in colour."""
    try:
        return decode(path, str(path), None, Tally())
    except PangenError:
        raise
    except Exception as error:
        raise PangenError(f"{path} cannot be read ({why(error)}); give another image.") from None


def why(error: Exception) -> str:
    reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    return "no image format known" if "cannot identify" in reason else reason


def decode(
    source: Path | BinaryIO, name: str, size: tuple[int, int] | None, tally: Tally | None = None
) -> np.ndarray:
    """Pixels of an encoded image, scaled to a `size` if one is given: uint8 `(H, W)`, or `(H, W, 3)` in colour."""
    from PIL import Image, ImageOps

    tally = tally or Tally()
    with opened(source) as file:
        PIXELS.check(file.width * file.height, name)
        file.load()
        image = ImageOps.exif_transpose(file)  # upright, as viewers show it
    if image.mode[0] in "IF":
        raise PangenError(f"{name} has more than 8 bits a channel; convert it to 8.")
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        if np.asarray(image.getchannel("A")).min() < 255:
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


def opened(source: Path | BinaryIO) -> Any:
    """An image of which only the header is read; our limit stands in the place of the reader's own."""
    from PIL import Image

    own, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        return Image.open(source)
    finally:
        Image.MAX_IMAGE_PIXELS = own


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


def _notes(pictures: list[_Picture], tally: Tally, colour: bool, others: int) -> list[str]:
    grey = sum(picture.pixels.ndim == 2 for picture in pictures)
    notes = {
        f"{tally.bad} images could not be read and were left out.": tally.bad,
        f"{tally.transparent} transparent images were laid on white.": tally.transparent,
        f"{grey} grey images were made colour images, as {len(pictures) - grey} others are.": colour and grey,
        f"{others} files that are no PNG or JPEG images were left out.": others,
    }
    return [note for note, count in notes.items() if count]
