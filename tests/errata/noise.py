"""Mistakes in diffusion and in what is made of it, and in names."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from mistake import Damage, mistake, near
from torch import Tensor, nn

from pangen.families.classical.arima import ARIMA
from pangen.families.diffusion.ddpm import DDPM
from pangen.networks.alias_free import Band, FilteredRectifier, positions
from pangen.samplers.diffusion import Ancestral
from pangen.samplers.noise import spaced
from pangen.space import Space

MEAN, STD = 3.0, 0.5


class Known:
    """The exact denoiser of N(3, 1/4)."""

    sigma_min, sigma_max = 0.002, 80.0

    def denoise(self, x: Tensor, sigma: Tensor, y: Tensor | None = None) -> Tensor:
        return (MEAN + STD**2 / (STD**2 + sigma[:, None] ** 2) * (x - MEAN)).to(x.dtype)


def variance_after(steps: int, kept: float) -> float:
    """Of N(0, 1) after so many steps `x = kept * x + 0.43 e`, in closed form."""
    variance = 1.0
    for _ in range(steps):
        variance = kept**2 * variance + 0.43**2
    return variance


@mistake(20, "Noise added to a signal that is never shrunk")
def growing_variance() -> list[Damage]:
    """Samples start from N(0, I), so the chain has to end there. Steps that only add noise end anywhere. **Right:**
    x_t = sqrt(abar) x_0 + sqrt(1 - abar) e. A process whose variance grows is right as well, if its prior grows with
    it: N(0, sigma_max^2)."""
    found = [
        Damage(
            f"variance after {T} steps",
            variance_after(T, 1.0),
            variance_after(T, math.sqrt(1 - 0.43**2)),
            True,
        )
        for T in (50, 200, 1000)
    ]
    near_all = all(near(d.wrong, v, 0.05) for d, v in zip(found, (10, 38, 188), strict=True))
    return [d._replace(proven=near_all and near(d.right, 1.0)) for d in found]


@mistake(21, "The network's output taken for the state before, and regressed on noise")
def output_for_state() -> list[Damage]:
    """A network that was trained to tell the noise is asked for x_{t-1}. Levels in their order on one batch make it worse:
    the last steps undo the first. **Right:** predict the noise, the example or v, draw a level for each example,
    and take the posterior's step to the level below."""
    model, noise = Known(), torch.randn(4000, 1, generator=torch.Generator().manual_seed(0))
    x = noise * model.sigma_max
    for sigma, _ in pairwise(spaced(50, model.sigma_min, model.sigma_max)):
        x = (x - model.denoise(x, sigma.expand(len(x)))) / sigma  # E[e given x], the best such network
    *_, right = Ancestral(200)(model, noise, generator=torch.Generator().manual_seed(1))
    means = float(x.mean()), float(right.mean())
    stds = float(x.std()), float(right.std())
    return [
        Damage("mean of samples of N(3, 1/4)", *means, abs(means[0] - MEAN) > 1 and near(means[1], MEAN)),
        Damage("their standard deviation", *stds, near(stds[1], STD, 0.1)),
    ]


@mistake(23, "Consistency models that need pairs of data")
def no_pairs() -> list[Damage]:
    """Their pairs are made: one example under two levels of the *same* noise, or two points of one path of the
    probability flow. f is constant along a path, which says nothing of examples that a data set would have to pair.
    **Right:** any data."""
    # of N(3, 1/4) the path through x at sigma is 3 + (x - 3) sqrt((s^2 + lower^2) / (s^2 + sigma^2))
    x, sigma = MEAN + 10 * torch.randn(1000, 1, generator=torch.Generator().manual_seed(0)), 10.0
    lower = MEAN + (x - MEAN) * math.sqrt((STD**2 + 1) / (STD**2 + sigma**2))

    def f(x: Tensor, sigma: float) -> Tensor:
        return MEAN + (x - MEAN) * STD / math.sqrt(STD**2 + sigma**2)

    apart = [
        float((f(x, sigma) - f(other, 1.0)).square().mean().sqrt()) for other in (lower.roll(1, 0), lower)
    ]
    return [
        Damage(
            "f at both ends, apart: of pairs of data, of a path", *apart, apart[0] > 0.3 and apart[1] < 1e-5
        )
    ]


@mistake(24, "Three names: StyleGAN3, style transfer, ARIMA")
def names() -> list[Damage]:
    """StyleGAN3 is not a better StyleGAN2 but one whose details move with the picture: rectifiers are filtered, so that
    no wave folds back. Style transfer is no GAN: it matches Gram matrices of one image, which do not even see where
    things are. ARIMA is not autoregression: what the moving average and the differences explain, plain
    autoregression cannot."""
    plain, filtered = folding(lambda x: nn.functional.leaky_relu(x, 0.2), 6), folding(rectifier(), 0)
    image = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    mixed = image[:, torch.randperm(64, generator=torch.Generator().manual_seed(1))]
    gram = float((image @ image.T - mixed @ mixed.T).abs().max())
    pixels = float((image - mixed).abs().max())
    errors = prediction_errors()
    return [
        Damage(
            "error of a rectifier, moved by half a pixel", plain, filtered, filtered < 1e-3 < 5e-3 < plain
        ),
        Damage(
            "an image and its pixels shuffled, apart: Gram matrices, pixels",
            gram,
            pixels,
            gram < 1e-3 < 1 < pixels,
        ),
        Damage(
            "one-step error of an MA(1) of variance 1: AR(1), ARIMA",
            *errors,
            near(errors[0], 1.363) and near(errors[1], 1.0),
        ),
    ]


def rectifier() -> FilteredRectifier:
    band = Band(16, 4.0, 4.0)
    return FilteredRectifier((band, band), (band, band), (6, 0))


def folding(f, margin: int) -> float:
    """Relative squared error between a wave moved before f and after it, by half a sample."""

    def wave(shift: float) -> Tensor:
        t = positions(16, 6).float() - shift
        return (torch.sin(6 * math.pi * t)[:, None] * torch.cos(4 * math.pi * t))[None, None]

    inside = slice(margin, -margin or None)
    a, b = (f(wave(shift))[:, :, inside, inside] for shift in (0.0, 0.5 / 16))
    half = torch.exp(torch.fft.fftfreq(16) * 16 * -2j * math.pi * 0.5 / 16)
    moved = torch.fft.ifft2(torch.fft.fft2(a) * half[:, None] * half).real
    return float((moved - b).square().mean() / b.square().mean())


def prediction_errors() -> tuple[float, float]:
    """Variance of the last of 30 values of w_t = e_t + 0.9 e_{t-1} given those before, by the best AR(1) and the truth."""
    model = ARIMA(Space("real", (1, 30)), order=(0, 0, 1), seasonal=(0, 0, 0), period=1)
    model.theta.fill_(0.9)
    _, L = model.stationary(30)
    variance, covariance = float((L @ L.T)[0, 0]), float((L @ L.T)[0, 1])
    return variance - covariance**2 / variance, float(L[-1, -1] ** 2)


@mistake(25, "L_simple, reported as a bound")
def simple_loss() -> list[Damage]:
    """The mean squared error of the noise is a loss and not a likelihood: its terms lack the weights of the bound. With
    the perfect network it lies below the entropy of the data, which no bound can. **Right:** the bound beside it."""
    generator = torch.Generator().manual_seed(0)
    x = MEAN + STD * torch.special.ndtri((torch.arange(20_000).double()[:, None] + 0.5) / 20_000)
    levels, model = spaced(50, 0.01, 50.0), DDPM(Space("real", (1,)), width=8)
    simple = float((STD**2 / (STD**2 + levels**2)).mean()) / 2  # E(e - E[e given x])^2 / 2, over the levels
    model.denoise = Known().denoise
    model.error = lambda sigma: STD**2 * sigma**2 / (STD**2 + sigma**2)
    with torch.no_grad():
        bound = -float(model.log_prob(x, generator=generator).nats.mean())
    entropy = 0.5 * math.log(2 * math.pi * math.e * STD**2)
    return [
        Damage(
            f"'bound' on data of entropy {entropy:.3f} nats", simple, bound, simple < entropy < bound + 0.05
        )
    ]
