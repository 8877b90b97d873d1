"""Sound files: what they are read as, and the one sentence for each that cannot be."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pangen.data import Data, describe_data, load_data
from pangen.errors import PangenError

soundfile = pytest.importorskip("soundfile")


def tone(n: int, rate: int = 8000, pitch: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * pitch * np.arange(n) / rate)


def write(path: Path, x: np.ndarray, rate: int = 8000, subtype: str = "PCM_16") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, x, rate, subtype=subtype)
    return path


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Twenty clips of 40 to 59 samples, in two classes."""
    for i in range(20):
        write(tmp_path / "clips" / ("high", "low")[i % 2] / f"{i}.wav", tone(40 + i))
    return tmp_path / "clips"


def lengths(data: Data) -> list[int]:
    return sorted(len(clip) for split in (data.train, data.validation, data.test) for clip in split.x)


def test_a_folder_of_clips(clips):
    data = load_data(clips)
    assert (data.modality, data.rate, data.window, data.labels) == ("sound", 8000, 0, ("high", "low"))
    assert (len(data.train), len(data.validation), len(data.test)) == (16, 2, 2)
    assert lengths(data) == list(range(40, 60))
    assert all(clip.dtype == torch.float32 for clip in data.train.x)
    for clip, label in zip(data.train.x, data.train.y, strict=True):
        assert len(clip) % 2 == label  # even lengths are high
        assert (
            np.abs(clip.numpy() - tone(len(clip))).max() < 2**-15
        )  # half a step of 16 bits and its rounding
    again = load_data(data.name, **json.loads(json.dumps(dict(data.options))))
    assert again.fingerprint == data.fingerprint


@pytest.mark.parametrize(
    ("subtype", "step"),
    [("PCM_U8", 2**-6), ("PCM_16", 2**-14), ("PCM_24", 2**-22), ("PCM_32", 2**-22), ("FLOAT", 2**-22), ("DOUBLE", 2**-22)],
)  # fmt: skip
def test_every_width_of_samples(tmp_path, subtype, step):
    path = write(tmp_path / "a.wav", tone(8000), subtype=subtype)
    data = load_data(path, seconds=0.1, series=True)
    assert (data.window, len(data.train), lengths(data)) == (800, 8, [800] * 10)
    assert np.abs(torch.cat(data.train.x).numpy() - tone(6400)).max() < step


def test_a_recording_is_cut_into_windows(tmp_path):
    data = load_data(write(tmp_path / "long.WAV", tone(8100, pitch=443.7)), seconds=0.1)
    assert (data.window, data.options["seconds"]) == (800, 0.1)
    assert data.notes == ("the last 0.0125 s fill no window of 0.1 s and were left out.",)
    facts = describe_data(data)
    assert (facts["rate"], facts["seconds"], facts["samples"]) == (8000, [0.1, 0.1], 8000)
    assert {"wavenet", "edm"} <= set(facts["models"])


def test_long_clips_are_cut_and_counted(clips):
    data = load_data(clips, seconds=0.0055)
    assert lengths(data) == [40, 41, 42, 43] + [44] * 16
    assert "15 clips are longer than 0.0055 s and were cut there." in data.notes
    assert load_data(clips, seconds=0.005).window == 40  # all alike: there is no end to model


def test_channels_and_rates_are_changed_only_when_asked(clips):
    both = np.stack([tone(50), 0 * tone(50)], 1)
    write(clips / "high" / "20.wav", both)
    with pytest.raises(PangenError, match=r"20\.wav has 2 channels.*--mono"):
        load_data(clips)
    assert "1 files of several channels were mixed into one." in load_data(clips, mono=True).notes
    write(clips / "high" / "20.wav", tone(100, 16000), 16000)
    with pytest.raises(PangenError, match=r"rates differ: .*8000 Hz and .*20\.wav 16000.*--rate 8000"):
        load_data(clips)
    data = load_data(clips, rate=8000)
    assert "files of 16000 Hz were resampled to 8000." in data.notes
    assert data.rate == 8000
    assert lengths(data).count(50) == 2


def test_resampling_keeps_a_tone_and_drops_what_it_cannot_carry(tmp_path):
    high = tone(16000, 16000) + tone(16000, 16000, 6000.0) / 2
    data = load_data(write(tmp_path / "a.wav", high, 16000, "FLOAT"), rate=8000, seconds=0.1, series=True)
    x = torch.cat(data.train.x).numpy()
    assert np.abs(x - tone(len(x)))[100:-100].max() < 0.01


def test_what_is_too_loud_is_clipped_and_said(tmp_path):
    data = load_data(write(tmp_path / "a.wav", 3 * tone(8000), subtype="FLOAT"), seconds=0.1)
    assert max(float(clip.abs().max()) for clip in data.train.x) == 1
    assert any("full scale" in note for note in data.notes)


BAD = {
    "not a WAV file": (lambda path: path.write_bytes(b"hello"), "no sound file, whatever its name says"),
    "empty file": (lambda path: path.write_bytes(b""), "cannot be read"),
    "no samples": (lambda path: write(path, np.empty(0)), "holds no sound"),
    "not numbers": (lambda path: write(path, np.full(50, np.nan), subtype="FLOAT"), "no numbers"),
}


@pytest.mark.parametrize(("make", "words"), BAD.values(), ids=BAD)
def test_a_bad_file_is_named_or_skipped(clips, make, words):
    make(clips / "low" / "bad.wav")
    with pytest.raises(PangenError, match=r"bad\.wav cannot be read \(.*--skip-bad") as caught:
        load_data(clips)
    assert words in str(caught.value)
    data = load_data(clips, skip_bad=True)
    assert len(lengths(data)) == 20
    assert "1 files could not be read and were left out." in data.notes


@pytest.mark.parametrize(("make", "words"), BAD.values(), ids=BAD)
def test_a_bad_recording_has_nothing_to_be_skipped_for(tmp_path, make, words):
    """Of one file, leaving it out is no advice."""
    make(tmp_path / "bad.wav")
    with pytest.raises(PangenError, match=r"bad\.wav cannot be read \(.*give another recording") as caught:
        load_data(tmp_path / "bad.wav")
    assert words in str(caught.value)
    assert "--skip-bad" not in str(caught.value)
    with pytest.raises(PangenError, match=r"does not take the option 'skip_bad'"):
        load_data(tmp_path / "bad.wav", skip_bad=True)


def test_what_else_can_be_wrong(tmp_path, clips):
    with pytest.raises(PangenError, match=r"lasts 0.05 s, which is 0 windows of 1 s.*--seconds"):
        load_data(write(tmp_path / "short.wav", tone(400)))
    with pytest.raises(PangenError, match=r"'size'.*rate, mono, seconds"):
        load_data(clips, size=(8, 8))
    with pytest.raises(PangenError, match="positive number of seconds"):
        load_data(clips, seconds=0)
    with pytest.raises(PangenError, match="rate of 0"):
        load_data(clips, rate=0)
    write(clips / "loose.wav", tone(40))
    with pytest.raises(PangenError, match=r"clips in subfolders, and loose\.wav outside"):
        load_data(clips)


def test_without_the_package_the_error_names_it(clips, monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(PangenError, match=r"pip install 'pangen\[sound\]'"):
        load_data(clips)


def test_spoken_digits(local_data):
    local_data("fsdd")
    data = load_data("fsdd", seconds=0.5)
    assert (data.modality, data.rate, data.labels) == ("sound", 8000, tuple("0123456789"))
    assert (len(data.train), len(data.validation), len(data.test)) == (2400, 300, 300)
    assert torch.equal(torch.bincount(data.test.y), torch.full((10,), 30))
    assert max(lengths(data)) == 4000
