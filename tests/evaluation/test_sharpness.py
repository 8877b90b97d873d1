"""The energy of fine detail in closed form, and what blur and noise do to it."""

from __future__ import annotations

import math

import pytest
import torch
from evaluation_fakes import image_data, normal_data
from torch import Tensor

import pangen
from pangen.evaluation import Judge
from pangen.evaluation.sharpness import FINE, fine_energy, sharpness
from pangen.rng import generator


def wave(fy: float, fx: float, amplitude: float = 0.3, size: int = 16) -> Tensor:
    """A cosine of so many cycles a pixel about a grey of one half."""
    rows, columns = torch.meshgrid(*[torch.arange(size).double()] * 2, indexing="ij")
    return (0.5 + amplitude * torch.cos(2 * math.pi * (fy * rows + fx * columns))).view(1, 1, size, size)


def digits() -> Tensor:
    data = pangen.load_data("digits")
    return data.train.x[:400].float() / (data.levels - 1)


def blurred(images: Tensor, sigma: float) -> Tensor:
    """By a normal of that deviation in pixels, the border repeated."""
    offsets = torch.arange(-4, 5)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    padded = torch.nn.functional.pad(images, (4, 4, 4, 4), mode="replicate")
    across = torch.nn.functional.conv2d(padded, kernel.view(1, 1, 1, -1))
    return torch.nn.functional.conv2d(across, kernel.view(1, 1, -1, 1))


@pytest.mark.parametrize(
    ("fy", "fx", "fine"),
    [
        (0.0, 3 / 16, False),
        (0.0, 4 / 16, True),
        (5 / 16, 0.0, True),
        (2 / 16, 3 / 16, False),  # a radius of 0.225
        (3 / 16, 3 / 16, True),  # 0.265
    ],
)
def test_a_pure_frequency_has_half_its_amplitude_squared(fy, fx, fine):
    """Of a cosine's mean square a^2 / 2 all is fine, or nothing; the grey it stands on never is."""
    assert fine == (math.hypot(fy, fx) >= FINE)
    expected = 0.3**2 / 2 if fine else 0.0
    assert float(fine_energy(wave(fy, fx))) == pytest.approx(expected, abs=1e-9)


def test_energies_add_up_over_frequencies_and_channels_are_averaged():
    both = wave(0, 5 / 16) + wave(6 / 16, 0, 0.1)
    assert float(fine_energy(both)) == pytest.approx(0.3**2 / 2 + 0.1**2 / 2, abs=1e-9)
    colours = torch.cat([wave(0, 5 / 16), wave(0, 5 / 16), wave(0, 1 / 16)], 1)
    assert float(fine_energy(colours)) == pytest.approx(0.2**2 / 2, abs=1e-9)


def test_white_noise_has_its_variance_times_the_share_of_fine_frequencies():
    noise = 0.5 + 0.1 * torch.randn(2000, 1, 16, 16, generator=generator("cpu", "noise"))
    f = torch.fft.fftfreq(16)
    share = float((f[:, None] ** 2 + f[None] ** 2 >= FINE**2).float().mean())
    # a mean over 2000 images, each of some 100 independent energies: 0.3 % is one standard deviation
    assert float(fine_energy(noise).mean()) == pytest.approx(0.1**2 * share, rel=0.015)


def test_blur_takes_detail_away_the_more_the_wider():
    real = digits()
    ratios = [sharpness(real, blurred(real, sigma))["value"] for sigma in (0.3, 0.5, 0.8, 1.2)]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[0] < 1
    assert ratios[-1] < 0.1


def test_noise_adds_detail():
    real = digits()
    noisy = real + 0.2 * torch.randn(real.shape, generator=generator("cpu", "noise"))
    found = sharpness(real, noisy)
    assert found["interval"][0] > 1.1


def test_the_data_is_as_sharp_as_itself():
    real = digits()
    assert sharpness(real, real)["value"] == 1
    found = sharpness(real[:200], real[200:])
    low, high = found["interval"]
    assert low <= 1 <= high
    assert high - low < 0.3


def test_real_images_without_detail_give_no_ratio():
    assert "none" in sharpness(torch.full((3, 1, 8, 8), 0.5), digits()[:3])


def test_the_judge_tells_of_images_alone(quick_features):
    for row in Judge(image_data()).yardsticks()[:2]:  # the others are no honest images
        low, high = row["sharpness"]["interval"]
        assert low < 1 < high
    assert "sharpness" not in Judge(normal_data()).yardsticks()[0]
