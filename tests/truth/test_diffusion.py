"""Diffusion and consistency: closed forms of the noising processes, the bounds and the boundary."""

import itertools
import math

import pytest
import torch
from denoisers import MEAN, STD, Gaussian, end, generator
from torch import Tensor

from pangen.errors import PangenError
from pangen.families.consistency.consistency import LOWEST, Consistency, boundary
from pangen.families.diffusion.ddpm import DDPM, SCHEDULES, TARGETS
from pangen.families.diffusion.last_step import log_last
from pangen.families.diffusion.score import PROCESSES
from pangen.networks.labels import hide
from pangen.networks.preconditioning import FLOW, ErrorByLevel
from pangen.samplers.diffusion import DDIM, Multistep
from pangen.samplers.noise import (
    cosine,
    in_time,
    linear,
    log_normal,
    posterior,
    sigmoid,
    spaced,
    straight,
)
from pangen.space import Batch, Progress, Space, class_space

LOW, HIGH = torch.tensor([0.02, 40.0], dtype=torch.float64)
BETA = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
"""Ho et al. 2020, Section 4."""
ALPHA_BAR = (1 - BETA).cumprod(0)


# -- the noising chain ------------------------------------------------------------------------------


def test_marginal_of_the_simulated_chain():
    """A thousand steps of sqrt(1 - beta) x + sqrt(beta) e give sqrt(abar) times x0 + sigma e."""
    n, x0 = 50_000, 1.5
    x, draw = torch.full((n,), x0), generator()
    for t in range(1000):
        x = (1 - float(BETA[t])) ** 0.5 * x + float(BETA[t]) ** 0.5 * torch.randn(n, generator=draw)
        if t in (50, 300, 999):
            abar = float(ALPHA_BAR[t])
            variance = (1 - abar) / abar
            scaled = x / abar**0.5
            assert scaled.mean().item() == pytest.approx(
                x0, abs=4 * (variance / n) ** 0.5
            )  # 4 standard errors
            assert scaled.var().item() == pytest.approx(variance, rel=4 * (2 / n) ** 0.5)


def test_linear_schedule_is_the_chain_with_linear_beta():
    """sigma^2 = (1 - abar) / abar of the 1000 discrete betas, to the error of a sum taken for an integral."""
    sigma = ((1 - ALPHA_BAR) / ALPHA_BAR).sqrt()
    t = (torch.arange(1, 1001) - 1) / 999
    found = linear(t.double(), sigma[0], sigma[-1])
    assert torch.allclose(found[50:], sigma[50:], rtol=0.02)


def test_cosine_schedule_keeps_a_cosine_of_the_signal():
    sigma = cosine(torch.linspace(0, 1, 101, dtype=torch.float64), LOW, HIGH)
    angle = (1 / (1 + sigma**2).sqrt()).acos()  # abar = 1 / (1 + sigma^2)
    assert torch.allclose(angle.diff(), angle.diff().mean().expand(100), rtol=1e-9)


def test_sigmoid_schedule_is_a_sigmoid_of_the_signal():
    """logit of abar, which is first stretched to the sigmoid's part from -3 to 3, falls linearly."""
    abar = 1 / (1 + sigmoid(torch.linspace(0, 1, 101, dtype=torch.float64), LOW, HIGH) ** 2)
    ends = torch.tensor([-3.0, 3.0], dtype=torch.float64).sigmoid()
    falling = (ends[1] - abar * (ends[1] - ends[0])).logit().diff()
    assert torch.allclose(falling, falling.mean().expand(100), rtol=1e-8)


@pytest.mark.parametrize("name", ["vp", "subvp"])
def test_processes_are_their_stochastic_equations(name):
    """The variance of x_t, from dV/dt = -beta V + g^2 in small steps, is sigma^2 times the signal's square.

    Song et al. 2021b, Eq. 32 and 27: beta = 0.1 + 19.9 t, and g^2 = beta or beta (1 - exp(-2 B)).
    """
    n, V, at = 20_000, 0.0, {}
    for i in range(n):
        t = (i + 0.5) / n
        beta, B = 0.1 + 19.9 * t, 0.1 * t + 9.95 * t**2
        g2 = beta if name == "vp" else beta * -math.expm1(-2 * B)
        V += (g2 - beta * V) / n
        t = (i + 1) / n
        at[i + 1] = (V * math.exp(0.1 * t + 9.95 * t**2)) ** 0.5
    low, high = (torch.tensor(at[k], dtype=torch.float64) for k in (n // 10, n))
    found = PROCESSES[name](torch.tensor([1 / 9, 4 / 9], dtype=torch.float64), low, high)  # t = 0.2, 0.5
    assert found.tolist() == pytest.approx([at[n // 5], at[n // 2]], rel=1e-3)


def test_times_of_straight_lines():
    """sigma / (1 + sigma) = t, uniform; and log-normal levels are logit-normal times."""
    at = torch.linspace(0, 1, 101, dtype=torch.float64)
    t = straight(at, LOW, HIGH)
    t = t / (1 + t)
    assert torch.allclose(t.diff(), t.diff().mean().expand(100), rtol=1e-9)
    u = (torch.arange(100_000) + 0.5).double() / 100_000
    sigma = log_normal(u, torch.tensor(1e-9), torch.tensor(1e9), mean=-0.5, std=1.2)
    logit = (sigma / (1 + sigma)).logit()
    assert (logit.mean().item(), logit.std().item()) == pytest.approx((-0.5, 1.2), abs=1e-3)
    cut = log_normal(torch.tensor([0.0, 1.0]).double(), LOW, HIGH, mean=0.0, std=1.0)
    assert torch.equal(cut, torch.stack([LOW, HIGH]))


@pytest.mark.parametrize(
    "schedule", [*SCHEDULES.values(), *PROCESSES.values(), straight], ids=lambda f: f.__name__
)
def test_schedules_rise_between_their_ends(schedule):
    sigma = schedule(torch.linspace(0, 1, 50, dtype=torch.float64), LOW, HIGH)
    assert torch.allclose(sigma[[0, -1]], torch.stack([LOW, HIGH]))
    assert (sigma.diff() > 0).all()
    falling = in_time(schedule)(50, float(LOW), float(HIGH))
    assert torch.allclose(falling.flip(0), sigma)
    assert in_time(schedule)(1, 0.02, 40.0).item() == pytest.approx(40.0)


def test_noise_levels_fall_between_their_ends():
    levels = spaced(9, 0.01, 50.0)
    assert torch.allclose(levels[[0, -1]], torch.tensor([50.0, 0.01], dtype=torch.float64))
    assert torch.allclose((levels ** (1 / 7)).diff(), (levels ** (1 / 7)).diff()[:1])


def test_posterior_is_gaussian_conditioning():
    """From the joint law of (x_s, x_t) given x0: precisions add."""
    x0, x, sigma, lower = 0.7, -1.2, 1.5, 0.4
    precision = 1 / lower**2 + 1 / (sigma**2 - lower**2)
    mean = (x0 / lower**2 + x / (sigma**2 - lower**2)) / precision
    found = posterior(*(torch.tensor(v, dtype=torch.float64) for v in (x, x0, sigma, lower)))
    assert [v.item() for v in found] == pytest.approx([mean, 1 / precision], rel=1e-12)


@pytest.mark.parametrize("t", [1, 10, 500, 999])
def test_posterior_is_that_of_the_variance_preserving_chain(t):
    """Ho et al. 2020, Eq. 7, with x_t and the result divided by sqrt(abar)."""
    beta, abar, before = BETA[t], ALPHA_BAR[t], ALPHA_BAR[t - 1]
    x0, xt = torch.randn(2, 5, dtype=torch.float64)
    mean = (before.sqrt() * beta * x0 + (1 - beta).sqrt() * (1 - before) * xt) / (1 - abar)
    variance = (1 - before) / (1 - abar) * beta
    sigma, lower = ((1 / a - 1).sqrt() for a in (abar, before))
    found = posterior(xt / abar.sqrt(), x0, sigma, lower)
    assert torch.allclose(found[0] * before.sqrt(), mean, rtol=1e-9, atol=1e-12)
    assert (found[1] * before).item() == pytest.approx(variance.item(), rel=1e-8)


# -- the denoiser's parametrisations ----------------------------------------------------------------


@pytest.mark.parametrize("target", [*TARGETS, "flow"])
def test_targets_are_the_same_estimate(target):
    """The network that returns the true eps, x0, v or velocity gives the clean example back."""
    x0, eps = torch.randn(2, 6, dtype=torch.float64)
    sigma = torch.logspace(-2, 2, 6, dtype=torch.float64)
    signal, noise = 1 / (1 + sigma**2).sqrt(), sigma / (1 + sigma**2).sqrt()
    out = {"eps": eps, "x0": x0, "v": signal * eps - noise * x0, "flow": eps - x0}[target]
    prediction = {**TARGETS, "flow": FLOW}[target]
    assert torch.allclose(prediction.target(x0, eps, sigma), out, rtol=1e-9, atol=1e-10)
    c_skip, c_out = prediction.coefficients(sigma)
    assert torch.allclose(c_skip * (x0 + sigma * eps) + c_out * out, x0, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("target", TARGETS)
def test_loss_is_the_squared_error_of_the_target(target):
    """L_simple: a network that returns 0 pays the mean square of what it should have returned."""
    model = ddpm(target=target, unlabelled=0.0).eval()
    model.initialize(Batch(STD * torch.randn(4000, 3) + MEAN))
    x = STD * torch.randn(64, 3) + MEAN
    torch.manual_seed(5)
    found = model.loss(Batch(x), Progress(0, 1)).total
    torch.manual_seed(5)
    t = (torch.rand(()) + torch.arange(64) / 64) % 1
    sigma = cosine(t, model.low, model.high)[:, None]
    x0, eps = model.net.unit(x), torch.randn(64, 3)
    v = (eps - sigma * x0) / (1 + sigma**2).sqrt()
    # float32: x - sigma eps loses digits at sigma up to 50
    assert found.item() == pytest.approx(
        {"eps": eps, "x0": x0, "v": v}[target].square().mean().item(), rel=1e-3
    )


def test_hidden_labels_are_the_share_asked_for():
    space, y = Space("real", (2,), condition=class_space(3)), torch.arange(30_000) % 3
    hidden = hide(y, space, 0.25) == 3
    assert hidden.float().mean().item() == pytest.approx(0.25, abs=0.01)  # four standard errors
    assert torch.equal(hide(y, space, 0.0), y)
    assert hide(None, space, 0.25) is None


def test_remembered_errors_tend_to_their_mean_squares():
    table = ErrorByLevel((2,), bins=4)
    table.span(torch.tensor(0.01), torch.tensor(10.0))
    before = table(torch.tensor(10.0))
    sigma = torch.tensor([0.01, 0.1]).repeat_interleave(500)
    for _ in range(20):
        error = sigma[:, None] * torch.tensor([0.5, 0.8]) * torch.randn(1000, 2)
        table.update(error.square(), sigma)
    for level in (0.01, 0.1):  # a running mean over 500 chi-squares: four standard errors are 18 %
        found = table(torch.tensor(level)) / level**2
        assert torch.allclose(found, torch.tensor([0.25, 0.64]), rtol=0.18)
    assert torch.equal(table(torch.tensor(10.0)), before)


# -- the bound --------------------------------------------------------------------------------------


def ddpm(space: Space | None = None, **settings) -> DDPM:
    return DDPM(space or Space("real", (3,)), width=16, **settings)


def bound_of_gaussian(chain: int, error, monkeypatch, n: int = 40_000) -> tuple[float, float]:
    """log p(x) less the bound with the exact denoiser, at one x: its mean over the noise, and error."""
    model = ddpm(chain=chain)
    monkeypatch.setattr(model, "denoise", Gaussian().denoise)
    monkeypatch.setattr(model, "error", error)
    x = (MEAN + STD * torch.tensor([0.5, -1.0, 1.5])).double().expand(n, 3)
    exact = torch.distributions.Normal(MEAN.double(), STD.double()).log_prob(x[0]).sum()
    gap = exact - model.log_prob(x, generator=generator()).nats
    return gap.mean().item(), gap.std().item() / n**0.5


@pytest.mark.parametrize("chain", [4, 40])
def test_bound_with_the_exact_denoiser_and_variance_is_the_likelihood(chain, monkeypatch):
    """For Gaussian data the reverse steps are Gaussian: nothing is lost, at any number of steps."""
    gap, deviation = bound_of_gaussian(chain, Gaussian().error, monkeypatch)
    assert deviation < 0.015
    assert abs(gap) < 4 * deviation + 0.002  # and the prior is N(0, 50^2) where x_T is N(x0, 50^2)


def test_bound_with_the_posterior_variance_is_below_and_tightens(monkeypatch):
    """What it loses falls like one over the number of steps."""

    def last_only(sigma: Tensor) -> Tensor:
        return Gaussian().error(sigma) * (sigma < 0.0101)  # a Gaussian density needs some width

    few, many = (bound_of_gaussian(chain, last_only, monkeypatch, 20_000)[0] for chain in (120, 480))
    assert few > many > 0
    assert few / many == pytest.approx(4, rel=0.15)  # its limit, within four standard errors


@pytest.mark.parametrize("std", [0.003, 0.05, 2.0])
def test_last_step_is_a_distribution_over_levels(std):
    """The probabilities of all levels, or of both bits, sum to 1, also when the mean is far off."""
    model = ddpm(Space("real", (1, 2, 2), levels=9))
    levels = torch.linspace(-1, 1, 9).view(9, 1, 1, 1).expand(9, 1, 2, 2)
    mean = torch.tensor([-1.0, -0.3, 0.125, 1.0]).view(1, 2, 2)
    nats = log_last(model.space, levels, mean, torch.full((1, 2, 2), std))
    assert nats.isfinite().all()
    assert torch.allclose(nats.exp().sum(0), torch.ones(1, 2, 2), atol=1e-5)
    bits = log_last(
        Space("binary", (1, 2, 2), levels=2),
        torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 2, 2),
        mean,
        torch.ones(1),
    )
    assert torch.allclose(bits.exp().sum(0), torch.ones(1, 2, 2), atol=1e-6)


@pytest.mark.parametrize("kind", ["binary", "grid"])
def test_bound_never_claims_more_than_all_probability(kind):
    """exp of the bound, summed over every x, is at most 1 whatever the network says."""
    levels = 2 if kind == "binary" else 4
    space = Space("binary", (1, 2, 2), levels=2) if kind == "binary" else Space("real", (1, 1, 3), levels=4)
    values = torch.linspace(0 if kind == "binary" else -1, 1, levels).tolist()
    every = torch.tensor(list(itertools.product(values, repeat=space.dims))).view(-1, *space.shape)
    model = ddpm(space, chain=10)
    model.initialize(Batch(every))
    torch.nn.init.normal_(model.net.net.net.head.weight, std=0.1)
    draws = torch.stack([model.log_prob(every, generator=generator(i)).nats for i in range(60)])
    assert 0 < draws.mean(0).exp().sum().item() < 1


# -- consistency ------------------------------------------------------------------------------------


def consistency(space: Space) -> Consistency:
    model = Consistency(space, width=16)
    model.initialize(Batch(STD * torch.randn(500, 3) + MEAN))
    torch.nn.init.normal_(model.net.net.net.head.weight)
    return model


def test_the_boundary_is_the_identity():
    """f(x, sigma_min) = x, whatever the network says; elsewhere it has its say."""
    assert [c.item() for c in boundary(torch.tensor(LOWEST))] == [1.0, 0.0]
    model, x = consistency(Space("real", (3,))), torch.randn(6, 3)
    assert torch.allclose(model.denoise(x, torch.full((6,), model.sigma_min)), x, atol=1e-5)
    assert not torch.allclose(model.denoise(x, torch.full((6,), 1.0)), x, atol=0.1)


class Path(Gaussian):
    """The exact consistency function of the same data."""

    def denoise(self, x: Tensor, sigma: Tensor, y: Tensor | None = None) -> Tensor:
        scale = ((STD**2 + self.sigma_min**2) / (STD**2 + sigma[:, None] ** 2)).sqrt()
        return (MEAN + scale * (x - MEAN)).to(x.dtype)


def test_one_jump_is_the_end_of_the_path():
    """The exact consistency function does in one evaluation what DDIM does in many."""
    noise = torch.randn(20, 3, generator=generator(), dtype=torch.float64)
    jump, walk = end(Multistep((80.0,)), Path(), noise), end(DDIM(2000), Gaussian(), noise)
    assert torch.allclose(jump, walk, atol=0.01)  # of first order: 0.1 at 200 steps


def test_more_jumps_keep_the_distribution():
    n = 20_000
    x = end(Multistep((80.0, 5.0, 0.5)), Path(), torch.randn(n, 3, generator=generator()))
    assert torch.allclose(x.std(0) / STD, torch.ones(3), atol=4 * (1 / (2 * n)) ** 0.5)
    assert ((x.mean(0) - MEAN) / STD).abs().max() < 4 / n**0.5


def test_discretisation_doubles_at_equal_intervals():
    model = Consistency(Space("real", (3,)), width=16, coarsest=10, finest=80)
    found = [model.objective.intervals(Progress(step, 400)) for step in range(400)]
    assert found == [10] * 100 + [20] * 100 + [40] * 100 + [80] * 100


def test_both_ends_of_an_interval_share_their_noise_and_the_lower_is_a_fixed_target(monkeypatch):
    """For f(x, sigma) = w x at x0 = 0 the loss is E|e|, its slope E|e| sigma / (sigma - sigma')."""
    model, w = Consistency(Space("real", (3,)), width=16), torch.ones((), requires_grad=True)
    monkeypatch.setattr(model.net, "estimate", lambda x, sigma, y: w * x)
    loss = model.loss(Batch(torch.zeros(20_000, 3)), Progress(0, 1)).total
    length = math.sqrt(8 / math.pi)  # E|e| in three dimensions
    assert loss.item() == pytest.approx(length, rel=0.03)  # two standard errors, and the pseudo-Huber c
    (slope,) = torch.autograd.grad(loss, w)
    assert slope > 1.2 * length  # a moving target would leave E|e|


def test_trajectory_has_as_many_states_as_steps():
    model = consistency(Space("real", (3,)))
    for steps in (1, 2, 4):
        assert len(list(model.trajectory(2, generator=generator(), steps=steps))) == steps


@pytest.mark.parametrize("family", [DDPM, Consistency])
def test_the_first_samples_do_not_depend_on_how_many_are_drawn(family):
    model = family(Space("real", (3,)), width=16)
    assert torch.equal(model.sample(5, seed=2), model.sample(70, seed=2)[:5])
    assert math.isfinite(model.sample(1).sum())


def test_what_cannot_be_sampled_is_refused():
    for family in (DDPM, Consistency):
        with pytest.raises(PangenError, match="0 steps"):
            family(Space("real", (3,)), width=16).sample(1, steps=0)
    with pytest.raises(PangenError, match="ancestral"):
        ddpm().sample(1, sampler="ancestrall")
