"""The classical baselines against scikit-learn, counts by hand, enumeration and quadrature."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity

from pangen.errors import PangenError
from pangen.families.classical.independent import TAIL, Independent
from pangen.families.classical.kde import KDE
from pangen.families.classical.mixture import Mixture
from pangen.families.classical.ngram import NGram
from pangen.samplers.tokens import until_end
from pangen.space import Batch, Space, class_space

PLANE = Space("real", (2,), condition=class_space(2))


def clouds(n: int, seed: int) -> Batch:
    """Class 0 is one Gaussian, class 1 two narrow ones."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 2
    side = torch.randint(2, (n,), generator=generator) * 4.0 - 2
    x = torch.randn(n, 2, generator=generator) * torch.where(y == 0, 1.0, 0.4)[:, None]
    return Batch(x + torch.where(y == 0, 0.0, side)[:, None], y)


def fitted(family, space: Space, train: Batch, validation: Batch, **settings):
    """Fitted, and rebuilt from what `fit_exactly` returned, as loading a run does."""
    torch.manual_seed(0)
    model = family(space, **settings)
    found = model.fit_exactly(train, validation)
    again = family(space, **{**settings, **found})
    again.load_state_dict(model.state_dict())
    return again.eval()


def unlabelled(batch: Batch) -> Batch:
    return Batch(batch.x)


# -- independent --------------------------------------------------------------------------------


def test_independent_counts():
    """(count + 1) / (examples + levels), for each class and over all."""
    space = Space("tokens", (2,), levels=3, condition=class_space(2))
    x = torch.tensor([[0, 1], [0, 2], [2, 2], [1, 0]])
    train = Batch(x, torch.tensor([0, 0, 0, 1]))
    model = fitted(Independent, space, train, train, smoothing=1.0)
    point = torch.tensor([[0, 2]])
    expected = {0: 3 / 6 * 3 / 6, 1: 1 / 4 * 1 / 4, 2: 3 / 7 * 3 / 7}
    for y, p in expected.items():
        assert math.isclose(float(model.log_prob(point, torch.tensor([y])).nats), math.log(p), rel_tol=1e-6)
    assert torch.equal(model.log_prob(point).nats, model.log_prob(point, torch.tensor([2])).nats)


@pytest.mark.parametrize("kind", ["binary", "tokens"])
def test_independent_sums_to_one(kind):
    space = Space(kind, (1, 2, 2), levels=2 if kind == "binary" else 3, condition=class_space(2))
    every = torch.tensor(list(itertools.product(range(space.levels), repeat=4))).view(-1, *space.shape)
    every = every.float() if kind == "binary" else every
    train = Batch(every[::3], torch.arange(len(every[::3])) % 2)
    model = fitted(Independent, space, train, train)
    for y in range(3):
        nats = model.log_prob(every, torch.full((len(every),), y)).nats
        assert abs(float(nats.double().exp().sum()) - 1) < 1e-5


def test_independent_density_integrates_to_one():
    """Bins by the midpoint rule, which is exact on them; tails by their closed form."""
    space = Space("real", (1,))
    train = unlabelled(Batch(clouds(400, 0).x[:, :1]))
    model = fitted(Independent, space, train, train)
    low, width = float(model.low), float(model.bins * model.step)
    x = low + (torch.arange(model.bins * 10) + 0.5) * width / (model.bins * 10)
    inside = model.log_prob(x[:, None]).nats.double().exp().mean() * width
    assert abs(float(inside) - (1 - 2 * TAIL)) < 1e-4
    # a tail falls by e over one width: density TAIL / width at its edge
    beyond = torch.tensor([[low - width], [low + 2 * width]])
    assert torch.allclose(model.log_prob(beyond).nats, torch.tensor(math.log(TAIL / width) - 1), atol=1e-4)


def test_independent_samples_its_histogram():
    space = Space("real", (1,))
    train = unlabelled(Batch(clouds(400, 0).x[:, :1]))
    model = fitted(Independent, space, train, train)
    x = model.sample(20_000, seed=0)
    seen = torch.bincount(model._cell(x).flatten(), minlength=model.bins + 2) / len(x)
    # five standard errors of a frequency
    assert torch.allclose(seen, model.log_p[0, 0].exp(), atol=5 * 0.5 / len(x) ** 0.5)


# -- mixture ------------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_mixture_is_scikit_learns(covariance):
    """The density of scikit-learn's own model with the same weights, means and covariances."""
    model = fitted(Mixture, PLANE, clouds(300, 0), clouds(100, 1), components=3, covariance=covariance)
    x = clouds(50, 2).x
    parts = []
    for c in (0, 1):
        oracle = GaussianMixture(3, covariance_type=covariance)
        oracle.weights_, oracle.means_ = model.log_w[c].exp().numpy(), model.mean[c].numpy()
        L = model.L[c].double()
        oracle.precisions_cholesky_ = (1 / L if covariance == "diag" else torch.linalg.inv(L).mT).numpy()
        expected = torch.from_numpy(oracle.score_samples(x.numpy())).double()
        assert torch.allclose(model.log_prob(x, torch.full((50,), c)).nats.double(), expected, atol=1e-4)
        parts.append(expected)
    null = torch.stack(parts, 1).logsumexp(1) - math.log(2)  # the classes are equally frequent
    assert torch.allclose(model.log_prob(x).nats.double(), null, atol=1e-4)


def test_mixture_is_fitted_as_scikit_learn_does():
    """With one component the maximum is known: the mean and the covariance of the data, and the ridge."""
    space, train = Space("real", (2,)), unlabelled(clouds(500, 0))
    model = fitted(Mixture, space, train, train, components=1, covariance="full")
    assert torch.allclose(model.mean[0, 0], train.x.mean(0), atol=1e-5)
    sigma, extra = model.L[0, 0] @ model.L[0, 0].T, 0.0
    extra = sigma - torch.from_numpy(np.cov(train.x.numpy().T, bias=True)).float()
    assert torch.allclose(extra, extra[0, 0] * torch.eye(2), atol=1e-5)
    assert extra[0, 0] >= 0


def test_mixture_chooses_on_validation_data():
    """One Gaussian in one class and two in the other need at least two components."""
    model = fitted(Mixture, PLANE, clouds(600, 0), clouds(200, 1))
    assert model.components >= 2
    assert model.covariance in ("full", "diag")


def test_mixture_refuses_more_components_than_examples():
    with pytest.raises(PangenError, match="more than the 10 examples"):
        fitted(Mixture, PLANE, clouds(20, 0), clouds(20, 1), components=11)


def test_mixture_counts_its_classes():
    """p(x) weighs the classes as often as the training data has them."""
    train = clouds(100, 0)
    kept = torch.cat([torch.arange(0, 100, 2), torch.arange(1, 50, 2)])
    model = fitted(Mixture, PLANE, Batch(train.x[kept], train.y[kept]), clouds(50, 1), components=1)
    x = clouds(9, 2).x
    a, b, null = (model.log_prob(x, torch.full((9,), y)).nats.exp() for y in range(3))
    assert torch.allclose(null, a * 2 / 3 + b / 3, rtol=1e-5)


@pytest.mark.parametrize("family", [Mixture, KDE])
def test_densities_integrate_to_one(family):
    model = fitted(family, PLANE, clouds(200, 0), clouds(100, 1))
    axis = torch.linspace(-8, 8, 201)
    grid = torch.cartesian_prod(axis, axis)
    for y in (0, 1, 2):
        nats = [model.log_prob(part, torch.full((len(part),), y)).nats for part in grid.split(20_000)]
        total = torch.cat(nats).double().exp().sum() * 0.08**2
        assert abs(float(total) - 1) < 1e-3  # every Gaussian is wider than a cell


@pytest.mark.parametrize("family", [Mixture, KDE])
def test_samples_have_the_data_s_moments(family):
    train = clouds(1000, 0)
    model = fitted(family, PLANE, train, clouds(200, 1))
    x = model.sample(4000, torch.arange(4000) % 2, seed=0)
    for c in (0, 1):
        mine, theirs = x[c::2], train.x[train.y == c]
        error = theirs.std(0) * (1 / 500 + 1 / 2000) ** 0.5
        assert ((mine.mean(0) - theirs.mean(0)).abs() < 5 * error).all()
        assert torch.allclose(mine.std(0), theirs.std(0), rtol=0.2)  # kernels and ridges add some


# -- kernel density -----------------------------------------------------------------------------


def test_kde_is_scikit_learns():
    train = clouds(300, 0)
    model = fitted(KDE, PLANE, train, clouds(100, 1))
    x = clouds(80, 2).x
    for c, points in ((0, train.x[::2]), (1, train.x[1::2]), (2, train.x)):
        oracle = KernelDensity(bandwidth=float(model.h), rtol=1e-8).fit(points.double().numpy())
        expected = torch.from_numpy(oracle.score_samples(x.double().numpy()))
        assert torch.allclose(model.log_prob(x, torch.full((80,), c)).nats.double(), expected, atol=1e-4)
    assert torch.equal(model.log_prob(x).nats, model.log_prob(x, torch.full((80,), 2)).nats)


def test_kde_bandwidth_is_best_on_validation_data():
    model = fitted(KDE, PLANE, clouds(300, 0), clouds(100, 1))
    validation, h = clouds(100, 1), model.h.clone()
    score = model.log_prob(*validation).nats.mean()
    for factor in (0.9, 1.1):
        model.h = h * factor
        assert model.log_prob(*validation).nats.mean() < score


def test_kde_in_chunks_is_kde(monkeypatch):
    model, x = fitted(KDE, PLANE, clouds(300, 0), clouds(100, 1)), clouds(20, 2).x
    whole = model.log_prob(x).nats
    monkeypatch.setattr("pangen.families.classical.kde.CHUNK", 7)
    assert torch.allclose(model.log_prob(x).nats, whole, atol=1e-5)


# -- n-grams ------------------------------------------------------------------------------------

ABAB = Space("tokens", (4,), levels=2)


def test_ngram_by_hand():
    """Bigrams of "abab" (a = 0, b = 1), with Chen and Goodman's discounts, 1/2 where they have no data.

    Kinds of tokens before: a 2 (start, b), b 1 (a). Y = 1/3, D1 = 1/3, D2 = 1/2:
    p_1(a) = (2 - 1/2)/3 + (1/2 + 1/3)/3 * 1/2 = 23/36, p_1(b) = 13/36.
    Occurrences: "start a" 1, "ab" 2, "ba" 1. Y = 1/2, D1 = 1/2, D2 = 1/2:
    p(a at the start) = p(a after b) = 1/2 + 1/2 * 23/36 = 59/72,
    p(b after a) = (2 - 1/2)/2 + (1/2)/2 * 13/36 = 121/144.
    """
    train = Batch(torch.tensor([[0, 1, 0, 1]]))
    model = fitted(NGram, ABAB, train, train, order=2)
    abab, aaaa = train.x, torch.zeros(1, 4, dtype=torch.long)
    assert math.isclose(float(model.log_prob(abab).nats), 2 * math.log(59 / 72 * 121 / 144), rel_tol=1e-5)
    assert math.isclose(
        float(model.log_prob(aaaa).nats), math.log(59 / 72) + 3 * math.log(23 / 144), rel_tol=1e-5
    )
    unigram = fitted(NGram, ABAB, train, train, order=1)  # occurrences: a 2, b 2
    assert torch.allclose(unigram.next_logits(aaaa[:, :2])[0].exp(), torch.tensor([[0.5, 0.5]]), atol=1e-6)


def test_ngram_discounts_are_chen_and_goodmans():
    """Five unigrams occur 1, 1, 2, 3 and 4 times: Y = n1/(n1 + 2 n2) = 1/2; D1 = 1 - 2 Y n2/n1 = 1/2,
    D2 = 2 - 3 Y n3/n2 = 1/2, D3 = 3 - 4 Y n4/n3 = 1. What is taken, 7/2 of 11, is spread evenly."""
    space = Space("tokens", (11,), levels=5)
    x = torch.tensor([[0, 1, 2, 2, 3, 3, 3, 4, 4, 4, 4]])
    model = fitted(NGram, space, Batch(x), Batch(x), order=1)
    taken = 3.5 / 11 / 5
    expected = torch.tensor([0.5, 0.5, 1.5, 2.0, 3.0]) / 11 + taken
    assert torch.allclose(model.next_logits(x[:, :0])[0][0].exp(), expected, atol=1e-6)


@pytest.mark.parametrize(
    "space",
    [
        Space("tokens", (5,), levels=3),
        Space("tokens", (4,), levels=4, end=3),
        Space("tokens", (1, 2, 3), levels=2),
    ],
)
@pytest.mark.parametrize("order", [1, 2, 4])
def test_ngram_sums_to_one(space, order):
    generator = torch.Generator().manual_seed(0)
    train = torch.randint(space.levels, (20, *space.shape), generator=generator)
    model = fitted(NGram, space, Batch(train), Batch(train), order=order)
    every = torch.tensor(list(itertools.product(range(space.levels), repeat=space.dims)))
    if space.end is not None:
        every = torch.where(until_end(every, space.end), every, space.end).unique(dim=0)
    nats = model.log_prob(every.view(-1, *space.shape)).nats
    assert abs(float(nats.double().exp().sum()) - 1) < 1e-5
    chain, inside = torch.zeros(len(every)), until_end(every, space.end)
    for t in range(space.dims):
        logits, _ = model.next_logits(every[:, :t])
        assert torch.allclose(logits.exp().sum(1), torch.ones(1), atol=1e-5)
        chain += logits.gather(1, every[:, t : t + 1])[:, 0] * inside[:, t]
    assert torch.allclose(chain, nats, atol=1e-4)


def test_ngram_finds_the_order_of_a_chain():
    """Each token is the sum of the two before it, nearly always: three tokens tell it all."""
    generator = torch.Generator().manual_seed(0)

    def chain(n: int) -> Batch:
        x = torch.randint(4, (n, 30), generator=generator)
        noise = torch.rand(n, 30, generator=generator) < 0.05
        for t in range(2, 30):
            x[:, t] = torch.where(noise[:, t], x[:, t], (x[:, t - 1] + x[:, t - 2]) % 4)
        return Batch(x)

    model = fitted(NGram, Space("tokens", (30,), levels=4), chain(300), chain(100))
    assert model.order == 3
    found = model.next_logits(torch.tensor([[1, 2]]))[0].argmax()
    assert found == 3


def test_ngram_learns_only_up_to_the_first_end():
    space = Space("tokens", (4,), levels=3, end=2)
    a = Batch(torch.tensor([[0, 1, 2, 2], [1, 2, 2, 2]]))
    b = Batch(torch.tensor([[0, 1, 2, 0], [1, 2, 1, 1]]))
    first, second = (fitted(NGram, space, batch, a, order=2) for batch in (a, b))
    assert torch.equal(first.log_prob(a.x).nats, second.log_prob(a.x).nats)
    x = first.sample(40, seed=0)
    assert torch.equal(torch.where(until_end(x, 2), x, 2), x)


def test_ngram_refuses_orders_that_do_not_fit():
    with pytest.raises(PangenError, match="too long"):
        NGram(Space("tokens", (9,), levels=256), order=9)


# -- all ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [Independent, Mixture, KDE, NGram])
def test_the_first_samples_do_not_depend_on_how_many(family):
    if family is NGram:
        space, train = ABAB, Batch(torch.tensor([[0, 1, 0, 1], [1, 1, 0, 0]]))
    else:
        space, train = PLANE, clouds(100, 0)
    model = fitted(family, space, train, train)
    model.chunk = 8
    few, many = model.sample(5, seed=1), model.sample(20, seed=1)
    assert torch.equal(few, many[:5])
    assert not torch.equal(few, model.sample(5, seed=2))


@pytest.mark.parametrize("family", [Independent, Mixture, KDE])
def test_a_class_without_examples_is_survived(family):
    space = Space("real", (2,), condition=class_space(3))
    train = clouds(100, 0)
    model = fitted(family, space, train, clouds(50, 1))
    nats = model.log_prob(train.x[:5], torch.full((5,), 2)).nats
    assert nats.isfinite().all()
    assert model.sample(3, torch.full((3,), 2)).isfinite().all()
