"""Near-copies are found, and unseen real data is called one as rarely as promised."""

from __future__ import annotations

import pytest
import torch

from pangen.evaluation.memorisation import ALPHA, copy_threshold, near_copies, nearest_distances
from pangen.rng import generator


def data(n: int, *keys: int | str) -> torch.Tensor:
    return torch.rand(n, 12, generator=generator("cpu", "copies", *keys))


def test_planted_duplicates_are_all_found() -> None:
    train, held_out = data(500, "train"), data(300, "test")
    threshold = copy_threshold(held_out, train)
    samples = data(400, "samples")
    planted = torch.arange(0, 400, 8)
    samples[planted] = train[planted] + 1e-3 * torch.randn(len(planted), 12)
    found = near_copies(samples, train, threshold)
    assert found[planted].all()
    others = torch.ones(400, dtype=torch.bool)
    others[planted] = False
    # 350 at a rate of about 1 % (itself from 300): 5 % is far beyond both errors
    assert found[others].double().mean() < 0.05


def test_the_share_of_real_data_called_copies_is_alpha() -> None:
    train, held_out = data(500, "train"), data(2000, "test")
    share = near_copies(held_out, train, copy_threshold(held_out, train)).double().mean()
    assert abs(float(share) - ALPHA) <= 1 / 2000


@pytest.mark.parametrize("d", [2, 100])
def test_a_copy_is_at_distance_zero_in_a_crowd(d: int) -> None:
    """Far from the origin, matrix products alone would find other rows nearer than the copy."""
    train = 5 + 1e-2 * torch.rand(3000, d, generator=generator("cpu", "crowd", d))
    assert nearest_distances(train[:500], train).max() == 0


def test_chunks_do_not_change_distances() -> None:
    x, train = data(600, "a"), data(50, "b")
    expected = ((x[:, None] - train[None]) ** 2).sum(-1).min(1).values.sqrt()
    torch.testing.assert_close(nearest_distances(x, train), expected, atol=1e-5, rtol=1e-4)
