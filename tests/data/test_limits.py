"""Claims that are too large are refused before anything is made of them, and each limit can be raised."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pangen
from pangen.data import load_data
from pangen.errors import PangenError
from pangen.limits import LIMITS, PIXELS

DOCS = Path(__file__).parents[2] / "docs" / "runs.md"


def bomb(side: int) -> bytes:
    """The start of a PNG file that unpacks to a square, however little follows."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    end = struct.pack(">I", zlib.crc32(chunk)) + struct.pack(">I", 0) + b"IDAT"
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(chunk) - 4) + chunk + end


def test_an_image_that_unpacks_to_too_many_pixels_is_refused_by_its_header(tmp_path):
    """13,500 x 13,500 pixels are more than the reader's own limit too, which stays as it is."""
    own = Image.MAX_IMAGE_PIXELS
    (tmp_path / "a.png").write_bytes(bomb(13_500))
    with pytest.raises(PangenError, match=r"a\.png claims more than 100000000 pixels.*PANGEN_MOST_PIXELS\.$"):
        load_data(tmp_path, skip_bad=True)
    assert own == Image.MAX_IMAGE_PIXELS


def test_a_limit_can_be_raised_and_lowered(tmp_path, monkeypatch):
    for i in range(12):
        Image.fromarray(np.full((20, 30), i, np.uint8)).save(tmp_path / f"{i}.png")
    monkeypatch.setenv("PANGEN_MOST_PIXELS", "599")
    with pytest.raises(PangenError, match="more than 599 pixels"):
        load_data(tmp_path)
    monkeypatch.setenv("PANGEN_MOST_PIXELS", "6e2")
    assert load_data(tmp_path).shape == (1, 20, 30)


@pytest.mark.parametrize("told", ["many", "nan", "inf"])
def test_a_limit_that_is_no_number_is_named(told, monkeypatch):
    monkeypatch.setenv("PANGEN_MOST_PIXELS", told)
    with pytest.raises(PangenError, match=f"PANGEN_MOST_PIXELS = '{told}' is no number of pixels"):
        PIXELS.check(1, "x")


def test_archives_sound_and_facts_have_limits(tmp_path, monkeypatch, digits_run):
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros((100, 1000)))
    monkeypatch.setenv("PANGEN_MOST_UNPACKED", "1000")
    with pytest.raises(
        PangenError, match=r"x\.npz claims more than 1000 unpacked bytes.*PANGEN_MOST_UNPACKED"
    ):
        load_data(tmp_path / "x.npz")
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(tmp_path / "x.wav", np.zeros(5000), 1000)
    monkeypatch.setenv("PANGEN_MOST_SAMPLES", "4999")
    with pytest.raises(
        PangenError, match=r"x\.wav claims more than 4999 samples of sound.*PANGEN_MOST_SAMPLES"
    ):
        load_data(tmp_path / "x.wav")
    monkeypatch.setenv("PANGEN_MOST_FACTS", "100")
    with pytest.raises(
        PangenError, match=r"recipe\.json claims more than 100 bytes of facts.*PANGEN_MOST_FACTS"
    ):
        pangen.load_run(digits_run)


def test_a_recipe_that_asks_for_endless_layers_is_stopped(monkeypatch):
    monkeypatch.setenv("PANGEN_MOST_PARTS", "100")
    with pytest.raises(
        PangenError, match="the recipe of this realnvp claims more than 100 tensors of weights"
    ):
        pangen.fit("realnvp", "moons", steps=1, device="cpu", recipe={"model.pairs": 10**6})


def test_a_rate_that_no_recording_has_is_refused(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    content = io.BytesIO()
    soundfile.write(content, np.zeros(5000), 1000, format="WAV")
    raw = bytearray(content.getvalue())
    raw[24:28] = struct.pack("<I", 2**31 - 1)
    (tmp_path / "x.wav").write_bytes(raw)
    with pytest.raises(PangenError, match="2147483647 samples a second"):
        load_data(tmp_path / "x.wav", rate=700)
    with pytest.raises(PangenError, match="a rate of 2147483647 Hz"):
        load_data(tmp_path / "x.wav", rate=2**31 - 1)


def test_every_limit_is_documented():
    text = DOCS.read_text()
    assert [limit.variable for limit in LIMITS if f"| `{limit.variable}` |" not in text] == []
