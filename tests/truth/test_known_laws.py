"""What is seen of an example has the probability that its law says, and entropies agree with other ways to them."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from pangen.data.known_truth import KNOWN_TRUTH
from pangen.data.known_truth.binary import images
from pangen.data.known_truth.brackets import Brackets
from pangen.data.known_truth.grey import Templates, Texture
from pangen.data.known_truth.hidden import HiddenMarkovText
from pangen.data.known_truth.law import Law
from pangen.data.known_truth.markov import MarkovText
from pangen.data.known_truth.series import AR2, ARMA
from pangen.data.known_truth.sound import Tones, amplitude, quantise
from pangen.rng import generator


def text_of(law: type[Law], window: int) -> Law:
    return type(law.__name__, (law,), {"window": window})()


def grey(levels: int, side: int) -> torch.Tensor:
    every = torch.cartesian_prod(*[torch.arange(levels)] * side**2)
    return every.view(-1, 1, side, side).to(torch.uint8)


def texts(law: Law) -> tuple[str, ...]:
    return tuple("".join(s) for s in itertools.product(law.alphabet, repeat=law.window))


def key_of(law: Law, x: object, seen: torch.Tensor) -> torch.Tensor:
    """A number for what is seen of each example."""
    if isinstance(x, tuple) and isinstance(x[0], str):
        codes = torch.tensor([[law.alphabet.index(c) for c in s] for s in x])
    else:
        codes = quantise(torch.stack(x)) if isinstance(x, tuple) else x.flatten(1).long()
    base = len(law.alphabet or "") or law.levels or 256
    codes = codes[:, seen.flatten()]
    return (codes * base ** torch.arange(codes.shape[1])).sum(1)


class SmallTemplates(Templates):
    side = 2


class ShortTones(Tones):
    window = 2


@pytest.fixture(scope="module")
def smalls() -> dict[str, tuple[Law, object, torch.Tensor]]:
    """A law with few examples, all of them, and which entries of an example are seen."""
    markov, hidden, brackets = (
        text_of(MarkovText, 4), text_of(HiddenMarkovText, 5), text_of(Brackets, 6)
    )  # fmt: skip
    levels = amplitude(torch.arange(256, dtype=torch.float64)).float()
    corner = torch.zeros(1, 4, 4, dtype=torch.bool)
    corner[0, 1:, :2] = True
    return {
        "bars-and-stripes": (KNOWN_TRUTH["bars-and-stripes"](), images(torch.arange(2**16)), corner),
        "ising4x4": (KNOWN_TRUTH["ising4x4"](), images(torch.arange(2**16)), corner),
        "templates": (SmallTemplates(), grey(8, 2), corner[:, 1:3, 1:3]),
        "texture": (Texture(side=3, levels=2), grey(2, 3), corner[:, :3, :3]),
        "markov-text": (markov, texts(markov), torch.tensor([True, False, False, True])),
        "hidden-markov-text": (hidden, texts(hidden), torch.tensor([False, True, False, True, True])),
        "brackets": (brackets, texts(brackets), torch.tensor([True, False, True, False, False, False])),
        "tones": (
            ShortTones([(1, 0), (3, 6)]),
            tuple(torch.cartesian_prod(levels, levels)),
            torch.tensor([False, True]),
        ),
    }


ENUMERABLE = ("bars-and-stripes", "ising4x4", "templates", "texture", "markov-text", "hidden-markov-text", "brackets",
              "tones")  # fmt: skip
OVERLAP = {"templates", "tones"}
"""Whose entropies rest on parts that do not overlap, as those of small examples do."""


@pytest.mark.parametrize("name", ENUMERABLE)
def test_probabilities_of_all_examples_sum_to_one_and_to_the_entropy(smalls, name):
    law, every, _ = smalls[name]
    p = law.log_prob(every).exp()
    assert float(p.sum()) == pytest.approx(1, abs=1e-9)
    if name not in OVERLAP:
        assert float(-torch.xlogy(p, p).sum()) == pytest.approx(law.entropy, abs=1e-9)


@pytest.mark.parametrize("name", ENUMERABLE)
def test_what_is_seen_has_the_sum_of_all_that_fit(smalls, name):
    law, every, seen = smalls[name]
    keys = key_of(law, every, seen)
    sums = torch.bincount(keys, law.log_prob(every).exp())
    chosen = torch.arange(0, len(keys), max(len(keys) // 200, 1))
    picked = tuple(every[i] for i in chosen) if isinstance(every, tuple) else every[chosen]
    found = law.log_prob(picked, seen).exp()
    assert torch.allclose(found, sums[keys[chosen]], atol=1e-12, rtol=1e-8)
    nothing = law.log_prob(picked, torch.zeros_like(seen))
    assert torch.allclose(nothing, torch.zeros(len(chosen)).double(), atol=1e-9)
    assert torch.allclose(law.log_prob(picked, torch.ones_like(seen)), law.log_prob(picked), atol=1e-9)


@pytest.mark.parametrize("name", ["texture", "hidden-markov-text", "brackets"])
def test_samples_have_the_probabilities_of_their_kind(smalls, name):
    """Pearson's statistic over all examples, within five of its standard deviations."""
    law, every, seen = smalls[name]
    n = 20_000
    drawn = law.sample(n, generator("cpu", "counts", name))
    keys, drawn = (key_of(law, x, torch.ones_like(seen)) for x in (every, drawn))
    counts = torch.bincount(drawn, minlength=int(keys.max()) + 1).double()[keys]
    assert counts.sum() == n
    expected = n * law.log_prob(every).exp()
    often = expected >= 5
    assert counts[expected == 0].sum() == 0
    statistic = float(((counts - expected)[often] ** 2 / expected[often]).sum())
    degrees = int(often.sum()) - 1
    assert abs(statistic - degrees) < 5 * math.sqrt(2 * degrees)


@pytest.mark.parametrize("name", ["moons", "gaussians8", "checkerboard"])
def test_a_coordinate_has_the_integral_over_the_other(name):
    """A sum over cells' middles: exact for smooth laws, and for the squares whose edges are cells'."""
    law = KNOWN_TRUTH[name]()
    y = torch.arange(-8, 8, 0.02, dtype=torch.float64) + 0.01
    for x in (-1.3, 0.2, 1.1):
        points = torch.stack([torch.full_like(y, x), y], 1)
        mass = math.log(float(law.log_prob(points).exp().sum() * 0.02))
        assert float(law.log_prob(points[:1], torch.tensor([True, False]))) == pytest.approx(mass, abs=1e-6)
        flipped = law.log_prob(points[:1].flip(1), torch.tensor([False, False]))
        assert float(flipped) == pytest.approx(0, abs=1e-9)


def test_texture_s_entropy_follows_from_its_partition_function():
    """H = log Z - beta d log Z / d beta; the central difference is exact to h^2."""
    h = 1e-4
    up, at, down = (Texture(beta=0.8 + d) for d in (h, 0.0, -h))
    assert at.entropy == pytest.approx(at.log_z - 0.8 * (up.log_z - down.log_z) / (2 * h), abs=1e-5)
    every = grey(2, 3).double()
    energy = every.diff(dim=2).abs().flatten(1).sum(1) + every.diff(dim=3).abs().flatten(1).sum(1)
    assert Texture(3, 2).log_z == pytest.approx(float((-0.8 * energy).logsumexp(0)), abs=1e-9)


def test_no_doubt_is_left_about_a_template_or_a_tone():
    """What the entropies leave out is the entropy of the part given the example.

    Of templates it is at most 2 ln 2 times the sum over pairs of sqrt(w w') prod over pixels of sum sqrt(p p').
    """
    law = KNOWN_TRUTH["templates"]()
    p, w = law.log_pixel.exp(), law.weights
    bound = sum(
        2 * math.log(2) * float((w[i] * w[j]).sqrt() * (p[i] * p[j]).sqrt().sum(1).prod())
        for i, j in itertools.combinations(range(4), 2)
    )
    assert bound < math.exp(-30)
    tones = KNOWN_TRUTH["tones"]()
    x = tones.sample(300, generator("cpu", "doubt"))
    posterior = tones.joint(x).softmax(1)
    assert float((1 - posterior.amax(1)).max()) < math.exp(-30)
    assert float(posterior.sort(1).values[:, -2].max()) < math.exp(-30)


def test_tones_of_two_samples_have_the_entropy_of_their_table():
    """All 256^2 clips of a single tone, by the probabilities that scoring gives."""
    law = ShortTones([(2, 4)])
    levels = amplitude(torch.arange(256, dtype=torch.float64)).float()
    p = law.log_prob(tuple(torch.cartesian_prod(levels, levels))).exp()
    assert float(-torch.xlogy(p, p).sum()) == pytest.approx(law.entropy, abs=1e-9)


def test_noise_has_its_colour_and_tones_their_pitch():
    noise = torch.stack(KNOWN_TRUTH["coloured-noise"]().sample(4000, generator("cpu", "colour"))).double()
    lag = (noise[:, 1:] * noise[:, :-1]).mean() / noise.square().mean()
    assert float(lag) == pytest.approx(0.8, abs=0.01)  # its standard error is 0.0012, rounding moves it less
    law = KNOWN_TRUTH["tones"]()
    x = law.sample(300, generator("cpu", "pitch"))
    peak = torch.fft.rfft(torch.stack(x)).abs()[:, 1:].argmax(1) + 1
    assert torch.equal(peak // 4 - 1, law.mode(x))  # 64 samples hold 4, 8 or 12 periods


def errors_ahead(law: AR2 | ARMA) -> torch.Tensor:
    """Variance of each step given those before it, by the recursion of Durbin (1960) and Levinson (1947)."""
    g = law.covariance[0].tolist()
    phi, variances = [], [g[0]]
    for k in range(1, law.window):
        last = (g[k] - sum(p * g[k - 1 - i] for i, p in enumerate(phi))) / variances[-1]
        phi = [p - last * q for p, q in zip(phi, reversed(phi), strict=True)] + [last]
        variances.append(variances[-1] * (1 - last**2))
    return torch.tensor(variances, dtype=torch.float64)


@pytest.mark.parametrize("name", ["ar2", "arma"])
def test_series_entropy_is_that_of_the_errors_ahead(name):
    law = KNOWN_TRUTH[name]()
    v = errors_ahead(law)
    assert float(v[-1]) == pytest.approx(1, abs=1e-6)  # that of the noise, once the past is known
    each = 0.5 * (2 * math.pi * math.e * v).log()
    assert law.entropy == pytest.approx(float(each.sum()), abs=1e-9)


@pytest.mark.parametrize("name", ["ar2", "arma"])
def test_series_have_the_density_of_statsmodels_also_with_gaps(name):
    sarimax = pytest.importorskip("statsmodels.tsa.statespace.sarimax")
    law = KNOWN_TRUTH[name]()
    seen = torch.rand(1, 64, generator=torch.Generator().manual_seed(1)) < 0.6
    x = law.sample(3, generator("cpu", "oracle"))
    order, parameters = {"ar2": ((2, 0, 0), [1.4, -0.85, 1]), "arma": ((1, 0, 1), [0.95, -0.7, 1])}[name]
    for one, whole, gapped in zip(x, law.log_prob(x), law.log_prob(x, seen), strict=True):
        y = one[0].double() - 10
        for series, found in ((y, whole), (y.where(seen[0], math.nan), gapped)):
            oracle = sarimax.SARIMAX(series.numpy(), order=order).loglike(parameters)
            assert float(found) == pytest.approx(oracle, abs=1e-5)


@pytest.mark.parametrize("name", ["ar2", "arma"])
def test_paths_have_the_covariance_of_their_law(name):
    law = KNOWN_TRUTH[name]()
    x = law.sample(20_000, generator("cpu", "covariance"))[:, 0].double() - 10
    found, variance = x.T @ x / len(x), law.covariance[0, 0]
    # an entry's standard error is at most sqrt(2 / n) variances
    assert float((found - law.covariance).abs().max()) < 5 * math.sqrt(2 / 20_000) * variance


@pytest.mark.parametrize("name", KNOWN_TRUTH)
def test_samples_are_of_every_mode_and_the_impossible_of_none(name):
    law = KNOWN_TRUTH[name]()
    found = law.mode(law.sample(400, generator("cpu", "modes", name)))
    assert found.unique().tolist() == list(range(law.modes))
    impossible = {
        "checkerboard": torch.tensor([[1.0, -1.0]]),
        "bars-and-stripes": torch.eye(4).view(1, 1, 4, 4),
        "brackets": ("(" * 16,),
        "markov-text": ("z" * 64,),
    }
    if name in impossible:
        assert law.mode(impossible[name]).tolist() == [-1]
