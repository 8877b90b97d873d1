"""Pictures show the pixels they are given, where they belong."""

from __future__ import annotations

import numpy as np
import torch

from pangen.evaluation.images import GAP, grid, picture, png, scatter, strip


def test_a_grid_places_every_pixel() -> None:
    images = torch.arange(2 * 5 * 7).reshape(2, 1, 5, 7).to(torch.uint8) % 17
    sheet = np.asarray(grid(images, 17, columns=2, scale=3))
    assert sheet.shape == (15, 2 * 21 + GAP, 3)
    found = sheet[1::3, 21 + GAP + 1 :: 3, 0]
    expected = (images[1, 0].float() * 255 / 16).round().to(torch.uint8)
    assert np.array_equal(found, expected.numpy())


def test_colours_stay_colours_and_small_images_are_enlarged() -> None:
    images = torch.zeros(3, 3, 6, 6, dtype=torch.uint8)
    images[:, 1] = 255
    sheet = np.asarray(grid(images, 256))
    assert sheet.shape[0] % 48 in (0, 2 * GAP, GAP)
    assert tuple(sheet[0, 0]) == (0, 255, 0)


def test_every_kind_of_data_has_a_picture() -> None:
    for raw in (torch.randn(50, 2), torch.randn(50, 1), torch.randn(50, 5), ("one\ntwo", "", "three" * 50)):
        content = png(picture(raw))
        assert content.startswith(b"\x89PNG")
    assert picture(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), 17).height > 8
    assert scatter(torch.randn(5, 2)).width == scatter(torch.randn(500, 2), limits=(0, 1, 0, 1)).width
    assert strip(("a",)).height < strip(("a", "b")).height
