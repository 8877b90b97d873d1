"""Users' own files: what each kind is read as, and that reading it again gives the same."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pangen.data import Data, load_data
from pangen.data.trouble import find_trouble

RNG = np.random.default_rng(0)


def picture(path: Path, pixels: np.ndarray, mode: str | None = None, **how: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **how)


def noise(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def sizes(data: Data) -> tuple[int, int, int]:
    return len(data.train), len(data.validation), len(data.test)


def every(data: Data) -> torch.Tensor:
    return torch.cat([data.train.x, data.validation.x, data.test.x])


def again(data: Data) -> Data:
    """What a recipe does: through JSON and back."""
    return load_data(data.name, **json.loads(json.dumps(dict(data.options))))


@pytest.fixture
def grey(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """Twenty 5x7 images, and their pixels in the order of their numbers."""
    pixels = noise(20, 5, 7)
    for i, image in enumerate(pixels):
        picture(tmp_path / "grey" / f"{i}.png", image)
    return tmp_path / "grey", pixels


def test_grey_images_of_odd_size_keep_every_pixel(grey):
    folder, pixels = grey
    data = load_data(folder)
    assert (data.modality, data.shape, data.levels, data.labels) == ("image", (1, 5, 7), 256, ())
    assert sizes(data) == (16, 2, 2)
    assert data.train.x.dtype == torch.uint8
    assert sorted(map(bytes, every(data).numpy())) == sorted(map(bytes, pixels))


def test_series_keeps_the_order_of_numbers_in_names(grey):
    """2.png before 10.png, and the last tenths held out."""
    folder, pixels = grey
    data = load_data(folder, series=True)
    assert torch.equal(every(data)[:, 0], torch.from_numpy(pixels))
    assert data.options == {"series": True}


def test_the_seed_decides_the_split_and_nothing_else(grey):
    folder, _ = grey
    one, other, repeated = load_data(folder), load_data(folder, seed=1), load_data(folder, seed=1)
    assert one.fingerprint != other.fingerprint == repeated.fingerprint
    assert (one.options, other.options) == ({}, {"seed": 1})
    assert sorted(map(bytes, every(one).numpy())) == sorted(map(bytes, every(other).numpy()))


def test_colour_images(tmp_path):
    pixels = noise(12, 6, 4, 3)
    for i, image in enumerate(pixels):
        picture(tmp_path / f"{i}.png", image)
    data = load_data(tmp_path, series=True)
    assert data.shape == (3, 6, 4)
    assert torch.equal(every(data), torch.from_numpy(pixels).permute(0, 3, 1, 2))


def test_jpeg_images_come_close(tmp_path):
    smooth = np.add.outer(np.arange(16), np.arange(24)).astype(np.uint8) * 5
    for i in range(10):
        picture(tmp_path / f"{i}.{'jpg' if i % 2 else 'JPEG'}", smooth + i, quality=95)
    data = load_data(tmp_path, series=True)
    assert data.shape == (1, 16, 24)
    # quality 95 quantises the lowest frequencies of a smooth ramp by 1 or 2 levels
    assert (
        int(
            (every(data)[:, 0].int() - torch.from_numpy(smooth))
            .sub(torch.arange(10)[:, None, None])
            .abs()
            .max()
        )
        <= 6
    )


def test_grey_among_colour_becomes_colour_with_a_note(tmp_path):
    for i in range(10):
        picture(tmp_path / f"{i}.png", noise(4, 4) if i < 3 else noise(4, 4, 3))
    data = load_data(tmp_path, series=True)
    assert data.shape == (3, 4, 4)
    assert (data.train.x[0] == data.train.x[0, :1]).all()
    assert any("3 grey images" in note for note in data.notes)


def test_transparent_images_are_laid_on_white_with_a_note(tmp_path):
    pixels = noise(10, 3, 3, 4)
    pixels[..., 3] = 255
    pixels[0, 0, 0] = (10, 20, 30, 0)
    pixels[1, 0, 0] = (0, 100, 200, 51)  # a fifth of the colour, four fifths white
    for i, image in enumerate(pixels):
        picture(tmp_path / f"{i}.png", image)
    data = load_data(tmp_path, series=True)
    assert data.train.x[0, :, 0, 0].tolist() == [255, 255, 255]
    assert data.train.x[1, :, 0, 0].tolist() == [204, 224, 244]
    assert torch.equal(data.train.x[2], torch.from_numpy(pixels[2, ..., :3]).permute(2, 0, 1))
    assert any(note.startswith("2 transparent") for note in data.notes)


def test_grey_images_with_alpha_or_a_palette_stay_grey(tmp_path):
    pixels = noise(10, 3, 5)
    for i, image in enumerate(pixels):
        picture(tmp_path / f"{i}.png", image, "LA" if i % 2 else "P")
    data = load_data(tmp_path, series=True)
    assert data.shape == (1, 3, 5)
    assert torch.equal(every(data)[:, 0], torch.from_numpy(pixels))


@pytest.mark.parametrize("top", [1, 255])
def test_two_valued_images_are_binary(tmp_path, top):
    pixels = RNG.integers(0, 2, (10, 4, 4), dtype=np.uint8)
    for i, image in enumerate(pixels):
        picture(tmp_path / f"{i}.png", image * top)
    data = load_data(tmp_path, series=True)
    assert data.levels == 2
    assert torch.equal(every(data)[:, 0], torch.from_numpy(pixels))
    assert bool(data.notes) == (top == 255)


def test_one_bit_files_are_binary(tmp_path):
    pixels = RNG.integers(0, 2, (10, 4, 5), dtype=np.uint8)
    for i, image in enumerate(pixels):
        picture(tmp_path / f"{i}.png", image * 255, "1")
    data = load_data(tmp_path, series=True)
    assert data.levels == 2
    assert torch.equal(every(data)[:, 0], torch.from_numpy(pixels))


def test_size_scales_with_the_mean_kept(tmp_path):
    """A constant image stays so; the mean of a scaled one is that of the original, to rounding and borders."""
    for i in range(10):
        picture(tmp_path / f"{i}.png", np.full((9 + i, 12), 17 * i, dtype=np.uint8))
    data = load_data(tmp_path, size=(4, 6), series=True)
    assert data.shape == (1, 4, 6)
    assert torch.equal(
        every(data), (17 * torch.arange(10, dtype=torch.uint8)).view(10, 1, 1, 1).expand(10, 1, 4, 6)
    )
    assert data.options == {"size": [4, 6], "series": True}
    assert again(data).fingerprint == data.fingerprint


def test_an_image_s_orientation_tag_is_followed(tmp_path):
    """Tag 6: the stored image must be turned a quarter clockwise to stand upright."""
    tag = Image.Exif()
    tag[0x0112] = 6
    pixels = noise(10, 2, 3)
    for i, image in enumerate(pixels):
        picture(tmp_path / f"{i}.png", image, exif=tag)
    data = load_data(tmp_path, series=True)
    assert torch.equal(every(data)[:, 0], torch.from_numpy(np.rot90(pixels, -1, (1, 2)).copy()))


def test_subfolders_are_labels_in_the_order_of_their_numbers(tmp_path):
    for label in ("2", "10", "1"):
        for i in range(10):
            picture(tmp_path / label / "deeper" / f"{i}.png", np.full((3, 3), int(label), np.uint8))
    (tmp_path / "readme.md").write_text("not an image")
    (tmp_path / ".hidden").mkdir()
    picture(tmp_path / ".hidden" / "0.png", noise(9, 9))
    data = load_data(tmp_path)
    assert data.labels == ("1", "2", "10")
    assert torch.equal(data.train.x[:, 0, 0, 0].long(), torch.tensor([1, 2, 10])[data.train.y])
    assert any("1 file" in note for note in data.notes)
    assert len(every(data)) == 30


def test_subfolders_named_after_splits_are_the_splits(tmp_path):
    counts = {"train": 6, "val": 3, "test": 2}
    for split, n in counts.items():
        for label, value in (("a", 5), ("b", 9)):
            for i in range(n):
                picture(tmp_path / split / label / f"{i}.png", np.full((2, 3), value + i, np.uint8))
    data = load_data(tmp_path)
    assert sizes(data) == (12, 6, 4)
    assert data.labels == ("a", "b")
    assert data.test.x[:, 0, 0, 0].tolist() == [5, 6, 9, 10]
    assert data.test.y.tolist() == [0, 0, 1, 1]


def test_a_split_that_is_missing_is_taken_out_of_train(tmp_path):
    for i in range(20):
        picture(tmp_path / "train" / f"{i}.png", noise(2, 2))
    for i in range(4):
        picture(tmp_path / "test" / f"{i}.png", noise(2, 2))
    assert sizes(load_data(tmp_path)) == (18, 2, 4)


def test_linked_folders_are_followed_once(tmp_path):
    for i in range(12):
        picture(tmp_path / "elsewhere" / f"{i}.png", noise(2, 2))
    (tmp_path / "data").mkdir()
    os.symlink(tmp_path / "elsewhere", tmp_path / "data" / "b")
    os.symlink(tmp_path / "data", tmp_path / "data" / "loop")
    for i in range(12):
        picture(tmp_path / "data" / "a" / f"{i}.png", noise(2, 2))
    data = load_data(tmp_path / "data")
    assert (data.labels, len(every(data))) == (("a", "b"), 24)


def test_unreadable_images_are_counted_when_skipped(grey):
    folder, _ = grey
    whole = (folder / "3.png").read_bytes()
    (folder / "3.png").write_bytes(whole[:-30])
    (folder / "4.png").write_bytes(b"")
    data = load_data(folder, skip_bad=True)
    assert len(every(data)) == 18
    assert any(note.startswith("2 images") for note in data.notes)
    assert again(data).fingerprint == data.fingerprint


# -- arrays -----------------------------------------------------------------------------------------


def test_npy_vectors(tmp_path):
    x = RNG.normal(size=(50, 3))
    np.save(tmp_path / "x.npy", x)
    data = load_data(tmp_path / "x.npy", series=True)
    assert (data.modality, data.shape, data.levels, sizes(data)) == ("vector", (3,), 0, (40, 5, 5))
    assert torch.equal(every(data), torch.from_numpy(x).float())


def test_npz_with_splits(tmp_path):
    parts = {"x_train": noise(30, 4, 4, 3), "y_train": np.arange(30) % 3, "x_test": noise(6, 4, 4, 3)}
    np.savez_compressed(tmp_path / "x.npz", **parts, y_test=np.arange(6) % 3)
    data = load_data(tmp_path / "x.npz")
    assert (data.shape, sizes(data), data.labels) == ((3, 4, 4), (27, 3, 6), ("0", "1", "2"))
    assert torch.equal(data.test.x, torch.from_numpy(parts["x_test"]).permute(0, 3, 1, 2))
    assert data.test.y.tolist() == [0, 1, 2, 0, 1, 2]


def test_npz_with_one_array_of_any_name(tmp_path):
    np.savez(tmp_path / "x.npz", RNG.normal(size=(20, 2)))
    assert load_data(tmp_path / "x.npz").shape == (2,)


# -- tables -----------------------------------------------------------------------------------------


def table(path: Path, header: str | None, n: int = 30, delimiter: str = ",") -> np.ndarray:
    x = RNG.normal(size=(n, 3)).round(3)
    rows = [
        delimiter.join([*map(str, row), "red" if i % 3 else "blue", str(i % 4)]) for i, row in enumerate(x)
    ]
    path.write_text("\n".join([header, *rows] if header else rows) + "\n\n")
    return x


def test_csv_columns_but_the_target_are_coordinates(tmp_path):
    x = RNG.normal(size=(30, 2)).round(3)
    rows = [f" {a}, {b} ,{i % 3}" for i, (a, b) in enumerate(x)]
    (tmp_path / "t.csv").write_text("height,weight,kind\r\n" + "\r\n".join(rows))
    data = load_data(tmp_path / "t.csv", target="kind", series=True)
    assert (data.shape, data.labels) == ((2,), ("0", "1", "2"))
    assert torch.equal(every(data), torch.from_numpy(x).float())
    assert torch.cat([data.train.y, data.validation.y, data.test.y]).tolist() == [i % 3 for i in range(30)]
    assert load_data(tmp_path / "t.csv").shape == (3,)
    for target in (2, "2", -1, "-1"):
        assert load_data(tmp_path / "t.csv", target=target, series=True).fingerprint == data.fingerprint


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_without_a_header_numbers_its_columns(tmp_path, delimiter):
    rows = [delimiter.join((str(i / 7), str(i * i), "xy"[i % 2])) for i in range(12)]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    data = load_data(tmp_path / "t.csv", target="2", series=True)
    assert (data.labels, len(every(data))) == (("x", "y"), 12)
    assert every(data)[3].tolist() == pytest.approx([3 / 7, 9])


# -- text -------------------------------------------------------------------------------------------


def test_text_is_cut_into_windows_that_do_not_overlap(tmp_path):
    text = "".join(chr(ord("a") + i % 26) for i in range(64 * 20 + 13))
    (tmp_path / "t.txt").write_text(text)
    data = load_data(tmp_path / "t.txt", series=True)
    assert (data.modality, data.shape, data.window, sizes(data)) == ("text", (64,), 64, (16, 2, 2))
    assert "".join(data.train.x + data.validation.x + data.test.x) == text[: 64 * 20]
    assert any("last 13 characters" in note for note in data.notes)
    short = load_data(tmp_path / "t.txt", window=10)
    assert {len(s) for s in short.train.x} == {10}
    assert (short.options, again(short).fingerprint) == ({"window": 10}, short.fingerprint)
    assert load_data(tmp_path / "t.txt", window=64).options == {}


def test_lines_of_text_are_examples_whatever_ends_them(tmp_path):
    lines = [f"{'é' * i}\u2028x{i} " for i in range(12)]  # a line separator and a last space are characters
    (tmp_path / "t.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join([*lines, "", "end"]).encode() + b"\r\n")
    data = load_data(tmp_path / "t.txt", lines=True, series=True)
    assert data.train.x + data.validation.x + data.test.x == (*lines, "end")
    assert data.window == 0
    assert any("1 empty line" in note for note in data.notes)


# -- what all share ---------------------------------------------------------------------------------


def test_options_and_name_load_the_same_data_from_anywhere(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", RNG.normal(size=(50, 3)))
    monkeypatch.chdir(tmp_path)
    data = load_data("x.npy", seed=4)
    assert (data.name, data.options) == (str((tmp_path / "x.npy").resolve()), {"seed": 4})
    monkeypatch.chdir("/")
    assert again(data).fingerprint == data.fingerprint


def test_a_name_goes_before_a_path(tmp_path, monkeypatch):
    (tmp_path / "moons").mkdir()
    for i in range(10):
        picture(tmp_path / "moons" / f"{i}.png", noise(2, 2))
    monkeypatch.chdir(tmp_path)
    assert load_data("moons").truth is not None
    assert load_data("./moons").shape == (1, 2, 2)


def test_copies_constants_and_imbalance_are_found(tmp_path):
    x = RNG.normal(size=(100, 4))
    x[:, 1] = 3
    x[:, 2] = np.arange(100) % 2
    x[50:60] = x[0]
    np.savez(tmp_path / "x.npz", x=x, y=np.array(["rare"] * 2 + ["common"] * 98))
    notes = " ".join(find_trouble(load_data(tmp_path / "x.npz")).warnings)
    for words in (
        "10 of 100 examples are copies",
        "'1' is constant",
        "'2' is of ten values",
    ):
        assert words in notes
    assert "'common' occurs" in notes or "'rare' has no training example" in notes


def test_a_constant_set_is_found(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((20, 2)))
    assert any(
        "every example is the same" in told for told in find_trouble(load_data(tmp_path / "x.npy")).warnings
    )
