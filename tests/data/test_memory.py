"""Data from memory: each shape and type is read in one way, or refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pangen.data import memory_data
from pangen.errors import PangenError

G = torch.Generator().manual_seed(0)
PIXELS = torch.randint(256, (20, 5, 7), generator=G)
COLOUR = torch.randint(256, (20, 3, 5, 7), generator=G)


def sets(data):
    return {bytes(x.numpy()) for x in torch.cat([data.train.x, data.validation.x, data.test.x])}


def rows(x):
    return {bytes(r.numpy()) for r in x.to(torch.uint8).contiguous()}


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (PIXELS, PIXELS[:, None]),
        (PIXELS.numpy().astype(np.uint8), PIXELS[:, None]),
        (PIXELS.double(), PIXELS[:, None]),
        (PIXELS.float() / 255, PIXELS[:, None]),
        (PIXELS[:, None].tolist(), PIXELS[:, None]),
        (PIXELS[..., None].to(torch.int16), PIXELS[:, None]),
        (COLOUR.to(torch.uint8), COLOUR),
        (COLOUR.permute(0, 2, 3, 1).numpy(), COLOUR),
        (list(COLOUR), COLOUR),
        (PIXELS > 99, (PIXELS > 99)[:, None]),
    ],
    ids=["NHW", "uint8", "float", "k/255", "N1HW", "NHW1", "N3HW", "NHW3", "list", "bool"],
)
def test_images_are_read_by_their_shape(x, expected):
    data = memory_data(x)
    assert data.modality == "image"
    assert data.shape == tuple(expected.shape[1:])
    assert data.levels == (2 if expected.max() <= 1 else 256)
    assert data.train.x.dtype == torch.uint8
    assert sets(data) == rows(expected)


def test_vectors_are_two_dimensional_numbers():
    x = torch.randn(30, 4, generator=G, dtype=torch.float64)
    data = memory_data(x.numpy())
    assert (data.modality, data.shape, data.train.x.dtype) == ("vector", (4,), torch.float32)
    assert sets(data) == {bytes(r.numpy()) for r in x.float()}
    assert memory_data(torch.arange(60).view(20, 3)).modality == "vector"
    assert memory_data(x.bfloat16()).train.x.dtype == torch.float32


def test_text_is_a_list_of_strings():
    words = [f"word {i}\n" for i in range(19)] + ["ends in null\0"]
    data = memory_data(words)
    assert (data.modality, data.window) == ("text", 0)
    assert set(data.train.x + data.validation.x + data.test.x) == set(words)
    assert memory_data(np.array(words[:12])).modality == "text"


@pytest.mark.parametrize(
    ("y", "labels"),
    [
        (np.arange(20) % 3 * 5, ("0", "5", "10")),
        (torch.arange(20) % 2, ("0", "1")),
        (["cat", "dog"] * 10, ("cat", "dog")),
        ((np.arange(20) % 2).astype(float)[:, None], ("0", "1")),
    ],
    ids=["gaps", "tensor", "strings", "column of floats"],
)
def test_labels_are_numbered_in_their_order(y, labels):
    x = torch.arange(20.0)[:, None]
    data = memory_data(x, y)
    assert data.labels == labels
    flat = [str(int(v)) if not isinstance(v, str) else v for v in np.asarray(y).ravel().tolist()]
    for split in (data.train, data.validation, data.test):
        assert [labels[i] for i in split.y] == [flat[int(v)] for v in split.x[:, 0]]


def test_the_seed_decides_the_split():
    assert memory_data(PIXELS).fingerprint == memory_data(PIXELS.clone()).fingerprint
    assert memory_data(PIXELS, seed=1).fingerprint != memory_data(PIXELS).fingerprint
    assert memory_data(PIXELS, seed=1).options == {"seed": 1}


X = np.random.default_rng(0).normal(size=(20, 3))
BAD = {
    "one number each": (X[:, 0], None, "shape (20,)"),
    "a scalar": (np.float64(3), None, "shape ()"),
    "five dimensions": (np.zeros((20, 2, 2, 2, 2)), None, "shape (20, 2, 2, 2, 2)"),
    "no columns": (np.zeros((20, 0)), None, "shape (20, 0)"),
    "two readings": (np.zeros((20, 3, 8, 3), int), None, "(N, C, H, W) (N, H, W, C)"),
    "four channels": (np.zeros((20, 4, 8, 8), int), None, "1 or 3 channels"),
    "fractions": (np.full((20, 4, 4), 0.3), None, "0.3 whole k / 255 flatten"),
    "negative pixels": (np.full((20, 4, 4), -1), None, "-1 0 to 255 rescale"),
    "large pixels": (np.full((20, 4, 4), 4000), None, "4000 0 to 255 rescale"),
    "NaN": (np.where(np.arange(60).reshape(20, 3) == 16, np.nan, X), None, "NaN row 5 column 1"),
    "infinite": (np.where(np.arange(60).reshape(20, 3) == 16, -np.inf, X), None, "infinite row 5 column 1"),
    "NaN pixel": (np.full((20, 2, 2), np.nan), None, "NaN row 0"),
    "too large": (X * 1e200, None, "row column 32-bit"),
    "complex": (X + 1j, None, "complex128"),
    "objects": (np.array([{}] * 20), None, "Python objects"),
    "ragged": ([[1.0], [2.0, 3.0]] * 10, None, "different shapes"),
    "few": (X[:9], None, "9 examples 10"),
    "none": ([], None, "shape (0,)"),
    "labels missing": (X, np.zeros(19, int), "labels (19,) 20 examples"),
    "one-hot labels": (X, np.eye(20), "labels (20, 20) one label each"),
    "fractional labels": (X, np.linspace(0, 1, 20), "0.05"),
    "NaN labels": (X, np.full(20, np.nan), "labels NaN"),
    "one class": (X, np.zeros(20, int), "'0' one class"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_data_is_one_sentence(case):
    x, y, words = BAD[case]
    with pytest.raises(PangenError) as raised:
        memory_data(x, y)
    message = str(raised.value)
    assert "\n" not in message
    assert message.endswith(".")
    for part in words.split():
        assert part in message, message
