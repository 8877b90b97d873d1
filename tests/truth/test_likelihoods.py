"""Every likelihood is a probability: it sums or integrates to 1, and its samples follow it."""

from itertools import product

import pytest
import torch

from pangen.errors import PangenError
from pangen.likelihoods import FIXED_SCALE, LOG_SCALES, bounded, likelihood, log_normal
from pangen.space import Space

DISCRETE = [
    Space("binary", (3,), levels=2),
    Space("tokens", (2,), levels=4),
    Space("real", (2,), levels=2),
    Space("real", (2,), levels=17),
    Space("real", (1,), levels=256),
]


NAMED = [(space, "auto") for space in DISCRETE] + [
    (space, name) for space in DISCRETE if space.is_grid for name in ("categorical", "normal", "fixed")
]
named = pytest.mark.parametrize(("space", "name"), NAMED, ids=lambda v: getattr(v, "kind", v))


def raw_outputs(space: Space, scale: float = 1.5, rows: int = 1, name: str = "auto") -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return scale * torch.randn(rows, likelihood(space, name).channels, *space.shape, generator=generator)


def every_state(space: Space) -> torch.Tensor:
    states = torch.tensor(list(product(range(space.levels), repeat=space.dims)))
    if space.kind == "real":
        return states * (2 / (space.levels - 1)) - 1
    return states if space.kind == "tokens" else states.float()


@named
@pytest.mark.parametrize("scale", [0.0, 1.5, 8.0])
def test_discrete_probabilities_sum_to_one(space, name, scale):
    x = every_state(space)
    raw = raw_outputs(space, scale, name=name).expand(len(x), -1, *space.shape)
    # float32 sums of up to 289 terms: a few units of 1e-7 each
    assert float(likelihood(space, name)(raw).log_prob(x).exp().sum()) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("name", ["auto", "normal", "fixed"])
def test_normal_density_integrates_to_one(name):
    space = Space("real", (1,))
    p = likelihood(space, name)(raw_outputs(space, name=name).expand(20001, -1, -1))
    half_width = 20 * float(p.log_scale[0].exp())
    x = float(p.mean[0]) + torch.linspace(-half_width, half_width, 20001)[:, None]
    assert float(torch.trapezoid(p.log_prob(x).exp(), x[:, 0])) == pytest.approx(1, abs=1e-4)


REAL = Space("real", (2,))


@pytest.mark.parametrize(
    ("space", "name"), [*(one for one in NAMED if one[0] != DISCRETE[4]), (REAL, "normal"), (REAL, "fixed")]
)
def test_samples_follow_the_distribution(space, name):
    """The mean log-probability of samples is the negative entropy, and the mean is their mean."""
    n = 20000
    raw = raw_outputs(space, name=name)
    p = likelihood(space, name)(raw.expand(n, -1, *space.shape))
    x = p.sample(torch.Generator().manual_seed(1))
    found = p.log_prob(x).double()
    if space.levels:
        states = every_state(space)
        each = likelihood(space, name)(raw.expand(len(states), -1, *space.shape)).log_prob(states)
        negative_entropy = float((each.exp() * each).sum())
    else:
        negative_entropy = float(-(p.log_scale[0] + 0.5 + 0.9189385).sum())
    # five standard errors of a mean of n draws, and a few units of 1e-7 for each term
    assert float(found.mean()) == pytest.approx(negative_entropy, abs=5 * float(found.std()) / n**0.5 + 1e-5)
    if space.kind == "binary" or not space.levels or (space.is_grid and name == "categorical"):
        error = (x.mean(0) - p.mean[0]).abs()
        assert (error < 5 * x.std(0) / n**0.5).all()


@pytest.mark.parametrize("name", ["normal", "fixed"])
@pytest.mark.parametrize("levels", [2, 5, 256])
def test_normal_cells_are_differences_of_the_distribution_function(name, levels):
    """In double precision and in single, the end cells holding the tails."""
    space = Space("real", (1,), levels=levels)
    raw = raw_outputs(space, name=name)
    p = likelihood(space, name)(raw.double())
    grid = every_state(space).double()
    inner = grid[:-1, 0] + 1 / (levels - 1)
    edges = torch.cat([torch.tensor([-torch.inf]), inner, torch.tensor([torch.inf])])
    cdf = torch.distributions.Normal(p.normal.mean, p.normal.log_scale.exp()).cdf(edges[:, None])
    expected = cdf.diff(dim=0)[:, 0]
    for dtype, precision in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
        found = likelihood(space, name)(raw.to(dtype).expand(levels, -1, -1)).log_prob(grid.to(dtype))
        torch.testing.assert_close(found.exp().double(), expected, atol=precision, rtol=0)


def test_a_fixed_scale_is_the_squared_error():
    x, mean = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    found = likelihood(Space("real", (3,)), "fixed")(mean[:, None]).log_prob(x)
    error = (x - mean).square().sum(1) / (2 * FIXED_SCALE**2)
    torch.testing.assert_close(found.diff(), -error.diff())


@pytest.mark.parametrize(
    ("space", "name", "message"),
    [
        (DISCRETE[0], "normal", "normal is no likelihood of bits; take bernoulli"),
        (DISCRETE[3], "bernoulli", "grey levels; take logistic or categorical or normal or fixed"),
        (REAL, "logistic", "real numbers; take normal or fixed"),
    ],
)
def test_a_likelihood_that_does_not_fit_is_refused(space, name, message):
    with pytest.raises(PangenError, match=message):
        likelihood(space, name)


def test_logistic_cells_are_differences_of_the_distribution_function():
    """Against the textbook formula in float64, the edge cells holding the tails."""
    space = Space("real", (1,), levels=5)
    raw = raw_outputs(space, rows=1)
    p = likelihood(space)(raw.double())
    edges = torch.tensor([-torch.inf, -0.75, -0.25, 0.25, 0.75, torch.inf], dtype=torch.float64)
    cdf = torch.sigmoid((edges[:, None] - p.means[0, :, 0]) / p.log_scales[0, :, 0].exp())
    expected = (cdf.diff(dim=0) * p.logits[0, :, 0].softmax(0)).sum(1).log()
    x = every_state(space)
    found = likelihood(space)(raw.expand(5, -1, -1)).log_prob(x)
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("space", "name"),
    [*(one for one in NAMED if one[0] in DISCRETE[3:]), (REAL, "normal"), (REAL, "fixed")],
    ids=str,
)
@pytest.mark.parametrize("value", [-1e4, 0.0, 1e4])
def test_extreme_outputs_stay_finite_with_their_gradients(space, name, value):
    raw = torch.full((1, likelihood(space, name).channels, *space.shape), value, requires_grad=True)
    for x in (-1.0, 0.0, 1.0):
        found = likelihood(space, name)(raw).log_prob(torch.full((1, *space.shape), x))
        (gradient,) = torch.autograd.grad(found.sum(), raw)
        assert torch.isfinite(found).all()
        assert torch.isfinite(gradient).all()


def test_bounds_hold_and_bend_little_between():
    low, high = LOG_SCALES
    wide = bounded(torch.linspace(-100, 100, 101), low, high)
    assert wide.min() >= low
    assert wide.max() <= high + 0.01  # the lower bend adds exp(low - high) at most
    inside = torch.linspace(-2, 0, 9)
    assert (bounded(inside, low, high) - inside).abs().max() < 0.06  # softplus is off by exp(-3) at most


def test_log_normal_is_torch_distributions():
    x, mean, log_scale = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    expected = torch.distributions.Normal(mean, log_scale.exp()).log_prob(x).sum(1)
    torch.testing.assert_close(log_normal(x, mean, log_scale), expected)
