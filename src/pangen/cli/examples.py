"""Raw examples on their way in and out: of a run's data or the user's files, to the terminal or a file."""

from __future__ import annotations

import argparse
import csv
import io
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pangen.cli.options import check_writable, choice, other_data_options
from pangen.errors import PangenError
from pangen.files import write_bytes, write_text

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from pangen.codecs import Cells, ImageCodec
    from pangen.run import Run

ENDINGS = {".png": "a picture", ".npy": "an array", ".csv": "a table", ".txt": "text", ".wav": "sound"}
SPLITS = ("train", "validation", "test", "all")
RAMP = " .:-=+*#%@"
"""Characters from dark to bright."""
HEIGHTS = " ▁▂▃▄▅▆▇█"
"""Characters from silent to loud."""


def add_examples(parser: argparse.ArgumentParser) -> None:
    """Data in the place of that which a run was trained on, and which of it."""
    parser.add_argument("data", nargs="?", metavar="DATA", help="other data than it was trained on")
    add_split(parser)
    add_given(parser)


def add_split(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--split",
        type=choice("split", SPLITS),
        default="test",
        metavar="NAME",
        help="train, validation, test, or all of them in this order (test)",
    )


def add_given(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--given", metavar="LABEL", help="the class of all examples (that of the data)")


class Found(NamedTuple):
    """Raw examples, and their labels where the run has some."""

    x: Any
    y: Tensor | tuple[str, ...] | None


def examples_for(run: Run, args: argparse.Namespace) -> Found:
    """Those that the options name: of the run's own data, or of other data."""
    from pangen.data import load_data
    from pangen.evaluation.kind import check_kind, data_of

    options = other_data_options(args, "DATA")
    data = load_data(args.data, **options) if args.data else data_of(run)
    labelled = bool(data.labels)
    check_kind(run, data if labelled else replace(data, labels=run.codec.labels))
    names = SPLITS[:-1] if args.split == "all" else (args.split,)
    parts = [data.split(name).all(generator_of(name)) for name in names]
    x, y = (joined(column) for column in zip(*parts, strict=True))
    return Found(x, labels_for(run, y if labelled or data.captioned else None, args.given, len(x)))


def generator_of(split: str) -> Any:
    """For pixels that are drawn anew at each reading: here always the same."""
    from pangen.rng import generator

    return generator("cpu", "examples", split)


def labels_for(run: Run, y: Any, given: str | None, n: int) -> Tensor | tuple[str, ...] | None:
    """The labels or texts asked for, else those of the data, for a run that takes some."""
    from pangen.tasks.latent import labels_of

    return labels_of(run, given if given is not None else y if run.codec.condition else None, n)


def joined(parts: Sequence[Any]) -> Any:
    """Columns of examples or conditions one behind the other; None where there are none."""
    import torch

    if parts[0] is None or len(parts) == 1:
        return parts[0]
    return torch.cat(list(parts)) if isinstance(parts[0], torch.Tensor) else sum(parts, ())


def read_example(run: Run, path: Path) -> Any:
    """The one example of an image or .npy file, as the run's data has them `(1, *shape)`."""
    from pangen.data.images import ENDINGS as PICTURES

    if not path.is_file():
        raise PangenError(
            f"there is no file '{path}'; give an index into the split, an image, or a .npy file."
        )
    if path.suffix.lower() == ".npy":
        return read_array(path)
    if path.suffix.lower() not in PICTURES or not run.codec.outer.space.is_image:
        raise PangenError(
            f"{path} holds no example for this run; give an index into the split, or a .npy file."
        )
    return _picture(run, path)


def read_array(path: Path) -> Any:
    """The array of an .npy file."""
    from pangen.data.arrays import load_array

    try:
        return load_array(path)
    except OSError as error:
        raise PangenError(f"{path} cannot be read: {error.strerror}.") from None


def _picture(run: Run, path: Path) -> Any:
    import numpy as np

    from pangen.data.images import read_picture

    codec, pixels = run.codec.outer, read_picture(path)
    C, H, W = codec.data_space.shape
    if pixels.shape[:2] != (H, W):
        high, wide = pixels.shape[:2]
        raise PangenError(f"{path} has {high}x{wide} pixels and this run's images {H}x{W}; scale it first.")
    if pixels.ndim == 3 and C != 3:
        raise PangenError(f"{path} is in colour and this run's images are not; make it grey first.")
    planes = np.moveaxis(pixels, 2, 0) if pixels.ndim == 3 else np.broadcast_to(pixels, (C, H, W))
    return np.rint(planes[None] * ((cast("ImageCodec", codec).levels - 1) / 255)).astype(np.uint8)


def preview(x: Any, codec: Any) -> str:
    """Text, tables and numbers as they are; images as a row of characters for each row of pixels; sound by its loudness."""
    from pangen.codecs import Cells, Sound

    if isinstance(codec.outer, Sound):
        return "\n".join(_envelope(clip, codec.outer.rate) for clip in x)
    if isinstance(x, tuple):
        return "\n".join(x) if codec.outer.lines else "\n\n".join(x)
    if isinstance(codec.outer, Cells):
        return _lines(x, codec.outer).rstrip("\n")
    if x.ndim == 2:
        return "\n".join(" ".join(f"{v:.6g}" for v in row) for row in x.tolist())
    if x.ndim == 3:  # windows of a series, a line for each column
        return "\n\n".join(preview(window, codec) for window in x)
    step = max(-(-x.shape[-1] // 32), 1)
    grey = x[:, :, ::step, ::step].float().mean(1) / (codec.outer.levels - 1)
    shade = (grey * (len(RAMP) - 1)).round().long()
    across = max(78 // (2 * shade.shape[-1] + 2), 1)
    blocks = []
    for start in range(0, len(shade), across):
        rows = zip(*(image.tolist() for image in shade[start : start + across]), strict=True)
        blocks.append(
            "\n".join("  ".join("".join(RAMP[v] * 2 for v in line) for line in row) for row in rows)
        )
    return "\n\n".join(blocks)


def _lines(x: Tensor, codec: Cells) -> str:
    """A table as a .csv file has it."""
    from pangen.data.dataset import written

    content = io.StringIO()
    rows = csv.writer(content, lineterminator="\n")
    rows.writerow(codec.names)
    rows.writerows(written(codec.table, x))
    return content.getvalue()


def _envelope(clip: Tensor, rate: int) -> str:
    """How long a clip is, how loud at most, and how loud in each of at most 60 parts, in steps of 6 dB."""
    parts = [float(part.abs().max()) for part in clip.chunk(60)] if len(clip) else [0.0]
    top = max(*parts, 1e-4)
    steps = [max(len(HEIGHTS) - 1 + math.log2(max(part / top, 1e-9)), 0) for part in parts]
    shape = "".join(HEIGHTS[round(step)] for step in steps)
    return f"{len(clip) / rate:6.2f} s {round(20 * math.log10(top)):4d} dB  {shape}"


def check_name(out: Path | None, endings: Sequence[str] = tuple(ENDINGS)) -> None:
    """Raise before any work when a file of that name cannot be written."""
    if out is None:
        return
    if out.suffix not in endings:
        kinds = ", ".join(f"{ending} ({ENDINGS[ending]})" for ending in endings)
        raise PangenError(f"cannot write {out}: its name must end in one of {kinds}.")
    check_writable(out)


def check_fits(out: Path, found: Run) -> None:
    """Raise when a file of that name cannot hold what the run draws."""
    from pangen.codecs import Cells, Sound, Text

    text, image = isinstance(found.codec.outer, Text), found.codec.outer.space.is_image
    sound, table = (isinstance(found.codec.outer, kind) for kind in (Sound, Cells))
    fits = {".png": not text and not table, ".npy": not text, ".csv": table, ".txt": text, ".wav": sound}
    if not fits[out.suffix]:
        kinds = {"text": text, "images": image, "sound": sound, "a table": table, "vectors": True}
        kind = next(name for name, is_it in kinds.items() if is_it)
        endings = " or ".join(ending for ending, ok in fits.items() if ok)
        raise PangenError(
            f"{found.entry.name} draws {kind} here; write them to a file that ends in {endings}."
        )


def write_examples(out: Path, x: Any, found: Run) -> None:
    """Raw examples as the file's name says: a picture, an array, text or sound."""
    from pangen.codecs import Sound

    if isinstance(found.codec.outer, Sound):
        _write_sound(out, x, found.codec.outer.rate)
    elif out.suffix == ".csv":
        write_text(out, _lines(x, cast("Cells", found.codec.outer)))
    elif isinstance(x, tuple):
        write_text(out, "\n".join(x) + "\n")
    elif out.suffix == ".npy":
        write_array(out, x)
    else:
        from pangen.evaluation.images import picture

        write_picture(out, picture(x, getattr(found.codec.outer, "levels", 0)))


def _write_sound(out: Path, clips: tuple[Tensor, ...], rate: int) -> None:
    """One WAV file with pauses between the clips; their spectrograms; or an array, NaN where a clip has ended."""
    from torch.nn.utils.rnn import pad_sequence

    from pangen.data.sound import wav
    from pangen.evaluation.sound import spectrograms

    if out.suffix == ".wav":
        write_bytes(out, wav(clips, rate))
    elif out.suffix == ".npy":
        write_array(out, pad_sequence(list(clips), batch_first=True, padding_value=math.nan))
    else:
        write_picture(out, spectrograms(clips, rate))


def write_array(out: Path, x: Tensor) -> None:
    import numpy as np

    content = io.BytesIO()
    np.save(content, x.numpy())
    write_bytes(out, content.getvalue())


def write_picture(out: Path, image: Image) -> None:
    from pangen.evaluation.images import png

    write_bytes(out, png(image))
