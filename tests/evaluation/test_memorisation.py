"""Near-copies are found, unseen real data is called one as rarely as promised, and members are told by who leaks them."""

from __future__ import annotations

import pytest
import torch

from pangen.evaluation.memorisation import (
    ALPHA,
    Memory,
    auc,
    copy_threshold,
    false_positive_rate,
    nearest,
)
from pangen.rng import generator


def data(n: int, *keys: int | str) -> torch.Tensor:
    return torch.rand(n, 12, generator=generator("cpu", "copies", *keys))


def test_planted_duplicates_are_all_found() -> None:
    """Exact ones, nearly exact ones, and those of an example that occurs in the training split ten times."""
    train = data(500, "train")
    train[:10] = train[0]
    memory = Memory(train, data(300, "test"))
    samples = data(400, "samples")
    planted = torch.arange(0, 400, 8)
    samples[planted] = train[planted] + 1e-3 * torch.randn(len(planted), 12)
    samples[8] = train[3]
    row, found = memory.copies(samples)
    assert (found.ratio[planted] < memory.threshold).all()
    assert found.index[planted[2:], 0].tolist() == planted[2:].tolist()
    # 350 others at a rate of about 1 % (itself from 300): 5 % is far beyond both errors
    assert row["value"] * 400 - len(planted) < 0.05 * 350


def test_the_false_positive_rate_is_the_stated_one_over_20_splits() -> None:
    """Within 2 points of 1 % on each split into training, calibration and unseen data; on their mean within half a point."""
    rates = []
    for split in range(20):
        x = torch.cat([data(900, split), 0.2 * data(300, "dense", split)])  # of two densities
        train, known, fresh = x[torch.randperm(1200, generator=generator("cpu", "split", split))].split(400)
        memory = Memory(train, known)
        assert memory.rate == false_positive_rate(400) == pytest.approx(ALPHA, abs=1e-3)
        rates.append(memory.copies(fresh)[0]["value"])
    assert max(abs(rate - ALPHA) for rate in rates) <= 0.02
    assert abs(sum(rates) / 20 - ALPHA) <= 0.005


def test_the_threshold_is_an_order_statistic() -> None:
    assert copy_threshold(torch.arange(1.0, 200.0)) == 2  # j = 0.01 * 200
    assert copy_threshold(torch.arange(1.0, 51.0)) == 1  # of few, the smallest
    assert false_positive_rate(50) == pytest.approx(1 / 51)


@pytest.mark.parametrize("d", [2, 100])
def test_a_copy_is_at_distance_zero_in_a_crowd(d: int) -> None:
    """Far from the origin, matrix products alone would find other rows nearer than the copy."""
    train = 5 + 1e-2 * torch.rand(3000, d, generator=generator("cpu", "crowd", d))
    assert nearest(train[:500], train).ratio.max() == 0


def test_ratios_equal_brute_force() -> None:
    x, train = data(600, "a"), data(60, "b")
    away = ((x[:, None] - train[None]) ** 2).sum(-1).sqrt().sort(1)
    found = nearest(x, train)
    expected = away.values[:, 0] / away.values[:, 1:50].mean(1)
    torch.testing.assert_close(found.ratio, expected, atol=1e-5, rtol=1e-4)
    assert torch.equal(found.index, away.indices[:, :3])


def test_members_are_told_by_samples_that_are_copies_and_not_by_fresh_ones() -> None:
    train, unseen = data(400, "train"), data(400, "test")
    memory = Memory(train, unseen)
    low, high = memory.membership(data(400, "fresh"))["interval"]
    assert low <= 0.5 <= high
    assert memory.membership(train[:200])["interval"][0] > 0.6
    assert memory.membership(train)["value"] > 0.99


def test_auc_is_the_share_of_pairs_and_its_interval_covers() -> None:
    from sklearn.metrics import roc_auc_score

    members, others = torch.tensor([3.0, 2.0, 2.0, 5.0]), torch.tensor([1.0, 2.0, 4.0])
    expected = roc_auc_score([1] * 4 + [0] * 3, [*members.tolist(), *others.tolist()])
    assert auc(members, others)["value"] == pytest.approx(expected)
    assert auc(members, members - 9)["interval"] == pytest.approx([0.4729, 1.0], abs=1e-4)  # .05^(1/4)
    hits = 0
    for i in range(200):
        a = torch.randn(60, generator=generator("cpu", "auc", i)) + 1
        b = torch.randn(80, generator=generator("cpu", "auc", "others", i))
        low, high = auc(a, b)["interval"]
        hits += low <= 0.7602 <= high  # Phi(1 / sqrt 2)
    assert hits >= 180  # three binomial errors below 95 %


def test_texts_of_no_known_trigram_are_no_copies() -> None:
    """In the features of usual trigrams all nonsense would fall on one point, next to whatever text is odd."""
    from pangen.data.dataset import Data, Split
    from pangen.evaluation.features import flatten

    g = generator("cpu", "texts")
    words = ("the", "king", "and", "queen", "of", "a", "house", "is", "not")

    def texts(n: int) -> tuple[str, ...]:
        drawn = torch.randint(len(words), (n, 12), generator=g).tolist()
        return tuple(" ".join(words[i] for i in row) for row in drawn)

    train, unseen = texts(300), texts(200)
    letters = torch.randint(33, 127, (100, 50), generator=g).tolist()
    data = Data("plays", "text", *[Split(train)] * 3)
    memory = Memory(flatten(data, train), flatten(data, unseen))
    assert memory.copies(flatten(data, tuple("".join(map(chr, row)) for row in letters)))[0]["value"] == 0
    assert memory.copies(flatten(data, train[:50]))[0]["value"] == 1
    one_letter_off = tuple("x" + text[1:] for text in train[:50])
    assert memory.copies(flatten(data, one_letter_off))[0]["value"] > 0.9


def test_where_unseen_data_repeats_training_data_only_equals_are_copies() -> None:
    """Of 300 possible rows 200 training draws hold half: honest samples repeat half, copies all."""
    possible = data(300, "possible")

    def draw(n: int, *keys: int | str) -> torch.Tensor:
        return possible[torch.randint(300, (n,), generator=generator("cpu", "draw", *keys))]

    train = draw(200, "train")
    memory = Memory(train, draw(400, "unseen"))
    share = len(train.unique(dim=0)) / 300
    assert memory.rate == pytest.approx(share, abs=0.08)  # three binomial errors
    assert memory.copies(draw(400, "fresh"))[0]["value"] == pytest.approx(share, abs=0.08)
    assert memory.copies(train)[0]["value"] == 1
    assert memory.copies(train + 1e-4)[0]["value"] == 0
