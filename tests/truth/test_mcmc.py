"""Samplers that follow an energy, held against laws known in closed form; and the diagnostics of chains."""

import math
from dataclasses import dataclass, replace

import pytest
import torch

from pangen.model import last
from pangen.samplers.annealing import log_z_interval, reverse_annealed_importance
from pangen.samplers.diagnostics import check_gap, effective_sample_size, mixing, r_hat
from pangen.samplers.langevin import HMC, MALA, Independence, Langevin, Tempering, gradient, leapfrog
from pangen.samplers.mcmc import annealed_importance
from pangen.samplers.tilted import FromNormal, tilted_log_z
from pangen.space import Progress

SIGMA = torch.tensor([[1.0, 0.6], [0.6, 0.8]])


class Gaussian:
    """N(0, SIGMA)."""

    def energy(self, x, y=None):
        return torch.einsum("bi,ij,bj->b", x, SIGMA.inverse().to(x), x) / 2


@dataclass(frozen=True)
class Pair:
    """Two Gaussians on a line, at -centre with weight 1/4 and at centre with weight 3/4."""

    centre: float
    std: float = 0.5

    def energy(self, x, y=None):
        at = x.new_tensor([-self.centre, self.centre])
        log_weight = x.new_tensor([0.25, 0.75]).log()
        return -(log_weight - (x - at) ** 2 / (2 * self.std**2)).logsumexp(1)

    def sample(self, n, generator):
        right = torch.rand(n, 1, generator=generator) < 0.75
        return torch.where(right, self.centre, -self.centre) + self.std * torch.randn(
            n, 1, generator=generator
        )


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


KERNELS = pytest.mark.parametrize(
    "kernel",
    [MALA(0.4, 20), HMC(0.45, 5, 8), Independence(1.3, 30), Tempering(MALA(0.4, 3), (1.0, 0.5, 0.2), 6)],
    ids=["mala", "hmc", "independence", "tempering"],
)
"""Steps so long that a third or so of the proposals is refused: without refusals the laws would be wrong."""


@KERNELS
def test_kernels_leave_a_gaussian_invariant(kernel):
    """Chains that start in the law stay in it: covariances within five standard errors."""
    n = 20000
    x = torch.randn(n, 2, generator=seeded(1)) @ torch.linalg.cholesky(SIGMA).T
    state = last(kernel(Gaussian(), x, generator=seeded()))
    assert (state.x.mean(0).abs() < 5 * (SIGMA.diagonal() / n).sqrt()).all()
    error = (
        (SIGMA**2 + SIGMA.diagonal()[:, None] * SIGMA.diagonal()) / n
    ).sqrt()  # of a Gaussian's covariance
    assert ((state.x.T @ state.x / n - SIGMA).abs() < 5 * error).all()
    assert not torch.equal(state.x, x)
    torch.testing.assert_close(state.energy, Gaussian().energy(state.x), atol=1e-4, rtol=1e-4)


@KERNELS
def test_kernels_leave_a_mixture_invariant(kernel):
    """Two modes of unequal weight, close enough that chains cross: moments within five standard errors."""
    n, pair = 20000, Pair(1.0)
    x = pair.sample(n, seeded(1))
    found = last(kernel(pair, x, generator=seeded())).x
    for power in (1, 2, 3):
        reference = pair.sample(400000, seeded(2)) ** power
        error = float(reference.std()) * math.sqrt(1 / n + 1 / 400000)
        assert float((found**power).mean()) == pytest.approx(float(reference.mean()), abs=5 * error)


@pytest.mark.parametrize("kernel", [MALA(0.4, 60), HMC(0.45, 5, 30)], ids=["mala", "hmc"])
def test_kernels_find_a_gaussian_from_afar(kernel):
    n = 5000
    x = last(kernel(Gaussian(), torch.full((n, 2), 4.0), generator=seeded())).x
    error = ((SIGMA**2 + SIGMA.diagonal()[:, None] * SIGMA.diagonal()) / n).sqrt()
    assert ((x.T @ x / n - SIGMA).abs() < 5 * error).all()


def test_unadjusted_langevin_has_its_known_bias():
    """On precision a: x' = (1 - a step) x + sqrt(2 step) e, so the variance is 1 / (a (1 - a step / 2))."""
    n, step, a = 20000, 0.4, 2.0

    class Precision:
        def energy(self, x, y=None):
            return a * x.square().sum(1) / 2

    x = last(Langevin(step, 60)(Precision(), torch.zeros(n, 1), generator=seeded())).x
    expected = 1 / (a * (1 - a * step / 2))
    assert float(x.var()) == pytest.approx(expected, rel=5 * math.sqrt(2 / n))  # five standard errors
    assert float(x.var()) > 1.2 / a  # far from the exact law


def test_leapfrog_is_reversible():
    """With the momentum turned round, the same steps lead back, to rounding."""
    x, p = torch.randn(2, 50, 2, generator=seeded(), dtype=torch.float64)

    def slope_at(at):
        return gradient(Pair3(), at)

    there = leapfrog(slope_at, x, p, slope_at(x)[1], 0.2, 12)
    back = leapfrog(slope_at, there[0], -there[1], there[3], 0.2, 12)
    torch.testing.assert_close(back[0], x, atol=1e-12, rtol=0)
    torch.testing.assert_close(-back[1], p, atol=1e-12, rtol=0)


class Pair3:
    """A smooth energy that is not quadratic."""

    def energy(self, x, y=None):
        return (x**4 / 4 + x.roll(1, 1) * x / 3).sum(1)


def test_leapfrog_is_of_second_order():
    """Half the step over the same time leaves a quarter of the energy error, up to higher orders."""
    x, p = torch.randn(2, 200, 2, generator=seeded(), dtype=torch.float64)

    def slope_at(at):
        return gradient(Pair3(), at)

    def error(step, steps):
        end = leapfrog(slope_at, x, p, slope_at(x)[1], step, steps)
        start = slope_at(x)[0] + p.square().sum(1) / 2
        return float((end[2] + end[1].square().sum(1) / 2 - start).abs().mean())

    assert error(0.02, 20) / error(0.01, 40) == pytest.approx(4, abs=0.1)
    assert error(0.01, 40) / error(0.005, 80) == pytest.approx(4, abs=0.03)


def test_tempering_visits_both_modes_where_langevin_stays_in_one():
    """Modes twelve standard deviations apart; the swaps carry chains over, in the right proportion."""
    pair, n = Pair(3.0), 400
    start = torch.full((n, 1), -3.0)
    steps = 600
    alone = last(MALA(0.3, steps)(pair, start, generator=seeded())).x
    assert (alone < 0).all()
    kernel = Tempering(MALA(0.3, 4), (1.0, 0.4, 0.15, 0.06, 0.02), steps // 4)
    x = last(kernel(pair, start, generator=seeded())).x
    share = float((x > 0).float().mean())
    assert share == pytest.approx(0.75, abs=5 * math.sqrt(0.75 * 0.25 / n))  # five standard errors


@pytest.mark.parametrize("kernel", [MALA(0.4, 5), HMC(0.4, 3, 3), Tempering(MALA(0.4), (1.0, 0.5), 3)])
def test_chains_do_not_see_each_other(kernel):
    """A chain is a function of its own start and noise."""
    x = torch.randn(6, 2, generator=seeded(1))
    other = torch.cat([x[:1], x[1:] + 1])
    a, b = (last(kernel(Gaussian(), start, generator=seeded())).x for start in (x, other))
    assert torch.equal(a[0], b[0])
    assert not torch.equal(a[1], b[1])


def test_an_energy_that_is_not_a_number_is_never_entered():
    class Wall:
        def energy(self, x, y=None):
            return torch.where(x[:, 0] > 0, x.square().sum(1) / 2, torch.nan)

    x = torch.rand(200, 1, generator=seeded())
    for state in MALA(0.5, 20)(Wall(), x, generator=seeded()):
        assert (state.x > 0).all()


def test_annealed_importance_sampling_is_unbiased_both_ways():
    """exp(-3 |u|^2 / 2) on N(0, I) in five dimensions: Z = 4^(-5/2).

    The weights have mean Z forward, and their inverses mean 1 / Z back; their logarithms lie below
    log Z forward and above it back.
    """
    path, n = FromNormal(lambda u: 1.5 * u.square().sum(1), (5,), torch.tensor(0.1)), 4000
    exact = -2.5 * math.log(4)
    forward = annealed_importance(path, n, 12, seeded()) - exact
    x = torch.randn(n, 5, generator=seeded(1)) / 2
    back = exact - reverse_annealed_importance(path, x, 12, seeded(2))
    for log_ratio in (forward, back):
        ratio = log_ratio.exp()
        assert float(ratio.mean()) == pytest.approx(1, abs=5 * float(ratio.std()) / n**0.5)
        assert float(log_ratio.mean()) < -0.05
    found = log_z_interval(path, x, 12, seeded())
    assert float(found.value) == pytest.approx(exact, abs=0.06)
    assert exact - 0.1 < float(found.low) < exact < float(found.high) < exact + 0.1


def test_chains_that_start_back_from_elsewhere_cannot_flatter():
    """Back from a corner of the model, the weights' mean is far too low; the interval keeps the truth."""
    path, n = FromNormal(lambda u: 1.5 * u.square().sum(1), (5,), torch.tensor(0.1)), 400
    exact = -2.5 * math.log(4)
    found = log_z_interval(path, torch.zeros(n, 5), 12, seeded())
    assert float(found.high) > exact
    assert float(found.low) < exact


@pytest.mark.parametrize("dims", [2, 6])
def test_class_shares_of_a_constant(dims):
    """Two classes, tilts a and b constant: Z_y = exp(-a) and exp(-b), together their sum."""
    constants = torch.tensor([0.3, -0.7])

    def tilts(u):
        return (constants + u[:, :1] * 0).expand(len(u), 2)

    path = FromNormal(lambda u: -(-tilts(u)).logsumexp(1), (dims,), torch.tensor(0.5))
    found = tilted_log_z(path, tilts, torch.randn(16, dims, generator=seeded(1)), 5, seeded())
    for end in found[:3]:
        torch.testing.assert_close(end, -constants, atol=1e-4, rtol=0)


# -- diagnostics --------------------------------------------------------------------------------


def autoregression(rho, chains=8, length=4000, seed=0):
    """Chains of x' = rho x + sqrt(1 - rho^2) e, started in their law N(0, 1)."""
    noise = torch.randn(length, chains, 1, generator=seeded(seed), dtype=torch.float64)
    states = [noise[0]]
    for e in noise[1:]:
        states.append(rho * states[-1] + math.sqrt(1 - rho**2) * e)
    return torch.stack(states, 1)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, -0.5])
def test_effective_sample_size_of_an_autoregression(rho):
    """Its autocorrelation time is (1 + rho) / (1 - rho)."""
    draws = autoregression(rho)
    expected = draws.shape[0] * draws.shape[1] * (1 - rho) / (1 + rho)
    # the estimated time has a relative standard error of about sqrt(2 M / N), M lags summed: under 5 %
    assert float(effective_sample_size(draws)) == pytest.approx(expected, rel=0.15)


def test_features_are_judged_alone():
    a, b = autoregression(0.5), autoregression(0.9, seed=1)
    both = torch.cat([a, b], 2)
    torch.testing.assert_close(effective_sample_size(both)[:1], effective_sample_size(a))
    torch.testing.assert_close(r_hat(both)[1:], r_hat(b))


def test_a_feature_that_never_moves_has_no_effective_sample():
    assert float(effective_sample_size(torch.ones(3, 50, 1))) == 0
    assert float(r_hat(torch.ones(3, 50, 1))) == 1


def test_chains_in_different_places_have_few_effective_samples():
    stuck = autoregression(0.0, length=500) + torch.arange(8.0)[:, None, None] * 3
    assert float(effective_sample_size(stuck)) < 20


@pytest.mark.parametrize(
    ("change", "mixed"),
    [
        (lambda x: x, True),
        (lambda x: x + (torch.arange(8) == 0)[:, None, None] * 2.0, False),  # one chain elsewhere
        (lambda x: x * (1 + 3 * (torch.arange(8) == 0))[:, None, None], False),  # one chain wider
        (lambda x: x + torch.linspace(0, 3, x.shape[1])[None, :, None], False),  # all of them drift
        (lambda x: (x > 0).double(), True),  # ties
    ],
    ids=["same", "shifted", "wider", "drifting", "binary"],
)
def test_r_hat_tells_mixed_chains_from_others(change, mixed):
    found = float(r_hat(change(autoregression(0.3, length=1000))))
    assert found < 1.01 if mixed else found > 1.1


def test_r_hat_does_not_change_with_a_monotone_map():
    """Ranks alone count, for the part that looks at places: the exponential's tails do no harm."""
    x = autoregression(0.3, length=1000)
    assert float(r_hat((5 * x).exp())) == pytest.approx(1, abs=0.01)


def test_mixing_reports_acceptance_and_the_worst_feature():
    x = torch.randn(8, 2, generator=seeded())
    kernel = MALA(0.4, 500)
    found = mixing(kernel(Gaussian(), x, generator=seeded()))
    taken = torch.stack([s.accepted.float() for s in kernel(Gaussian(), x, generator=seeded())]).mean()
    assert found.acceptance == pytest.approx(float(taken), abs=1e-6)
    assert 0.4 < found.acceptance < 0.95
    assert found.r_hat < 1.05
    assert 100 < found.effective_sample_size < 4000
    slow = mixing(replace(kernel, step=0.002)(Gaussian(), x, generator=seeded()))
    assert slow.effective_sample_size < found.effective_sample_size / 3
    assert slow.r_hat > 1.1


@pytest.mark.parametrize("gap", [1e9, -1e9, math.nan, math.inf])
def test_a_runaway_is_named_with_its_step(gap):
    from pangen.errors import PangenError

    check_gap(torch.tensor(-3.0), 2, Progress(4, 10))
    with pytest.raises(PangenError, match="the energy ran away at step 4"):
        check_gap(torch.tensor(gap), 2, Progress(4, 10))
