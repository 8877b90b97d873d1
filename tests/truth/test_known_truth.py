"""Known-truth sets: density, entropy and samples of each agree, by methods that share no code."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import integrate as scipy_integrate
from sklearn.datasets import make_moons

from pangen.data import load_data
from pangen.data.known import KNOWN
from pangen.data.known_truth import KNOWN_TRUTH
from pangen.data.known_truth.binary import images
from pangen.data.known_truth.plane import integrate
from pangen.rng import generator

FINGERPRINTS = {
    "moons": "a6e7488e8b3e57e7",
    "gaussians8": "04d9d044e75af0d5",
    "gaussians25": "22f4d7908500592b",
    "checkerboard": "923eaa69444ff4e1",
    "bars-and-stripes": "0baccf7874dd5cb3",
    "ising4x4": "95f7a4e7fa73b6b2",
    "markov-text": "5604a9bbe1360eeb",
    "ar2": "a19beea8bb0645d9",
    "templates": "63a1fcda141cca1f",
    "texture": "ab52dacb9ad97896",
    "hidden-markov-text": "b359e6f26f9e47d4",
    "brackets": "88c33c548bb38df9",
    "arma": "9e6482cf26b10efc",
    "tones": "9b3ffa29212e3bfd",
    "coloured-noise": "ec9b09b3e8e4b75e",
    "orchard": "e2cc1189da6b2369",
    "survey": "15ba7b750c22e754",
}
WINDOWS, CLIPS = [19_937, 78, 156], [10_000, 2_000, 2_000]
SIZES = {"ar2": WINDOWS, "arma": WINDOWS, "tones": CLIPS, "coloured-noise": CLIPS}
"""Windows of one path, or clips."""
BOXES = {"moons": ((-1.5, -1.0), (2.5, 1.5), 0.025), "gaussians8": ((-6.0, -6.0), (6.0, 6.0), 0.1),
         "gaussians25": ((-4.4, -4.4), (4.4, 4.4), 0.025)}  # fmt: skip
"""Rectangles that hold all but e^-30 of the mass, and steps of half a standard deviation or less."""
STATES = images(torch.arange(2**16))


@pytest.mark.parametrize("name", KNOWN_TRUTH)
def test_splits_are_fixed(name):
    data = load_data(name)
    sizes = SIZES.get(name, [50_000, 10_000, 10_000])
    assert [len(data.split(s)) for s in ("train", "validation", "test")] == sizes
    assert data.fingerprint == FINGERPRINTS[name]
    assert data.options == {}


def test_every_law_is_in_the_catalogue():
    assert set(KNOWN_TRUTH) == {k.name for k in KNOWN.values() if k.source == "known truth"}


@pytest.mark.parametrize("name", KNOWN_TRUTH)
def test_entropy_is_the_mean_surprise_of_fresh_samples(name):
    """Four standard errors of the mean: a right value fails once in 16 000 seeds."""
    law = KNOWN_TRUTH[name]()
    surprise = -law.log_prob(law.sample(20_000, generator("cpu", "fresh", name)))
    error = float(surprise.std()) / math.sqrt(len(surprise))
    # laws that are uniform have no spread at all, only rounding
    assert abs(float(surprise.mean()) - law.entropy) <= 4 * error + 1e-12


@pytest.mark.parametrize("name", BOXES)
def test_densities_integrate_to_one_and_to_their_entropy(name):
    """The trapezoid sum at half a standard deviation is exact to e^-79 for a Gaussian; its entropy less so."""
    law = KNOWN_TRUTH[name]()
    mass, entropy = integrate(law, *BOXES[name])
    assert mass == pytest.approx(1, abs=1e-9)
    assert entropy == pytest.approx(law.entropy, abs=1e-5)


def test_moons_density_is_the_integral_over_the_arcs():
    """An adaptive quadrature over t at points near, between and far from the arcs, to nine digits."""
    points = torch.tensor(
        [[1.0, 0.0], [0.0, 1.0], [0.5, 0.25], [-1.1, -0.1], [1.0, -0.5], [2.05, 0.6], [3.0, 2.0]]
    )
    found = KNOWN_TRUTH["moons"]().log_prob(points)
    s = 0.05

    def density(x, y):
        def squares(t):
            outer = (x - math.cos(t)) ** 2 + (y - math.sin(t)) ** 2
            inner = (x - 1 + math.cos(t)) ** 2 + (y - 0.5 + math.sin(t)) ** 2
            return outer, inner

        nearest = min(min(squares(t)) for t in np.linspace(0, math.pi, 2001))  # keeps exp in range

        def integrand(t):
            return sum(math.exp((nearest - d) / (2 * s * s)) for d in squares(t)) / 2 / math.pi

        total, _ = scipy_integrate.quad(
            integrand, 0, math.pi, limit=500, epsabs=0, epsrel=1e-10, points=np.linspace(0, math.pi, 41)[1:-1]
        )
        return math.log(total) - nearest / (2 * s * s) - math.log(2 * math.pi * s * s)

    for (x, y), log_p in zip(points.tolist(), found.tolist(), strict=True):
        assert log_p == pytest.approx(density(x, y), abs=1e-8)


def test_moons_are_scikit_learn_s():
    """Without noise both lie on the same arcs, so theirs have the density of ours along them."""
    theirs = torch.from_numpy(make_moons(2000, noise=None)[0])
    law = KNOWN_TRUTH["moons"]()
    ours = torch.cat(law._arcs(torch.linspace(0, math.pi, 20_001, dtype=torch.float64)))
    assert float(torch.cdist(theirs, ours).amin(1).max()) < math.pi / 20_000
    noisy = torch.from_numpy(make_moons(20_000, noise=0.05, random_state=0)[0])
    surprise = -law.log_prob(noisy)
    # their t is evenly spaced, not random, which only makes the mean more exact
    assert abs(float(surprise.mean()) - law.entropy) < 4 * float(surprise.std()) / math.sqrt(20_000)


def test_gaussians25_entropy_is_that_of_a_choice_and_a_gaussian():
    """The components stand 40 standard deviations apart: their overlap is below e^-200."""
    closed = math.log(25) + 1 + math.log(2 * math.pi * 0.05**2)
    assert KNOWN_TRUTH["gaussians25"]().entropy == pytest.approx(closed, abs=1e-9)


def test_gaussians8_is_the_literature_s_up_to_its_factor():
    law = KNOWN_TRUTH["gaussians8"]()
    assert torch.allclose(law.centres.norm(dim=1) * math.sqrt(2), torch.full((8,), 4.0).double())
    assert law.std * math.sqrt(2) == pytest.approx(0.5)


def test_checkerboard_covers_half_of_its_square():
    law = KNOWN_TRUTH["checkerboard"]()
    axis = torch.arange(-4.95, 5.0, 0.1)  # cell centres of a finer grid, beyond the square as well
    log_p = law.log_prob(torch.cartesian_prod(axis, axis))
    assert float(log_p.exp().sum() * 0.1**2) == pytest.approx(1, abs=1e-9)
    x = law.sample(100_000, generator("cpu", "squares"))
    assert torch.isfinite(law.log_prob(x)).all()
    counts = torch.unique((x / 2).floor(), dim=0, return_counts=True)[1]
    assert len(counts) == 8
    # a count of a fair eighth has standard deviation 105
    assert (counts - 12_500).abs().max() < 5 * 105


def test_bars_and_stripes_by_enumeration():
    log_p = KNOWN_TRUTH["bars-and-stripes"]().log_prob(STATES)
    p = log_p.exp()
    assert int((p > 0).sum()) == 30
    assert float(p.sum()) == pytest.approx(1, abs=1e-12)
    assert float(p[0]) == float(p[-1]) == 1 / 16
    entropy = float(-torch.xlogy(p, p).sum())
    assert KNOWN_TRUTH["bars-and-stripes"]().entropy == pytest.approx(entropy, abs=1e-12)


def test_ising_partition_function_by_transfer_matrix():
    """Z = 1' T^3 v over rows of spins: matrix products where the law enumerates. -d log Z / d beta is the mean energy."""
    rows = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=4)), dtype=torch.float64)

    def log_z(beta):
        within = torch.exp(beta * (rows[:, 1:] * rows[:, :-1]).sum(1))
        step = torch.exp(beta * rows @ rows.T) * within
        state = within
        for _ in range(3):
            state = state @ step
        return float(state.sum().log())

    law = KNOWN_TRUTH["ising4x4"]()
    assert law.log_z == pytest.approx(log_z(0.44), abs=1e-10)
    h = 1e-5
    energy = -(log_z(0.44 + h) - log_z(0.44 - h)) / (2 * h)
    # H = log Z + beta <E>; the central difference is exact to h^2
    assert law.entropy == pytest.approx(log_z(0.44) + 0.44 * energy, abs=1e-7)
    assert float(law.log_prob(STATES).exp().sum()) == pytest.approx(1, abs=1e-10)


@pytest.mark.parametrize("name", ["bars-and-stripes", "ising4x4"])
def test_binary_samples_have_the_probabilities_of_their_images(name):
    """Pearson's statistic over images expected five times or more, within five of its standard deviations."""
    law = KNOWN_TRUTH[name]()
    x = law.sample(40_000, generator("cpu", "counts", name))
    index = (x.flatten(1).long() << torch.arange(16)).sum(1)
    counts = torch.bincount(index, minlength=2**16).double()
    expected = 40_000 * law.log_prob(STATES).exp()
    often = expected >= 5
    assert counts[expected == 0].sum() == 0
    statistic = float(((counts - expected)[often] ** 2 / expected[often]).sum())
    degrees = int(often.sum()) - 1
    assert abs(statistic - degrees) < 5 * math.sqrt(2 * degrees)


@pytest.mark.parametrize("name", ["moons", "gaussians8"])
def test_plane_samples_have_the_density_of_their_law(name):
    """The same statistic over cells of a grid, whose masses are sums of the density at finer points."""
    law = KNOWN_TRUTH[name]()
    low, high, _ = BOXES[name]
    cells, fine = 24, 12
    edges = [torch.linspace(a, b, cells + 1, dtype=torch.float64) for a, b in zip(low, high, strict=True)]
    centres = [
        a + (b - a) * (torch.arange(cells * fine, dtype=torch.float64) + 0.5) / (cells * fine)
        for a, b in zip(low, high, strict=True)
    ]
    p = law.log_prob(torch.cartesian_prod(*centres)).exp().view(cells, fine, cells, fine).sum((1, 3))
    area = math.prod((b - a) / (cells * fine) for a, b in zip(low, high, strict=True))
    n = 40_000
    expected = n * area * p
    x = law.sample(n, generator("cpu", "cells", name)).double()
    found = torch.stack([torch.bucketize(x[:, i].contiguous(), edges[i]) - 1 for i in range(2)], 1)
    counts = torch.zeros(cells, cells, dtype=torch.float64)
    inside = ((found >= 0) & (found < cells)).all(1)
    counts.index_put_(
        tuple(found[inside].T), torch.ones(int(inside.sum()), dtype=torch.float64), accumulate=True
    )
    often = expected >= 5
    statistic = float(((counts - expected)[often] ** 2 / expected[often]).sum())
    degrees = int(often.sum()) - 1
    assert abs(statistic - degrees) < 5 * math.sqrt(2 * degrees)


def test_markov_text_sums_to_one_over_short_windows():
    """All 4096 windows of four characters, scored as the law scores its windows of 64; and what they lead to."""
    law = KNOWN_TRUTH["markov-text"]()
    assert torch.allclose(law.transition.sum(2), torch.ones(8, 8).double(), atol=1e-12)
    assert float(law.stationary.sum()) == pytest.approx(1, abs=1e-12)
    assert float(law.stationary.min()) > 0
    flow = (law.stationary[..., None] * law.transition).sum(0)
    assert torch.allclose(
        flow, law.stationary, atol=1e-12
    )  # stationary: two later neighbours have the same law

    class Short(type(law)):
        window = 4

    short = Short()
    every = tuple("".join(s) for s in itertools.product(law.alphabet, repeat=4))
    log_p = short.log_prob(every)
    assert float(log_p.exp().sum()) == pytest.approx(1, abs=1e-10)
    assert float(-(log_p.exp() * log_p).sum()) == pytest.approx(short.entropy, abs=1e-10)


def test_markov_text_samples_have_the_pairs_of_the_chain_everywhere():
    """Pairs at the start and at the end of a window are both stationary: the widest of 64 shares within 5 deviations."""
    law = KNOWN_TRUTH["markov-text"]()
    x = law.sample(20_000, generator("cpu", "pairs"))
    assert {len(s) for s in x} == {64}
    assert set("".join(x)) <= set(law.alphabet)
    for at in (0, 62):
        first, second = (torch.tensor([law.alphabet.index(s[at + i]) for s in x]) for i in (0, 1))
        share = torch.bincount(8 * first + second, minlength=64).double().view(8, 8) / len(x)
        deviation = (law.stationary * (1 - law.stationary) / len(x)).sqrt()
        assert ((share - law.stationary).abs() < 5 * deviation + 1 / len(x)).all()


def test_what_a_law_cannot_give_has_probability_zero():
    text = KNOWN_TRUTH["markov-text"]()
    assert text.log_prob(("a" * 63, "z" * 64)).tolist() == [-math.inf, -math.inf]
    assert (
        KNOWN_TRUTH["checkerboard"]().log_prob(torch.tensor([[1.0, -1.0], [4.0, 0.5]])).tolist()
        == [-math.inf] * 2
    )
    diagonal = torch.eye(4).view(1, 1, 4, 4)
    assert KNOWN_TRUTH["bars-and-stripes"]().log_prob(diagonal).item() == -math.inf


@pytest.mark.parametrize("name", KNOWN_TRUTH)
def test_samples_depend_on_the_generator_alone(name):
    law = KNOWN_TRUTH[name]()
    before = torch.random.get_rng_state()
    one, other = (law.sample(50, generator("cpu", "again")) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert len(one) == 50
    assert all(
        torch.equal(a.nan_to_num(-1), b.nan_to_num(-1)) if isinstance(a, torch.Tensor) else a == b
        for a, b in zip(one, other, strict=True)
    )
