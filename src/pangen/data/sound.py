"""Sound: a folder of WAV files, each a clip; one recording cut into windows; spoken digits."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch

from pangen.data.assemble import FEWEST, Examples, assemble
from pangen.data.dataset import Data, Split, as_splits
from pangen.data.folders import files_of, read_splits
from pangen.errors import PangenError
from pangen.limits import SAMPLES, UNPACKED

ENDING = ".wav"
SECONDS = 1.0
"""Of a window of a recording, if nothing else is asked for."""
MOST_RATE = 10**6
"""Samples a second that any recording has: from more, the filter of a resampling would take minutes to make."""
FULL = 1.001
"""Full scale, and room for the overshoot of resampling."""


class _Sounds(NamedTuple):
    """Checked clips of one sampling rate."""

    parts: dict[str, Examples]
    rate: int
    """Samples a second."""
    window: int
    """Samples in each clip, or 0 where clips differ in length."""
    notes: list[str]


class _Clip(NamedTuple):
    path: Path
    rate: int
    x: np.ndarray
    """float32 `(T,)` in [-1, 1]."""


@dataclass
class _Reader:
    """How files are read, and what was done to them on the way."""

    rate: int | None
    mono: bool
    skip_bad: bool = False
    bad: int = 0
    mixed: int = 0
    resampled: set[int] = field(default_factory=set)
    loud: int = 0

    def one_of_many(self, path: Path) -> _Clip | None:
        """A file of a folder; None if it is bad and to be skipped."""
        try:
            return self.read(path)
        except ValueError as error:
            if not self.skip_bad:
                raise PangenError(
                    f"{path} cannot be read ({error}); mend or remove it, or leave out such files with --skip-bad."
                ) from None
            self.bad += 1
            return None

    def the_only(self, path: Path) -> _Clip:
        """A file that there is nothing beside."""
        try:
            return self.read(path)
        except ValueError as error:
            raise PangenError(
                f"{path} cannot be read ({error}); mend it, or give another recording."
            ) from None

    def read(self, path: Path) -> _Clip:
        """One file; ValueError says why it is bad."""
        with open(path, "rb") as file:
            channels, rate = samples_of(file)
        if channels.shape[1] > 1 and not self.mono:
            raise PangenError(f"{path} has {channels.shape[1]} channels; mix them into one with --mono.")
        self.mixed += channels.shape[1] > 1
        x = channels.mean(1)
        if self.rate not in (None, rate):
            self.resampled.add(rate)
            x, rate = resample(x, rate, self.rate), self.rate
        self.loud += bool(np.abs(x).max() > FULL)
        return _Clip(path, rate, x.clip(-1, 1).astype(np.float32))

    @property
    def notes(self) -> list[str]:
        rates = " and ".join(map(str, sorted(self.resampled)))
        notes = {
            f"{self.bad} files could not be read and were left out.": self.bad,
            f"{self.mixed} files of several channels were mixed into one.": self.mixed,
            f"files of {rates} Hz were resampled to {self.rate}.": self.resampled,
            f"{self.loud} files go beyond full scale, ±1, and were clipped there.": self.loud,
        }
        return [note for note, holds in notes.items() if holds]


def sound_data(
    path: Path,
    *,
    source: str,
    rate: int | None,
    mono: bool,
    seconds: float | None,
    skip_bad: bool,
    series: bool,
    seed: int,
    options: Mapping[str, Any],
) -> Data:
    """Of a folder its clips, of a recording its windows; see `load_data`."""
    reader = _Reader(rate, mono, skip_bad)
    found = _clips(path, reader, seconds) if path.is_dir() else _windows(path, reader, seconds or SECONDS)
    return assemble(
        str(path.resolve()),
        found.parts,
        source=source,
        notes=[*reader.notes, *found.notes],
        series=series,
        seed=seed,
        window=found.window,
        rate=found.rate,
        options=options,
    )


def _clips(folder: Path, reader: _Reader, seconds: float | None) -> _Sounds:
    """The clips of a folder, labelled and split by its subfolders; longer ones cut to their first `seconds`."""
    files = files_of(folder)
    members = [f for f in files if f.suffix.lower() == ENDING]
    found = read_splits(folder, members, reader.one_of_many, "clips")
    every = [clip for clips, _ in found.values() for clip in clips]
    other = next((clip for clip in every if clip.rate != every[0].rate), None)
    if other is not None:
        raise PangenError(
            f"sampling rates differ: {every[0].path} has {every[0].rate} Hz and {other.path} {other.rate}; "
            f"resample all with --rate, such as --rate {min(every[0].rate, other.rate)}."
        )
    rate = every[0].rate if every else 0
    most = None if seconds is None else _samples(seconds, rate)
    parts = {
        split: Examples("sound", tuple(torch.from_numpy(clip.x[:most]) for clip in clips), labels)
        for split, (clips, labels) in found.items()
    }
    cut = sum(most is not None and len(clip.x) > most for clip in every)
    notes = {
        f"{cut} clips are longer than {seconds} s and were cut there.": cut,
        f"{len(files) - len(members)} files that are no WAV files were left out.": len(files) > len(members),
    }
    lengths = {len(x) for part in parts.values() for x in part.x}
    window = lengths.pop() if len(lengths) == 1 else 0
    return _Sounds(parts, rate, window, [note for note, holds in notes.items() if holds])


def _windows(path: Path, reader: _Reader, seconds: float) -> _Sounds:
    """The non-overlapping windows that fill a recording from its start."""
    clip = reader.the_only(path)
    window = _samples(seconds, clip.rate)
    count, rest = divmod(len(clip.x), window)
    if count < FEWEST:
        raise PangenError(
            f"{path} lasts {len(clip.x) / clip.rate:.3g} s, which is {count} windows of {seconds:g} s; at least "
            f"{FEWEST} are needed: take shorter ones with --seconds."
        )
    x = tuple(torch.from_numpy(clip.x[: count * window]).view(count, window))
    note = f"the last {rest / clip.rate:.3g} s fill no window of {seconds:g} s and were left out."
    return _Sounds({"train": Examples("sound", x)}, clip.rate, window, [note] if rest else [])


def _samples(seconds: float, rate: int) -> int:
    """Samples in that many seconds, at least one."""
    return max(round(seconds * rate), 1)


def samples_of(file: BinaryIO) -> tuple[np.ndarray, int]:
    """Samples float32 `(T, channels)`, 1 being full scale, and samples a second; ValueError says what is wrong."""
    soundfile = sound_library()
    try:
        told = soundfile.info(file)
        if told.samplerate > MOST_RATE:
            raise ValueError(f"it claims {told.samplerate} samples a second")
        SAMPLES.check(told.frames * told.channels, getattr(file, "name", "a recording"))
        file.seek(0)
        x, rate = soundfile.read(file, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        reason = str(error).rpartition(": ")[2].rstrip(".") or type(error).__name__
        reason = "it is no sound file, whatever its name says" if "not recognised" in reason else reason
        raise ValueError(reason) from None
    if not len(x):
        raise ValueError("it holds no sound")
    if not np.isfinite(x).all():
        raise ValueError("it holds values that are no numbers")
    return x, rate


def sound_library() -> Any:
    """The package that reads and writes sound files."""
    try:
        import soundfile
    except (ImportError, OSError):  # OSError: without its shared library
        raise PangenError(
            "reading and writing sound needs the package soundfile; `pip install 'pangen[sound]'` brings it."
        ) from None
    return soundfile


def resample(x: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """`x` `(T,)` at another sampling rate, what it cannot carry filtered out."""
    from scipy.signal import resample_poly

    common = math.gcd(rate, wanted)
    return resample_poly(x, wanted // common, rate // common)


def wav(clips: Sequence[torch.Tensor], rate: int, pause: float = 0.25) -> bytes:
    """A WAV file of 16 bits with clips `(T,)` one after another, `pause` seconds of silence between them."""
    silence = np.zeros(round(pause * rate), np.float32)
    pieces = [piece for clip in clips for piece in (clip.numpy(), silence)][:-1]
    file = io.BytesIO()
    sound_library().write(file, np.concatenate(pieces), rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def spoken_digits(name: str, path: Path, seconds: float | None) -> Data:
    """The Free Spoken Digit Dataset: takes 0 to 4 of each speaker and digit test, 5 to 9 validate, the others train."""
    held_out: dict[str, Callable[[int], bool]] = {
        "train": lambda take: take > 9, "validation": lambda take: 5 <= take <= 9, "test": lambda take: take < 5
    }  # fmt: skip
    try:
        with zipfile.ZipFile(path) as archive:
            UNPACKED.check(sum(m.file_size for m in archive.infolist()), path)
            members = sorted(m for m in archive.namelist() if m.endswith(ENDING))
            clips, rates = zip(*(samples_of(io.BytesIO(archive.read(m))) for m in members), strict=True)
        keys = [Path(m).stem.split("_") for m in members]
        digits, takes = (torch.tensor([int(key[i]) for key in keys]) for i in (0, 2))
    except (OSError, ValueError, IndexError, zipfile.BadZipFile) as error:
        raise PangenError(f"{path} cannot be read ({error}): get the file again.") from None
    rate = rates[0]
    most = None if seconds is None else _samples(seconds, rate)
    x = [torch.from_numpy(clip[:most, 0].copy()) for clip in clips]
    parts = {}
    for split, belongs in held_out.items():
        index = [i for i, take in enumerate(takes.tolist()) if belongs(take)]
        parts[split] = Split(tuple(x[i] for i in index), digits[index])
    return Data(name, "sound", **as_splits(parts), labels=tuple("0123456789"), rate=rate)
