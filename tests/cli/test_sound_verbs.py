"""Sound through the program: fitted, judged, sampled to WAV, array, picture and terminal; its errors."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pangen.cli.main import main

soundfile = pytest.importorskip("soundfile")
SMALL = ["--model.channels", "4", "--model.skip", "8", "--model.dilations", "2", "--steps", "3"]


def clips(folder: Path, rate: int = 8000) -> None:
    """Forty clips of 100 to 139 samples, in two classes."""
    for i in range(40):
        path = folder / ("high", "low")[i % 2] / f"{i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.5 * np.sin(np.arange(100 + i) * (0.8, 0.2)[i % 2]), rate)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wavenet of three steps on clips that differ in length."""
    place = tmp_path_factory.mktemp("sound")
    clips(place / "clips")
    assert main(["fit", "wavenet", str(place / "clips"), "-o", str(place / "run"), *SMALL]) == 0
    return place / "run"


def test_samples_go_where_their_file_says(pangen, here, run):
    assert pangen("sample", run, "-n", 3, "--given", "low", "-o", "three.wav").code == 0
    told = soundfile.info("three.wav")
    assert (told.samplerate, told.channels, told.subtype) == (8000, 1, "PCM_16")
    pangen("sample", run, "-n", 3, "--given", "low", "-o", "three.npy")
    array = np.load("three.npy")
    assert array.dtype == np.float32
    lengths = (~np.isnan(array)).sum(1)
    assert len(lengths) == 3
    assert lengths.max() == array.shape[1]
    sound = soundfile.read("three.wav")[0]
    assert len(sound) == lengths.sum() + 2 * 2000  # a quarter of a second between one and the next
    assert np.abs(sound[: lengths[0]] - array[0, : lengths[0]]).max() < 2**-14
    pangen("sample", run, "-n", 3, "-o", "three.png")
    assert Image.open(io.BytesIO((here / "three.png").read_bytes())).size[0] > 10


def test_samples_are_shown_by_their_loudness(pangen, run):
    lines = pangen("sample", run, "-n", 3).out.splitlines()
    assert len(lines) == 3
    assert all(
        " s " in line and " dB " in line and set(line[16:].strip()) <= set(" ▁▂▃▄▅▆▇█") for line in lines
    )


def test_a_run_is_evaluated(pangen, run):
    found = pangen("evaluate", run, "--json").json
    assert found["likelihood"]["kind"] == "exact"
    # 4 test clips of about 120 samples and an end
    assert 100 < found["likelihood"]["dims"] < 141
    assert 0 < found["likelihood"]["bits_per_dim"] < 10
    assert set(found) >= {"likelihood_given_label", "classifier", "near_copies"}


def test_a_bad_clip_among_many_is_left_out_as_advised(pangen, here):
    clips(here / "clips")
    (here / "clips" / "low" / "bad.wav").write_text("hello")
    refused = pangen("data", "clips")
    assert (refused.code, "bad.wav" in refused.err, "with --skip-bad." in refused.err) == (2, True, True)
    shown = pangen("data", "clips", "--skip-bad")
    assert (shown.code, "1 files could not be read and were left out." in shown.out) == (0, True)


def test_what_fits_nowhere_is_one_sentence(pangen, here, run):
    clips(here / "fast", 16000)
    for argv, words in (
        (
            ["sample", run, "-o", "x.txt"],
            "draws sound here; write them to a file that ends in .png or .npy or .wav",
        ),
        (["sample", run, "-o", "x.mp3"], ".wav (sound)"),
        (["evaluate", run, "--data", here / "fast"], "--rate 8000"),
        (["data", here / "fast", "--seconds", "soon"], "--seconds takes a positive number"),
        (["data", here / "fast", "--rate", "8k"], "--rate takes a whole number"),
        (["fit", "gpt", here / "fast"], "gpt cannot model"),
        (["fit", "wavenet", "digits"], "it accepts sound"),
        (["fit", "wavenet", here / "fast", "--model.kernel", "1"], "at least 2"),
    ):
        done = pangen(*argv)
        assert done.code == 2, argv
        assert words in done.err
        assert "Traceback" not in done.err
        assert len(done.err.strip().splitlines()) == 1


def test_other_data_may_be_resampled_to_fit(pangen, here, run):
    clips(here / "fast", 16000)
    done = pangen("evaluate", run, "--data", here / "fast", "--rate", 8000, "--json")
    assert done.json["likelihood"]["dims"] < 80
