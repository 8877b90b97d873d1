"""Consistency in continuous time: the tangent, what it is at the solution, and what comes of following it."""

from types import SimpleNamespace

import pytest
import torch
from denoisers import MEAN, STD, Gaussian, generator
from torch import Tensor

from pangen.data import load_data
from pangen.families.consistency.consistency import Consistency
from pangen.families.consistency.continuous import Continuous, tangent
from pangen.families.consistency.distillation import seen
from pangen.networks.preconditioning import Preconditioned, V, column
from pangen.networks.roles import Architecture
from pangen.space import Batch, Progress, Space, class_space

LEVELS = torch.tensor([0.02, 0.3, 1.0, 4.0, 40.0], dtype=torch.float64)


def end_of_path(x: Tensor, sigma: Tensor) -> Tensor:
    """Where the probability flow of N(MEAN, STD^2) ends: the deviation keeps its rank."""
    return MEAN + STD * (x - MEAN) / (STD**2 + column(sigma, x) ** 2).sqrt()


@pytest.mark.parametrize(
    ("shape", "network"), [((3,), "auto"), ((2, 17, 16), "auto"), ((3, 8), "auto"), ((1, 8, 8), "dit")]
)
def test_the_tangent_is_the_slope_along_the_path(shape, network):
    """Of each kind of network: against central differences, in float64."""
    torch.manual_seed(0)
    space = Space("real", shape, condition=class_space(3))
    net = Preconditioned(space, Architecture(32, network), V.coefficients, zero=False).double()
    for parameter in net.parameters():  # also of layers that start at zero
        torch.nn.init.normal_(parameter, std=0.2)
    x0, e = torch.randn(2, 5, *shape, dtype=torch.float64)
    y, h = torch.tensor([0, 1, 2, 3, 0]), 1e-5 * LEVELS

    def f(x: Tensor, sigma: Tensor) -> Tensor:
        return net.estimate(x, sigma, y)

    def at(sigma: Tensor) -> Tensor:
        return f(x0 + column(sigma, x0) * e, sigma)

    with torch.no_grad():
        _, g = tangent(f, x0 + column(LEVELS, x0) * e, LEVELS, x0, 1.0)
        differences = (at(LEVELS + h) - at(LEVELS - h)) / column(2 * h, x0)
    expected = column((1 + LEVELS**2).sqrt(), x0) * differences
    assert g.abs().amin() > 0
    # rounding errors of 1e-16 over steps of 1e-5, and the square of the step
    torch.testing.assert_close(g, expected, rtol=1e-5, atol=1e-7)


def test_a_student_learns_the_end_of_its_teachers_path():
    """Of N(0, 1.5^2), after a short training; at the highest levels last."""
    torch.manual_seed(0)
    std, steps = 1.5, 120
    teacher = SimpleNamespace(
        sigma_min=1e-3, sigma_max=1e3, denoise=lambda x, sigma, y: x / (1 + column(sigma / std, x) ** 2)
    )
    model = Consistency(
        Space("real", (3,)), width=64, method="distil", teacher="a run", time="continuous", target="v"
    )
    model.initialize(Batch(std * torch.randn(1000, 3)))
    model.taught = seen(teacher, model.net)
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)

    @torch.no_grad()
    def error(level: float) -> float:
        sigma = torch.full((500,), level)
        x = (std**2 + level**2) ** 0.5 * torch.randn(500, 3)
        end = x * std / (std**2 + level**2) ** 0.5
        return float((model.denoise(x, sigma) - end).square().mean().sqrt()) / std

    before = error(1.5), error(20.0)
    for step in range(steps):
        optimizer.zero_grad()
        model.loss(Batch(std * torch.randn(128, 3)), Progress(step, steps)).total.backward()
        optimizer.step()
        schedule.step()
    assert error(1.5) < 0.2 < before[0]
    assert error(20.0) < 0.6 < before[1]


@pytest.mark.parametrize("r", [0.0, 0.4, 1.0])
def test_the_tangent_is_that_of_trigflow(r):
    """-cos^2(t) (F - dx_t/dt) - r cos(t) sin(t) (x_t + dF/dt), Lu and Song 2024, Algorithm 1."""
    torch.manual_seed(0)
    W = torch.randn(4, 4, dtype=torch.float64)
    x0, e = torch.randn(2, 5, 4, dtype=torch.float64)
    t = LEVELS.atan()
    cos, sin = t.cos()[:, None], t.sin()[:, None]

    def F(x_t: Tensor, t: Tensor) -> Tensor:
        return (x_t @ W + 3 * t[:, None]).tanh()

    def f(x: Tensor, sigma: Tensor) -> Tensor:
        t = sigma.atan()
        x_t = t.cos()[:, None] * x
        return t.cos()[:, None] * x_t - t.sin()[:, None] * F(x_t, t)

    x_t, dx_t = cos * x0 + sin * e, cos * e - sin * x0
    value, dF = torch.func.jvp(F, (x_t, t), (dx_t, torch.ones_like(t)))
    expected = -(cos**2) * (value - dx_t) - r * cos * sin * (x_t + dF)
    _, g = tangent(f, x0 + LEVELS[:, None] * e, LEVELS, x0, r)
    torch.testing.assert_close(g, expected, rtol=1e-9, atol=1e-10)


def test_at_the_solution_there_is_nothing_to_follow():
    """Along the exact path the exact function has no slope; along lines to noise it has none on average."""
    n = 4000
    for level in LEVELS[1:].float():
        sigma, e = torch.full((n,), float(level)), torch.randn(n, 3, generator=generator(1))
        x0 = MEAN + STD * torch.randn(n, 3, generator=generator(2))
        x = x0 + level * e
        _, g = tangent(end_of_path, x, sigma, Gaussian().denoise(x, sigma), 1.0)
        assert g.abs().max() < 2e-4  # float32: terms of order 1 to 10 that cancel
        _, g = tangent(end_of_path, x, sigma, x0, 1.0)
        assert g.abs().mean() > 0.01
        for weight in (torch.ones(()), (x - MEAN) / x.std(0)):  # the gradient of a function linear in x
            mean, error = (weight * g).mean(0), (weight * g).std(0) / n**0.5
            assert (mean.abs() < 4.5 * error).all()


def test_the_exact_function_has_no_gradient():
    """The whole objective, from an exact teacher, at f = end + w (x - MEAN) with w = 0; else it has one."""

    def gradient(w: float) -> float:
        torch.manual_seed(0)
        weight = torch.tensor(w, dtype=torch.float64, requires_grad=True)
        x0 = MEAN + STD * torch.randn(500, 3, dtype=torch.float64)
        teacher = lambda x, sigma: MEAN + STD**2 / (STD**2 + column(sigma, x) ** 2) * (x - MEAN)  # noqa: E731
        f = lambda x, sigma: end_of_path(x, sigma) + weight * (x - MEAN)  # noqa: E731
        Continuous()(f, x0, torch.randn_like(x0), teacher, Progress(1, 2)).backward()
        return float(weight.grad)

    assert abs(gradient(0.0)) < 1e-9
    assert gradient(0.1) > 0.01
    assert gradient(-0.1) < -0.01


def test_training_starts_as_diffusion():
    """At r = 0 the tangent is the error of an estimate: no derivative has a say."""
    x0, e = torch.randn(2, 5, 3, dtype=torch.float64)
    x = x0 + LEVELS[:, None] * e
    found, g = tangent(lambda x, sigma: x.tanh() * sigma[:, None], x, LEVELS, x0, 0.0)
    torch.testing.assert_close(g, (found - x0) / (LEVELS * (1 + LEVELS**2).sqrt())[:, None])


def distance(a: Tensor, b: Tensor) -> float:
    """Energy distance: 0 for equal laws."""
    return float(2 * torch.cdist(a, b).mean() - torch.cdist(a, a).mean() - torch.cdist(b, b).mean())


def test_one_step_comes_nearer_the_truth():
    """From scratch on eight Gaussians, after a short training."""
    torch.manual_seed(0)
    x = load_data("gaussians8").train.x[:1500]
    x, steps = (x - x.mean(0)) / x.std(), 100
    model = Consistency(Space("real", (2,)), width=64, time="continuous")
    model.initialize(Batch(x))
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    before = distance(model.sample(500), x)
    for step in range(steps):
        optimizer.zero_grad()
        model.loss(Batch(x[torch.randint(len(x), (128,))]), Progress(step, steps)).total.backward()
        optimizer.step()
        schedule.step()
    after = distance(model.sample(500), x)
    assert after < min(0.1, before / 4)


def test_convolutions_learn_in_continuous_time():
    model = Consistency(Space("real", (1, 16, 16)), width=32, time="continuous")
    model.loss(Batch(torch.randn(4, 1, 16, 16)), Progress(1, 2)).total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert sum(float(p.grad.abs().sum()) for p in model.parameters() if p.grad is not None) > 0
