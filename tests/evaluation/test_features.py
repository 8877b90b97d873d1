"""Features: as named, never too many, and learnt from the training split alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pangen.data import load_data
from pangen.data.dataset import Data, Split
from pangen.evaluation.features import choose_features
from pangen.rng import generator


def vectors(d: int) -> Data:
    parts = [Split(3 + 2 * torch.randn(n, d, generator=generator("cpu", "v", n, d))) for n in (300, 60, 80)]
    return Data("cloud", "vector", *parts)


def texts() -> Data:
    words = ["abba", "acab", "bead", "deaf", "fade"]
    parts = [
        Split(tuple(" ".join(words[(i * k) % 5] for k in range(1, 9)) for i in range(n)))
        for n in (60, 30, 40)
    ]
    return Data("words", "text", *parts, window=39)


def test_vectors_are_standardised_coordinates() -> None:
    data = vectors(3)
    features = choose_features(data, 80)
    z = features.embed(data.train.x)
    assert features.name == "standardised coordinates"
    torch.testing.assert_close(z.mean(0), torch.zeros(3).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(3).double(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("examples", [20, 60, 1000])
def test_never_more_dimensions_than_a_fifth_of_the_examples_nor_32(examples: int) -> None:
    digits = load_data("digits")
    for data in (vectors(50), texts(), replace(digits, labels=())):
        features = choose_features(data, examples)
        assert 1 <= features.dims <= min(32, examples // 5)
        assert features.embed(data.test.x).shape == (len(data.test), features.dims)


def test_unlabelled_images_have_principal_components() -> None:
    digits = load_data("digits")
    features = choose_features(replace(digits, labels=()), 1000)
    assert features.name == "principal components of pixels, 32-d"
    z = features.embed(digits.train.x)
    S = torch.cov(z.T)
    off = S - torch.diag(S.diagonal())
    assert float(off.abs().max()) < 1e-9 * float(S.diagonal().max()) + 1e-9
    assert (S.diagonal().diff() <= 1e-12).all()  # the largest variance first


def test_classifier_features_repeat_and_tell_classes_apart() -> None:
    digits = load_data("digits")
    small = replace(digits, train=digits.train.first(400))
    one, two = choose_features(small, 300), choose_features(small, 300)
    assert one.name == "digits classifier, 32-d"
    z = one.embed(digits.test.x)
    assert torch.equal(z, two.embed(digits.test.x))
    centres = torch.stack([one.embed(small.train.x)[small.train.y == c].mean(0) for c in range(10)])
    right = torch.cdist(z, centres).argmin(1) == digits.test.y
    assert right.double().mean() > 0.8  # by chance 0.1: the features are of the classes


def test_features_do_not_see_the_test_split() -> None:
    data = vectors(50)
    other = replace(data, test=Split(data.test.x * 100), validation=Split(data.validation.x - 7))
    probe = torch.randn(5, 50)
    assert torch.equal(choose_features(data, 100).embed(probe), choose_features(other, 100).embed(probe))


@pytest.mark.parametrize("examples", [5, 10, 25])
def test_few_dimensions_still_tell_examples_apart(examples, quick_features):
    """Normalised to a fixed length, one dimension would be 0 for every image, and two only signs."""
    data = load_data("digits")
    features = choose_features(data, examples)
    assert features.dims == examples // 5
    embedded = features.embed(data.test.x)
    assert (embedded.std(0) > 0.1).all()
    assert len(embedded.round(decimals=3).unique(dim=0)) > 50
