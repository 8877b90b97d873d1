"""StyleGAN: what codes do to layers, to learning rates, and to path lengths; and signals without aliases."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, interpolate, linear

from pangen.errors import PangenError
from pangen.families.adversarial.stylegan import PATH_EVERY, StyleGAN, path_lengths
from pangen.networks import alias_free
from pangen.networks.alias_free import (
    TAPS,
    AliasFreeSynthesis,
    Band,
    FilteredRectifier,
    FourierInput,
    bands,
    equivariance,
    positions,
    resampling,
)
from pangen.networks.style import RATE, Dense, Mapping, Modulated, StyleCritic, Synthesis
from pangen.networks.unnormalised import resized
from pangen.space import Batch, Progress, Space, class_space

IMAGE = Space("real", (1, 8, 8), levels=17)


def small(**settings) -> StyleGAN:
    torch.manual_seed(0)
    return StyleGAN(**{"space": IMAGE, "width": 64, "noise": 8, **settings})


# -- modulation -------------------------------------------------------------------------------------


def modulated() -> tuple[Modulated, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    layer, w = Modulated(8, 32, 16, 3), 2 * torch.randn(6, 8)
    return layer, torch.randn(6, 32, 20, 20), w


def test_demodulated_outputs_have_unit_variance_for_every_style():
    """Of unit-variance inputs, however large the styles are; without Eq. 3 their scales pass through."""
    layer, x, w = modulated()
    inside = layer(x, w)[:, :, 1:-1, 1:-1]  # where nothing was padded
    assert torch.allclose(inside.var((1, 2, 3)), torch.ones(6), atol=0.1)  # 5184 correlated numbers each
    assert torch.allclose(
        layer(x[:1], 100 * w[:1]).var(), layer(x[:1], 90 * w[:1]).var(), rtol=0.05
    )  # all but the style's bias of 1
    layer.demodulated = False
    spread = layer(x, w)[:, :, 1:-1, 1:-1].var((1, 2, 3))
    assert spread.max() > 1.5 * spread.min() > 3


def test_scaled_channels_are_a_convolution_for_each_example():
    """Eq. 1 and 3 as they are written, by groups, and as they are computed."""
    layer, x, w = modulated()
    s = layer.style(w)
    own = s[:, None, :, None, None] * layer.conv.weight  # (B, outputs, inputs, 3, 3), Eq. 1
    own = own / own.square().sum((2, 3, 4), keepdim=True).sqrt()  # Eq. 3
    expected = conv2d(x.flatten(0, 1)[None], own.flatten(0, 1), padding=1, groups=len(x))
    assert torch.allclose(layer(x, w), expected.view(6, 16, 20, 20), atol=1e-5)


def test_equalised_layers_are_the_same_functions_and_learn_at_their_own_rate():
    """Weights of variance 1 / inputs; one step of Adam moves what a layer does by rate / sqrt(inputs) of its own."""
    torch.manual_seed(0)
    x, lr = torch.randn(5, 400), 1e-2
    for rate in (1.0, RATE):
        layer = Dense(400, 300, bias=0.5, rate=rate)
        assert torch.allclose(layer(x), linear(x, layer.raw * rate / 20, torch.full((300,), 0.5)), atol=1e-5)
        assert layer.weight.std().item() == pytest.approx(1 / 20, rel=0.01)
        before = layer.weight.detach().clone(), layer.bias.detach().clone()
        layer(x).sum().backward()
        torch.optim.Adam(layer.parameters(), lr).step()
        moved = [(a - b).abs() for a, b in zip((layer.weight, layer.bias), before, strict=True)]
        assert moved[0].mean().item() == pytest.approx(lr * rate / 20, rel=0.01)
        assert moved[1].mean().item() == pytest.approx(lr * rate, rel=0.01)


def test_doubling_and_halving_are_the_filters_of_the_paper():
    """[1, 3, 3, 1], between zeros put in for doubling, every second kept for halving; inside the edges."""
    x, line = torch.randn(1, 1, 8, 10), torch.tensor([1.0, 3.0, 3.0, 1.0])
    kernel = (line[:, None] * line)[None, None]
    spaced = torch.zeros(1, 1, 16, 20)
    spaced[:, :, ::2, ::2] = x
    up = conv2d(nn.functional.pad(spaced, (2, 1, 2, 1)), kernel / 16)
    assert torch.allclose(resized(x, (16, 20))[:, :, 2:-2, 2:-2], up[:, :, 2:-2, 2:-2], atol=1e-5)
    down = conv2d(nn.functional.pad(x, (1, 1, 1, 1)), kernel / 64, stride=2)
    assert torch.allclose(resized(x, (4, 5))[:, :, 1:-1, 1:-1], down[:, :, 1:-1, 1:-1], atol=1e-5)


@pytest.mark.parametrize("alias_free", [False, True])
@pytest.mark.parametrize("shape", [(1, 9, 12), (3, 17, 10), (1, 5, 7), (2, 4, 4), (1, 1, 9)])
def test_images_of_any_size(shape, alias_free):
    gan = small(space=Space("real", shape, levels=4), width=32, alias_free=alias_free)
    x = gan.generate(gan.map(gan.draw(3)))
    assert x.shape == (3, *shape)
    assert gan.critic(x).shape == (3,)


def test_vectors_have_no_layers_of_pixels():
    with pytest.raises(PangenError, match="take gan or r3gan"):
        StyleGAN(Space("real", (3,)))


# -- codes ------------------------------------------------------------------------------------------


def test_the_mapping_sees_directions_alone_and_labels():
    torch.manual_seed(0)
    f = Mapping(replace(IMAGE, condition=class_space(3)), 8, 2)
    z = torch.randn(4, 8)
    assert torch.allclose(f(z), f(3 * z), atol=1e-5)
    assert not torch.allclose(f(z, torch.tensor([0, 1, 2, 3])), f(z))
    assert torch.allclose(f(z, torch.tensor([0, 1, 2, 3]))[3], f(z)[3])  # the null label


def test_the_centre_is_the_mean_of_w():
    gan = small()
    gan.calibrate(torch.Generator().manual_seed(0))
    w = gan.map(gan.draw(100_000))
    error = w.std(0) / math.sqrt(4096)
    assert ((gan.centre - w.mean(0)).abs() < 4 * error).all()


def test_truncation_ends_in_one_image_noise_aside():
    gan = small().eval()
    gan.calibrate(torch.Generator().manual_seed(0))
    wide, narrow, none = (gan.sample(64, truncation=psi).var(0).sum() for psi in (1.0, 0.5, 0.0))
    assert wide > narrow > none
    assert none.item() == pytest.approx(0.0, abs=1e-10)
    assert torch.allclose(gan.sample(1, truncation=0.0)[0], gan.decode(gan.centre[None])[0], atol=1e-6)


def noisy(gan: StyleGAN) -> StyleGAN:
    for layer in gan.generator.styled:
        nn.init.constant_(layer.noise, 0.5)
    return gan


def test_noise_comes_from_the_generator_and_a_code_alone_has_none():
    gan = noisy(small()).eval()
    w = gan.map(gan.draw(4))
    draws = [gan.generate(w, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.allclose(draws[0], draws[2], atol=0.01)
    assert torch.equal(gan.decode(w), gan.decode(w))
    assert torch.equal(gan.sample(3, seed=5), gan.sample(70, seed=5)[:3])
    assert gan.sample(8, truncation=0.0).std(0).max() > 0.01


def test_mixed_codes_change_from_some_layer_on():
    gan = small(mixing=1.0)
    w = gan.map(gan.draw(200))
    mixed, last = gan.mixed(w, None), gan.generator.layers - 1
    own = (mixed == w[:, None]).all(2)
    assert own[:, 0].all()
    assert not own[:, last].any()
    assert (own[:, :-1] >= own[:, 1:]).all()  # never back
    assert set(own.sum(1).tolist()) == set(range(1, last + 1))
    gan.mixing = 0.0
    assert torch.equal(gan.mixed(w, None), w[:, None].expand(-1, last + 1, -1))


def test_one_code_for_all_layers_or_one_each():
    gan = small().eval()
    w = gan.map(gan.draw(4))
    ws = w[:, None].repeat(1, gan.generator.layers, 1)
    assert torch.equal(gan.generator(w), gan.generator(ws))
    ws[:, -1] = 0  # the last layer alone
    assert not torch.allclose(gan.generator(w), gan.generator(ws))


# -- the game ---------------------------------------------------------------------------------------


def test_path_lengths_of_a_linear_generator():
    """x = c Q w, Q with k orthonormal columns: |J^T y| = c chi_k / sqrt(pixels), whose law is known."""
    torch.manual_seed(0)
    k, side, c, n = 3, 4, 2.0, 20_000
    Q = torch.linalg.qr(torch.randn(side * side, k)).Q
    w = torch.randn(n, k, requires_grad=True)
    lengths = path_lengths(lambda w: (c * w @ Q.t()).view(-1, 1, side, side), w)
    unit = c / side
    mean = math.sqrt(2) * math.gamma((k + 1) / 2) / math.gamma(k / 2)
    variance = k - mean**2
    assert lengths.mean().item() == pytest.approx(unit * mean, abs=4 * unit * math.sqrt(variance / n))
    penalty = (lengths - unit * mean).square().mean().item()  # Eq. 4 with a as it becomes
    assert penalty == pytest.approx(unit**2 * variance, rel=4 * math.sqrt(2.5 / n))


@pytest.mark.parametrize("alias_free", [False, True])
def test_path_lengths_are_the_generators_to_pay_now_and_then(alias_free):
    gan, batch = small(path=2.0, alias_free=alias_free), Batch(torch.rand(8, 1, 8, 8))
    players = gan.players()
    for step in (0, 1):
        turns = dict(gan.steps(batch, Progress(step, 10)))
        terms = turns["generator"].terms
        assert ("path" in terms) == (step % PATH_EVERY == 0)
        if step == 0:
            paid = turns["generator"].total - nn.functional.softplus(-torch.zeros(()))
            gradients = torch.autograd.grad(paid, players["generator"], allow_unused=True)
            assert all(g is not None and bool(g.isfinite().all()) for g in gradients)
            assert gan.a > 0
    assert "path" not in dict(small().steps(batch, Progress(0, 10)))["generator"].terms


def test_a_critic_sees_how_far_a_batch_spreads_and_afterwards_each_image_alone():
    torch.manual_seed(0)
    critic = StyleCritic(IMAGE, 64)
    x = torch.randn(8, 1, 8, 8)
    same = x[:1].expand(8, -1, -1, -1)
    assert not torch.allclose(critic(x)[0], critic(same)[0], rtol=1e-4)
    for _ in range(500):
        critic(x)
    together = critic(x)
    critic.eval()
    assert torch.allclose(critic(x), together, atol=1e-2)  # a running mean of what is always the same
    assert torch.allclose(critic(x)[0], critic(same)[0], atol=1e-5)


# -- signals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("band", [Band(16, 2.0, 6.0), Band(16, 5.0, 3.0), Band(28, 9.0, 5.0)], ids=str)
def test_the_filter_passes_and_stops_what_it_should(band):
    """Within the ripple that Kaiser's formula promises of its length and transition; SciPy designs the same."""
    signal = pytest.importorskip("scipy.signal")
    rate, taps = 16 * band.rate, 16 * TAPS + 1  # fine: the filter itself, not its samples
    t = torch.arange(-(taps // 2), taps // 2 + 1, dtype=torch.float64) / rate
    h = band.lowpass(t) / band.lowpass(t).sum()
    expected = signal.firwin(taps, band.cutoff, width=2 * band.half_width, fs=rate)
    assert torch.allclose(h, torch.from_numpy(expected), atol=1e-12)
    low, high = max(band.cutoff - band.half_width, 0.0), band.cutoff + band.half_width
    f = torch.tensor([0, 0.5 * low, 0.95 * low, 1.05 * high, 1.2 * high, 1.7 * high, 2 * high])
    gain = (h * torch.cos(2 * math.pi * f[:, None] * t)).sum(1)
    assert (gain - torch.tensor([1.0] * 3 + [0.0] * 4)).abs().max() < ripple(band)


def ripple(band: Band) -> float:
    attenuation = 2.285 * math.pi * 4 * TAPS * band.half_width / band.rate + 7.95  # dB
    return 10 ** (-attenuation / 20)


@pytest.mark.parametrize("end", [29, 16, 11])
def test_resampled_waves_are_the_waves(end):
    """Between any two rates, below the cutoff, and a constant exactly. The error is a ripple of what passes, one of the
    image that is stopped, and one of the sum that rows are divided by."""
    band = Band(16, 5.0, 3.0)
    start, margin = positions(16, 6), 2  # all that the filter reaches lies on the grid
    M = resampling(band, (16, 6), (end, margin)).double()
    for f in (0.0, 0.7, 2.0):
        wave = partial(lambda t, f: torch.cos(2 * math.pi * f * t + 0.3), f=f)
        error = (M @ wave(start) - wave(positions(end, margin))).abs().max()
        assert error < (3 * ripple(band) if f else 1e-6)
    above = torch.cos(2 * math.pi * 15.0 * positions(64, 24))  # would fold to 1 cycle
    folded = resampling(band, (64, 24), (16, 2)).double() @ above
    assert folded.abs().max() < 3 * ripple(band)


@pytest.mark.parametrize("side", [1, 5, 8, 17, 28, 64, 256])
def test_bands_widen_to_what_the_picture_holds(side):
    found = bands(side, 8)
    assert found[0].cutoff == min(2.0, side / 2)
    assert [b.cutoff for b in found[-2:]] == [side / 2] * 2  # critical sampling
    assert found[-1].rate == side
    for a, b in pairwise(found):
        assert a.cutoff <= b.cutoff
        assert a.rate <= b.rate <= side
        assert b.cutoff + b.half_width >= b.rate / 2 - 1e-9
    assert all(b.rate >= 2 * b.cutoff for b in found)


def test_a_filtered_rectifier_commutes_with_half_a_sample():
    """What a plain rectifier on the grid does not: it adds waves above the limit, which fold back."""
    band, margin = Band(16, 4.0, 4.0), 6
    layer = FilteredRectifier((band, band), (band, band), (margin, 0))

    def wave(shift: float) -> torch.Tensor:
        t = positions(16, margin).float() - shift
        return (torch.sin(2 * math.pi * 3 * t)[:, None] * torch.cos(2 * math.pi * 2 * t))[None, None]

    errors = {}
    for name, f in (("filtered", layer), ("plain", lambda x: nn.functional.leaky_relu(x, 0.2))):
        a, b = f(wave(0.0)), f(wave(0.5 / 16))
        if name == "plain":
            a, b = (x[:, :, margin:-margin, margin:-margin] for x in (a, b))
        half = torch.fft.fftfreq(16) * 16 * -2j * math.pi * 0.5 / 16  # periodic over the picture
        spectrum = torch.fft.fft2(a) * torch.exp(half)[:, None] * torch.exp(half)
        errors[name] = float((torch.fft.ifft2(spectrum).real - b).square().mean() / b.square().mean())
    assert errors["filtered"] < 1e-3 < 5e-3 < errors["plain"]


def test_waves_move_and_turn_as_they_are_told():
    torch.manual_seed(0)
    band = Band(16, 2.0, 6.0)
    waves, w = FourierInput(4, 12, (band, band)), torch.randn(3, 4)
    still, moved = waves(w, (0.0, 0.0)), waves(w, (2 / 16, -1 / 16))
    assert torch.allclose(moved[:, :, 2:, :-1], still[:, :, :-2, 1:], atol=1e-4)
    assert still.square().mean().item() == pytest.approx(1.0, rel=0.3)
    assert waves.waves.norm(dim=0).max() <= 2.0
    with torch.no_grad():
        waves.transform.raw_bias.copy_(torch.tensor([1.0, 0.0, 2 / 16, -1 / 16]))
    assert torch.allclose(waves(w, (0.0, 0.0)), moved, atol=1e-4)
    with torch.no_grad():
        waves.transform.raw_bias.copy_(torch.tensor([0.0, 5.0, 0.0, 0.0]))  # a quarter turn, of any length
    assert torch.allclose(waves(w, (0.0, 0.0)), still.rot90(1, (2, 3)), atol=1e-4) or torch.allclose(
        waves(w, (0.0, 0.0)), still.rot90(-1, (2, 3)), atol=1e-4
    )


@pytest.mark.parametrize("shape", [(1, 16, 16), (1, 13, 18)])
def test_alias_free_pictures_follow_their_input_and_plain_ones_do_not(shape):
    """EQ-T (Karras et al. 2021, Eq. 3) at random start: 20 dB are a tenth of the error."""
    space, found = Space("real", shape, levels=17), {}
    for network in (AliasFreeSynthesis, Synthesis):
        torch.manual_seed(0)
        g, w = network(space, 16, 64), torch.randn(8, 16)
        with torch.no_grad():
            found[network] = equivariance(
                lambda w, shift, g=g: g(w, shift=shift).tanh(), w, torch.Generator().manual_seed(0)
            )
    assert found[AliasFreeSynthesis] > 36
    assert found[Synthesis] < 20


def test_what_is_left_comes_in_over_the_margin(monkeypatch):
    monkeypatch.setattr(alias_free, "MARGIN", 8)
    torch.manual_seed(0)
    g, w = AliasFreeSynthesis(Space("real", (1, 16, 16), levels=17), 16, 64), torch.randn(4, 16)
    with torch.no_grad():
        found = equivariance(lambda w, shift: g(w, shift=shift).tanh(), w, torch.Generator().manual_seed(0))
    assert found > 55


@pytest.mark.parametrize("alias_free", [False, True])
def test_rounded_factors_leave_losses_near_and_samples_exact(alias_free):
    """bfloat16 keeps 8 bits: two or three digits, in training alone."""
    losses = {}
    for precision in ("full", "bfloat16"):
        gan = small(alias_free=alias_free, precision=precision)
        torch.manual_seed(1)
        turns = dict(gan.steps(Batch(torch.rand(16, 1, 8, 8)), Progress(0, 10)))
        losses[precision] = torch.stack([loss.total for loss in turns.values()])
        assert gan.sample(2).dtype == losses[precision].dtype == torch.float32
    assert torch.allclose(losses["full"], losses["bfloat16"], rtol=0.05)
    assert not torch.equal(losses["full"], losses["bfloat16"])


def test_equivariance_of_what_moves_and_of_what_stays():
    """A picture that only moves has none of the error; one that stays, twice the variance of a pixel's change."""
    torch.manual_seed(0)
    x = interpolate(torch.rand(1, 1, 16, 16), 16)

    def moves(w, shift):
        return x.roll([round(s * 16) for s in shift], (2, 3)) + 0 * w.sum()

    noise = torch.Generator().manual_seed(0)
    stays = equivariance(lambda w, shift: x, torch.zeros(1, 1), noise)
    assert stays == pytest.approx(10 * math.log10(4 / (2 / 12)), abs=0.5)  # two independent uniform pixels
    assert equivariance(moves, torch.zeros(1, 1), noise) == math.inf
