"""Every likelihood is a probability: it sums or integrates to 1, and its samples follow it."""

from itertools import product

import pytest
import torch

from pangen.likelihoods import LOG_SCALES, bounded, likelihood, log_normal
from pangen.space import Space

DISCRETE = [
    Space("binary", (3,), levels=2),
    Space("tokens", (2,), levels=4),
    Space("real", (2,), levels=2),
    Space("real", (2,), levels=17),
    Space("real", (1,), levels=256),
]


def raw_outputs(space: Space, scale: float = 1.5, rows: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return scale * torch.randn(rows, likelihood(space).channels, *space.shape, generator=generator)


def every_state(space: Space) -> torch.Tensor:
    states = torch.tensor(list(product(range(space.levels), repeat=space.dims)))
    if space.kind == "real":
        return states * (2 / (space.levels - 1)) - 1
    return states if space.kind == "tokens" else states.float()


@pytest.mark.parametrize("space", DISCRETE, ids=lambda s: f"{s.kind}{s.levels}")
@pytest.mark.parametrize("scale", [0.0, 1.5, 8.0])
def test_discrete_probabilities_sum_to_one(space, scale):
    x = every_state(space)
    raw = raw_outputs(space, scale).expand(len(x), -1, *space.shape)
    # float32 sums of up to 289 terms: a few units of 1e-7 each
    assert float(likelihood(space)(raw).log_prob(x).exp().sum()) == pytest.approx(1, abs=1e-4)


def test_normal_density_integrates_to_one():
    space = Space("real", (1,))
    p = likelihood(space)(raw_outputs(space).expand(20001, -1, -1))
    half_width = 20 * float(p.log_scale[0].exp())
    x = float(p.mean[0]) + torch.linspace(-half_width, half_width, 20001)[:, None]
    assert float(torch.trapezoid(p.log_prob(x).exp(), x[:, 0])) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("space", [*DISCRETE[:4], Space("real", (2,))], ids=lambda s: f"{s.kind}{s.levels}")
def test_samples_follow_the_distribution(space):
    """The mean log-probability of samples is the negative entropy, and the mean is their mean."""
    n = 20000
    p = likelihood(space)(raw_outputs(space).expand(n, -1, *space.shape))
    x = p.sample(torch.Generator().manual_seed(1))
    found = p.log_prob(x).double()
    if space.levels:
        states = every_state(space)
        each = likelihood(space)(raw_outputs(space).expand(len(states), -1, *space.shape)).log_prob(states)
        negative_entropy = float((each.exp() * each).sum())
    else:
        negative_entropy = float(-(p.log_scale[0] + 0.5 + 0.9189385).sum())
    # five standard errors of a mean of n draws
    assert float(found.mean()) == pytest.approx(negative_entropy, abs=5 * float(found.std()) / n**0.5)
    if space.kind == "binary" or not space.levels:
        error = (x.mean(0) - p.mean[0]).abs()
        assert (error < 5 * x.std(0) / n**0.5).all()


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


@pytest.mark.parametrize("space", [DISCRETE[4], DISCRETE[3], Space("real", (2,))], ids=str)
@pytest.mark.parametrize("value", [-1e4, 0.0, 1e4])
def test_extreme_outputs_stay_finite_with_their_gradients(space, value):
    raw = torch.full((1, likelihood(space).channels, *space.shape), value, requires_grad=True)
    for x in (-1.0, 0.0, 1.0):
        found = likelihood(space)(raw).log_prob(torch.full((1, *space.shape), x))
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
