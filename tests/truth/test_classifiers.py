"""Classifiers: what their parts compute, and what they are for."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

import pangen
from pangen.errors import PangenError
from pangen.families.autoregressive.cnn import CNN
from pangen.families.autoregressive.vit import ViT
from pangen.space import Batch, Progress, Space, class_space

SPACE = Space("real", (2, 7, 5), levels=4, condition=class_space(3))
both = pytest.mark.parametrize("family", [ViT, CNN])


def model(family, **how):
    torch.manual_seed(0)
    return family(SPACE, **how).double().eval()


def test_patches_hold_every_pixel_once_and_zeros_beyond_the_image():
    vit = model(ViT, patch=3)
    x = torch.arange(1.0, 71).view(1, 2, 7, 5)
    patches = vit.patches(x)
    assert patches.shape == (1, 6, 18)  # 3 x 2 patches of 2 x 3 x 3
    assert torch.equal(patches[0, 3].view(2, 3, 3)[:, :, :2], x[0, :, 3:6, 3:5])  # second row, second column
    assert torch.equal(patches[patches != 0].sort().values, x.flatten())


def test_patches_are_told_apart_by_their_positions_alone():
    """Patches that change places together with their positions leave the class as it was; without, they do not."""
    vit, x = model(ViT, patch=3), torch.randn(4, 2, 7, 5).double()
    patches, order = vit.patches, torch.randperm(6)
    logits = vit.classify(x)
    vit.patches = lambda x: patches(x)[:, order]
    assert not torch.allclose(vit.classify(x), logits, atol=1e-6)
    with torch.no_grad():
        vit.position[1:] = vit.position[1:][order]
    assert torch.allclose(vit.classify(x), logits, atol=1e-9)


def test_a_patch_has_about_as_many_pixels_as_there_are_patches():
    for side, patch in ((1, 1), (8, 2), (28, 5), (64, 8), (224, 14)):
        vit = ViT(Space("real", (1, side, side), 4, condition=class_space(2)), width=8, depth=1)
        assert vit.cut.patch == patch


@both
def test_the_loss_is_the_cross_entropy_with_a_share_of_every_class(family):
    m, x, y = model(family, smoothing=0.2, dropout=0.0), torch.randn(6, 2, 7, 5).double(), torch.arange(6) % 3
    log_p = m.classify(x)
    assert torch.allclose(log_p.exp().sum(1), torch.ones(6).double())
    target = 0.8 * torch.eye(3)[y].double() + 0.2 / 3
    smoothed = m.train().loss(Batch(x, y), Progress(0, 1)).total
    assert torch.allclose(smoothed, -(target * log_p).sum(1).mean())
    assert torch.allclose(m.eval().loss(Batch(x, y), Progress(0, 1)).total, cross_entropy(log_p, y))
    with torch.no_grad():
        m.head.weight.zero_()
        m.head.bias.zero_()
    assert math.isclose(float(m.loss(Batch(x, y), Progress(0, 1)).total.detach()), math.log(3))


@both
def test_without_labels_there_is_nothing_to_learn(family):
    with pytest.raises(PangenError, match="labels"):
        family(Space("real", (1, 8, 8), levels=4))


@pytest.mark.parametrize("channels", [1, 6, 18])
def test_any_number_of_channels_will_do(channels):
    assert model(CNN, channels=channels).classify(torch.randn(2, 2, 7, 5).double()).shape == (2, 3)


def test_a_patch_larger_than_the_image_is_refused():
    with pytest.raises(PangenError, match=r"model\.patch = 9"):
        model(ViT, patch=9)


@pytest.fixture(scope="module")
def runs():
    fields = {
        "model.patch": 2,
        "model.width": 32,
        "model.depth": 1,
        "training.lr": 5e-3,
        "training.batch": 64,
    }
    vit = pangen.fit("vit", "digits", steps=100, device="cpu", recipe=fields)
    return vit, pangen.fit("independent", "digits", device="cpu")


def test_a_classifier_is_judged_by_its_classes_and_lends_its_features(runs):
    vit, independent = runs
    own = pangen.evaluate(vit, examples=200)
    assert own["likelihood"] == {"none": "it models p(y given x) alone"}
    assert own["classifier"]["value"] > 0.5  # of ten classes
    assert "cannot be sampled" in own["fidelity"]["none"]
    row = pangen.evaluate(independent, features=vit, samples=200, examples=50)
    assert row["fidelity"]["frechet"]["features"].startswith("vit trained on digits, principal components")
    with pytest.raises(PangenError, match="gives no features"):
        pangen.evaluate(independent, features=independent, samples=200, examples=50)
