"""Continuous flows: solvers against matrix exponentials, densities against autograd, quadrature and a peer."""

import math
from itertools import pairwise, product

import pytest
import torch
from torch import Tensor, nn

from pangen.families.flow.ffjord import FFJORD
from pangen.networks.dynamics import Dynamics
from pangen.samplers.ode import DormandPrince, RungeKutta4
from pangen.space import Batch, Progress, Space, class_space

TURN = torch.tensor([[-0.4, 1.7, 0.0], [-1.1, 0.3, 0.5], [0.2, 0.0, 0.6]], dtype=torch.float64)
SPACES = {"vector": Space("real", (2,)), "classes": Space("real", (3,), condition=class_space(2)),
          "image": Space("real", (1, 3, 3)), "convolved": Space("real", (1, 16, 2))}  # fmt: skip
every_space = pytest.mark.parametrize("name", SPACES)


def normal(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def model(name: str, **settings) -> FFJORD:
    """In float64 and away from the start, where the field is zero; always the same weights."""
    torch.manual_seed(0)
    m = FFJORD(SPACES[name], **{"width": 16, "depth": 2, "tolerance": 1e-9, **settings}).double().eval()
    generator = torch.Generator().manual_seed(0)
    for p in m.parameters():
        p.data += 0.4 * torch.randn(p.shape, generator=generator)
    return m.requires_grad_(False)


class Linear(nn.Module):
    """dz/dt = A z, whose flow is a matrix exponential."""

    def forward(self, z, t, y=None, v=None):
        A = TURN.to(z.dtype)
        return z @ A.T, None if v is None else v @ A.T


def turn(z: Tensor, t: Tensor) -> Tensor:
    return z @ TURN.T


@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (1.0, 0.0), (0.5, 3.0)])
def test_the_adaptive_solver_reaches_the_matrix_exponential(start, end):
    z = normal(5, 3)
    expected = z @ torch.matrix_exp(TURN * (end - start)).T
    errors = []
    for tolerance in (1e-4, 1e-7, 1e-10):
        errors.append(float((DormandPrince(tolerance)(turn, z, start, end) - expected).abs().max()))
        # errors of some tens of steps add up and grow with the flow
        assert errors[-1] < 100 * tolerance
    assert errors == sorted(errors, reverse=True)


def test_the_fixed_solver_is_of_fourth_order():
    z, expected = normal(4, 3), normal(4, 3) @ torch.matrix_exp(TURN).T
    errors = [float((RungeKutta4(n)(turn, z, 0.0, 1.0) - expected).abs().max()) for n in (8, 16, 32)]
    for coarse, fine in pairwise(errors):
        assert 14 < coarse / fine < 18


@pytest.mark.parametrize("solver", [RungeKutta4(10), DormandPrince(1e-9)], ids=str)
def test_time_is_told_to_the_field(solver):
    """dz/dt = t^3: any method of order 4 gives the integral exactly, up to rounding."""
    z = solver(lambda z, t: (t**3)[:, None].expand_as(z), torch.zeros(2, 1, dtype=torch.float64), 1.0, 3.0)
    assert torch.allclose(z, torch.full((2, 1), 20.0, dtype=torch.float64), atol=1e-12)


def test_a_row_keeps_its_steps_whatever_its_neighbours_need():
    """Row 0 beside rows that are still, fast, or cannot be solved at all: the same bits."""

    def field(z: Tensor, t: Tensor) -> Tensor:
        return z[:, 1:] * torch.stack([torch.cos(3 * t), torch.zeros_like(t)], 1) * torch.tensor([1.0, 0.0])

    first = torch.tensor([[0.3, 2.0]])
    ends = [
        DormandPrince(1e-5)(field, torch.cat([first, torch.tensor([[1.0, speed]])]), 0.0, 1.0)
        for speed in (0.0, 500.0, math.nan)
    ]
    assert torch.equal(ends[0][0], ends[1][0])
    assert torch.equal(ends[0][0], ends[2][0])
    assert ends[2][1].isnan().any()
    assert float(ends[0][0, 0]) == pytest.approx(0.3 + 2 * math.sin(3) / 3, abs=1e-4)
    assert float(ends[1][1, 0]) == pytest.approx(1 + 500 * math.sin(3) / 3, rel=1e-3)


def test_a_row_that_does_not_arrive_is_no_number():
    z = DormandPrince(1e-16, attempts=50)(turn, normal(2, 3), 0.0, 1.0)
    assert z.isnan().all()


def test_gradients_of_the_adaptive_solver_are_those_of_the_exponential():
    z = normal(3, 3).requires_grad_(True)
    w = normal(3, 3, seed=2)
    (DormandPrince(1e-10)(turn, z, 0.0, 1.0) * w).sum().backward()
    assert torch.allclose(z.grad, w @ torch.matrix_exp(TURN), atol=1e-8)


@every_space
def test_the_adaptive_solver_agrees_with_a_peer(name):
    torchdiffeq = pytest.importorskip("torchdiffeq")
    m = model(name)
    z = normal(4, *SPACES[name].shape)

    def field(t, state):
        return m.f(state, t.expand(4))[0]

    times = torch.tensor([0.0, 1.0], dtype=torch.float64)
    theirs = torchdiffeq.odeint(field, z, times, rtol=1e-10, atol=1e-10, method="dopri5")[-1]
    assert (m.carry(z, None, 0.0, 1.0) - theirs).abs().max() < 1e-7


@every_space
def test_directions_are_carried_by_autograds_jacobian(name):
    space = SPACES[name]
    m, z, v = model(name), normal(2, *space.shape), normal(3, 2, *space.shape, seed=2)
    t = torch.tensor([0.2, 0.9], dtype=torch.float64)
    value, moved = m.f(z, t, None, v)
    assert torch.equal(value, m.f(z, t)[0])
    for i in range(2):
        J = torch.autograd.functional.jacobian(
            lambda u, i=i: m.f(u[None], t[i : i + 1])[0][0].flatten(), z[i]
        ).flatten(1)
        assert torch.allclose(moved[:, i].flatten(1), v[:, i].flatten(1) @ J.T, atol=1e-12)


@every_space
def test_the_field_is_zero_at_first(name):
    f, z = Dynamics(SPACES[name], 8, 2), normal(2, *SPACES[name].shape, dtype=torch.float32)
    assert torch.equal(f(z, torch.rand(2))[0], torch.zeros_like(z))


def test_a_linear_field_has_the_density_of_its_exponential():
    """log p(x) = log N(exp(-A) x) - tr A; the penalty is the integral of known functions of time."""
    m = FFJORD(Space("real", (3,)), tolerance=1e-10, kinetic=0.5, jacobian=0.25).double()
    m.f = Linear()
    x = normal(6, 3)
    z = x @ torch.matrix_exp(-TURN).T
    expected = torch.distributions.Normal(0, 1).log_prob(z).sum(1) - TURN.trace()
    found = m.log_prob(x)
    assert found.kind == "exact"
    assert (found.nats - expected).abs().max() < 1e-8
    assert (m.encode(x) - z).abs().max() < 1e-8
    assert (m.decode(z) - x).abs().max() < 1e-8
    times = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    speeds = torch.stack([(x @ torch.matrix_exp(TURN * (t - 1)).T @ TURN.T).square().sum(1) for t in times])
    _, _, penalty = m.back(x, None, m.directions(x, 1, None), m.adaptive, penalised=True)
    assert torch.allclose(penalty, 0.5 * speeds.mean(0) + 0.25 * TURN.square().sum(), rtol=1e-5)


@pytest.mark.parametrize("name", ["vector", "classes", "image"])
def test_log_determinant_is_autograds(name):
    m = model(name, exact=9)
    y = torch.tensor([1]) if name == "classes" else None
    for seed in (1, 2):
        x = normal(1, *SPACES[name].shape, seed=seed)
        J = torch.autograd.functional.jacobian(lambda v, x=x: m.encode(v.view_as(x), y)[0], x.flatten())
        expected = m.base.log_prob(m.encode(x, y)) + torch.linalg.slogdet(J).logabsdet
        assert abs(float(m.log_prob(x, y).nats - expected)) < 1e-6  # a thousand tolerances


@every_space
@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-6), (torch.float32, 1e-3)], ids=str)
def test_decode_undoes_encode(name, dtype, error):
    m = model(name, tolerance=1e-9 if dtype == torch.float64 else 1e-5).to(dtype)
    x = normal(8, *SPACES[name].shape, dtype=dtype)
    assert (m.decode(m.encode(x)) - x).abs().max() < error


def test_the_estimate_is_exact_on_average_over_all_signs():
    """The mean of e.J e over every vector of signs is the trace, at every step of a fixed solver."""
    m = model("classes")
    x, by = normal(3, 3), RungeKutta4(4)
    signs = torch.tensor(list(product([-1.0, 1.0], repeat=3)), dtype=torch.float64)
    _, exact, _ = m.back(x, None, m.directions(x, 1, None), by)
    m.exact = False
    _, estimate, _ = m.back(x, None, signs[:, None].expand(-1, 3, -1), by)
    assert torch.allclose(estimate, exact, atol=1e-12)
    assert m.log_prob(x).kind == "estimate"


def test_estimates_follow_the_generator_and_scatter_about_the_exact_value():
    m, exact = model("image", exact=0, probes=2, tolerance=1e-4), model("image", exact=9, tolerance=1e-4)
    x = normal(1, 1, 3, 3).expand(400, -1, -1, -1)
    nats = [m.log_prob(x, generator=torch.Generator().manual_seed(s)).nats for s in (0, 0, 1)]
    assert torch.equal(nats[0], nats[1])
    assert not torch.equal(nats[0], nats[2])
    spread = float(nats[0].std())
    assert spread > 0
    # the mean of 400 draws lies within four standard errors
    assert abs(float(nats[0].mean() - exact.log_prob(x[:1]).nats)) < 4 * spread / 20


def test_two_dimensional_densities_integrate_to_one():
    """Trapezoid rule on [-20, 20]^2, far beyond where the field, bounded by its layers, can carry."""
    m, h = model("vector", tolerance=1e-4).float(), 0.2
    line = torch.arange(-20, 20 + h / 2, h)
    total = float(m.log_prob(torch.cartesian_prod(line, line)).nats.double().exp().sum() * h * h)
    assert abs(total - 1) < 1e-3


def test_a_flow_at_its_start_is_the_gaussian_with_the_datas_diagonal():
    x = normal(300, 2) * torch.tensor([0.2, 3.0]) + 1
    m = FFJORD(SPACES["vector"]).double()
    m.initialize(Batch(x))
    expected = torch.distributions.Normal(x.mean(0), x.std(0, correction=0)).log_prob(x).sum(1)
    assert (m.log_prob(x).nats - expected).abs().max() < 1e-6


@pytest.mark.parametrize("steps", [40, 0])
def test_the_loss_without_penalty_is_the_mean_of_minus_log_prob(steps):
    """By 40 fixed steps, or by the adaptive ones."""
    m, x = model("vector", train_steps=steps, kinetic=0.0, jacobian=0.0), normal(6, 2)
    assert float(m.loss(Batch(x), Progress(0, 1)).total) == pytest.approx(
        float(-m.log_prob(x).nats.mean()), abs=1e-5
    )
