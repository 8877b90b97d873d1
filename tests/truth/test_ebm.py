"""The deep energy-based model and the fully connected Boltzmann machine, against closed forms and enumeration."""

import math
from itertools import product

import pytest
import torch
from torch import nn

from pangen.errors import PangenError
from pangen.families.energy import boltzmann
from pangen.families.energy.boltzmann import Boltzmann
from pangen.families.energy.ebm import EBM
from pangen.likelihoods import log_normal
from pangen.model import last
from pangen.samplers.pairwise import FromIndependent
from pangen.space import Batch, Progress, Space, class_space

PLANE, LABELLED = Space("real", (2,)), Space("real", (2,), condition=class_space(2))
BITS = Space("binary", (4,), levels=2)
NOW = Progress(0, 1)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# -- the deep energy-based model ----------------------------------------------------------------


class Quadratic(nn.Module):
    """f(u) = u.A.u / 2 + b.u + c for each of `outputs` classes: every density a Gaussian."""

    def __init__(self, outputs=1):
        super().__init__()
        self.A = nn.Parameter(torch.zeros(outputs, 2, 2))
        self.b, self.c = nn.Parameter(torch.zeros(outputs, 2)), nn.Parameter(torch.zeros(outputs))

    def forward(self, u):
        return torch.einsum("bi,kij,bj->bk", u, self.A, u) / 2 + u @ self.b.T + self.c


def quadratic(space=PLANE, **settings):
    """A model whose energy is a quadratic form, and whose Gaussian is N(0, I)."""
    model = EBM(space, width=8, **settings)
    model.net = Quadratic(max(space.classes, 1))
    return model


def grid():
    """A fine lattice over the plane, and the area of its cells."""
    axis = torch.linspace(-7, 7, 401)
    return torch.cartesian_prod(axis, axis), float(axis[1] - axis[0]) ** 2


def optimise(model, batch, steps, lr):
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - step / steps)
        optimizer.zero_grad()
        model.loss(batch, Progress(step, steps)).total.backward()
        optimizer.step()


def test_density_integrates_to_one():
    """log Z from 65,536 draws of the Gaussian; its standard error here is below 0.01."""
    model = EBM(PLANE, width=16)
    model.initialize(Batch(torch.randn(500, 2) * torch.tensor([0.5, 1.5]) + 1))
    model.calibrate(seeded())
    x, area = grid()
    with torch.no_grad():
        assert float(model.log_prob(x).nats.exp().sum() * area) == pytest.approx(1, abs=0.03)


def test_class_densities_integrate_to_one_each_and_mix_to_the_marginal():
    """p(x) = sum_y p(y) p(x given y) with p(y) = Z_y / Z."""
    model = EBM(LABELLED, width=16).requires_grad_(False)
    model.calibrate(seeded())
    x, area = grid()
    p = [model.log_prob(x, torch.full((len(x),), y)).nats.exp() for y in range(2)]
    for each in p:
        assert float(each.sum() * area) == pytest.approx(1, abs=0.03)
    weight = model.log_z.softmax(0)
    assert float(weight.sum()) == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(
        weight[0] * p[0] + weight[1] * p[1], model.log_prob(x).nats.exp(), atol=1e-5, rtol=1e-4
    )
    null = torch.full((len(x),), 2)
    torch.testing.assert_close(model.energy(x, null), model.energy(x))


def test_constants_agree_whether_drawn_or_annealed(monkeypatch):
    """Tilts to Gaussians of precision P_y: Z_y = exp(-c_y) / sqrt(det P_y)."""
    model = quadratic(LABELLED, temperatures=100, chains=1000).requires_grad_(False)
    model.net.A[0] = torch.diag(torch.tensor([2.0, 0.5]))
    model.net.c[:] = torch.tensor([0.2, -0.4])
    model.step.fill_(0.3)
    exact = torch.tensor([-0.2 - math.log(3 * 1.5) / 2, 0.4])
    share = (exact - exact.logsumexp(0)).exp()
    model.calibrate(seeded())
    torch.testing.assert_close(model.log_z, exact, atol=0.02, rtol=0)
    first = torch.rand(1000, 1, generator=seeded(1)) < share[0]  # exact samples of the model
    narrow = torch.tensor([3.0, 1.5]) ** -0.5
    model.chains.copy_(torch.randn(1000, 2, generator=seeded(2)) * torch.where(first, narrow, 1.0))
    monkeypatch.setattr("pangen.samplers.tilted.FEW", 0)
    model.calibrate(seeded())
    together = float(model.log_z.logsumexp(0))  # a pessimistic end, a little above
    assert together == pytest.approx(float(exact.logsumexp(0)), abs=0.1)
    torch.testing.assert_close(model.log_z, exact, atol=0.15, rtol=0)  # and shares of 1000 samples


def test_energy_differences_are_those_of_log_probabilities():
    model = EBM(LABELLED, width=16).requires_grad_(False)
    model.initialize(Batch(3 * torch.randn(100, 2) - 1))
    model.calibrate(seeded())
    x, y = torch.randn(20, 2), torch.ones(20, dtype=torch.long)
    log_p, energy = model.log_prob(x, y).nats, model.energy(x, y)
    torch.testing.assert_close(log_p - log_p[0], energy[0] - energy, atol=1e-5, rtol=1e-5)


def test_without_a_tilt_the_model_is_the_gaussian_of_the_data():
    model = quadratic().requires_grad_(False)
    model.initialize(Batch(torch.randn(1000, 2) * 3 + 5))
    model.calibrate(seeded())
    x = torch.randn(10, 2) + 5
    torch.testing.assert_close(model.log_prob(x).nats, log_normal(x, model.m, model.s.log()))


def test_on_a_grid_the_density_is_per_cell():
    """Four levels, two pixels: cells of side 2/3, and the density at their middles."""
    model = EBM(Space("real", (1, 1, 2), levels=4), width=8).requires_grad_(False)
    model.calibrate(seeded())
    x = torch.zeros(1, 1, 1, 2)
    assert float(model.log_prob(x).nats + model.energy(x) + model.log_z) == pytest.approx(
        2 * math.log(2 / 3), abs=1e-5
    )


def test_score_matching_finds_the_precision_of_a_gaussian():
    """Noise of scale sigma is added to the data: the precision learnt is (Sigma + sigma^2 I)^-1.

    With 20,000 examples its entries have a relative standard error of about 0.01.
    """
    sigma = 0.3
    Sigma = torch.tensor([[0.5, 0.3], [0.3, 0.6]])
    model = quadratic(objective="score", sigma=sigma).train()
    x = torch.randn(20000, 2, generator=seeded()) @ torch.linalg.cholesky(Sigma).T
    optimise(model, Batch(x), 250, 0.1)
    A = model.net.A[0].detach()
    precision = torch.eye(2) + (A + A.T) / 2
    expected = (x.T @ x / len(x) + sigma**2 * torch.eye(2)).inverse()
    torch.testing.assert_close(precision, expected, atol=0.1, rtol=0)
    assert float(model.net.b.detach().abs().max()) < 0.1  # the mean is 0


def test_contrastive_training_finds_the_mean_and_precision_of_a_gaussian():
    Sigma = torch.tensor([[0.5, 0.3], [0.3, 0.6]])
    model = quadratic(chains=2000, k=3).train()
    x = torch.randn(4000, 2, generator=seeded()) @ torch.linalg.cholesky(Sigma).T + 0.4
    model.chains.normal_()
    optimise(model, Batch(x), 300, 0.05)
    A = model.net.A[0].detach()
    precision = torch.eye(2) + (A + A.T) / 2
    torch.testing.assert_close(precision, x.T.cov().inverse(), atol=0.35, rtol=0)  # 2000 chains: to about 0.1
    mean = -precision.inverse() @ model.net.b[0].detach()
    torch.testing.assert_close(mean, x.mean(0), atol=0.06, rtol=0)
    assert 0.4 < float(model.loss(Batch(x), NOW).terms["acceptance"]) < 0.75  # the step has found 0.57


@pytest.mark.parametrize("objective", ["contrastive", "score"])
def test_a_conditional_model_classifies_as_bayes_does(objective):
    """Classes N((1, 0), I / 2) and N((-1, 0), I / 2), weights 3/4 and 1/4: log odds 4 x + log 3.

    Its classifier is a linear map of x here, learnt from 4,000 examples: log odds to a few tenths.
    """
    model = quadratic(LABELLED, objective=objective, chains=1000, k=2, sigma=0.05).train()
    y = (torch.rand(4000, generator=seeded()) < 0.25).long()
    x = torch.randn(4000, 2, generator=seeded(1)) / 2**0.5
    x[:, 0] += 1 - 2.0 * y
    model.chains.normal_()
    optimise(model, Batch(x, y), 300, 0.05)
    at = torch.tensor([[-0.8, 0.0], [-0.3, 0.7], [0.0, -0.7], [0.4, 0.3]])
    log_p = model.classify(at).detach()
    odds = log_p[:, 0] - log_p[:, 1]
    torch.testing.assert_close(odds, 4 * at[:, 0] + math.log(3), atol=0.6, rtol=0)


def test_samples_follow_the_energy():
    """Two far Gaussians of weights 3/4 and 1/4, by class and without: from noise, in the right shares."""
    model = quadratic(LABELLED, sweeps=300).requires_grad_(False)
    centres = torch.tensor([[-1.5, 0.0], [1.5, 0.0]])
    model.net.A[:] = 24 * torch.eye(2)  # precision 25, standard deviation 0.2
    model.net.b[:] = -25 * centres
    model.net.c[:] = 25 * centres.square().sum(1) / 2 - torch.tensor([0.75, 0.25]).log()
    model.step.fill_(0.04)
    n = 1500
    x = last(model.trajectory(n, generator=seeded()))
    right = x[:, 0] > 0
    assert float(right.float().mean()) == pytest.approx(0.25, abs=5 * math.sqrt(0.25 * 0.75 / n))
    assert float(x[right].std(0).mean()) == pytest.approx(0.2, rel=5 / math.sqrt(2 * int(right.sum())))
    given = last(model.trajectory(n, torch.ones(n, dtype=torch.long), generator=seeded()))
    assert (given.mean(0) - centres[1]).abs().max() < 5 * 0.2 / n**0.5


def test_a_far_too_large_rate_ends_in_one_sentence():
    model = quadratic(chains=64).train()
    with pytest.raises(PangenError, match=r"the energy ran away at step \d+"):
        optimise(model, Batch(5 * torch.randn(64, 2)), 20, lr=1e4)


@pytest.mark.parametrize("family", [EBM, Boltzmann])
def test_spaces_that_do_not_fit_are_refused(family):
    with pytest.raises(PangenError, match="needs"):
        family(Space("tokens", (4,), levels=3))


# -- the Boltzmann machine ----------------------------------------------------------------------


def machine(hidden=3, scale=1.0, space=BITS, **settings):
    """A machine with random weights."""
    model = Boltzmann(space, hidden=hidden, chains=50, **settings).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=seeded(5)))
    model.calibrate(seeded())
    return model


def every(units):
    return torch.tensor(list(product((0.0, 1.0), repeat=units)))


def brute_force(model):
    """All states of all units, and their probabilities, pair by pair as in the paper."""
    s = every(model.units).double()
    score = s @ model.b.detach().double()
    pair = 0
    for i in range(model.units):
        for j in range(i + 1, model.units):
            score += float(model.w[pair].detach()) * s[:, i] * s[:, j]
            pair += 1
    return s, score.softmax(0), float(score.logsumexp(0))


@pytest.mark.parametrize("units", [4, 11, 13])
def test_sums_over_all_states_are_brute_force(units):
    """Also where more units are summed than fit one block."""
    model = machine(hidden=units - 4)
    assert float(model.log_z) == pytest.approx(brute_force(model)[2], abs=1e-4)


def test_probabilities_sum_to_one_and_are_marginals_of_brute_force():
    model = machine()
    found = model.log_prob(every(4))
    assert found.kind == "exact"
    assert float(found.nats.detach().double().exp().sum()) == pytest.approx(1, abs=1e-5)
    s, p, _ = brute_force(model)
    for v, nats in zip(every(4), found.nats.tolist(), strict=True):
        assert nats == pytest.approx(float(p[(s[:, :4] == v).all(1)].sum().log()), abs=1e-5)


def test_gradient_of_the_likelihood_is_the_difference_of_moments():
    """<s_i s_j> clamped to data less <s_i s_j> free (Ackley et al. 1985, Eq. 8), both by brute force."""
    model = machine()
    x = every(4)[[1, 5, 5, 14]]
    model.loss(Batch(x), NOW).total.backward()
    s, p, _ = brute_force(model)

    def moments(weight):
        second = torch.einsum("n,ni,nj->ij", weight, s, s)
        return second[model.pairs[0], model.pairs[1]].float(), second.diagonal().float()

    clamped = torch.zeros_like(p)
    for v in x:
        here = p * (s[:, :4] == v).all(1)
        clamped += here / here.sum() / len(x)
    for parameter, free, data in zip((model.w, model.b), moments(p), moments(clamped), strict=True):
        torch.testing.assert_close(parameter.grad, free - data, atol=1e-5, rtol=1e-4)


def test_persistent_gradient_is_the_difference_of_moments_of_data_and_chains():
    model = machine(exact=0)
    model.chains.copy_(torch.bernoulli(torch.full_like(model.chains, 0.5)))
    torch.manual_seed(3)
    model.train().loss(Batch(every(4)), NOW).total.backward()
    chain = model.chains
    by_chain = torch.einsum("ni,nj->ij", chain, chain) / len(chain)
    data = torch.autograd.grad(model.energy(every(4)).mean(), model.w)[0]
    expected = data + by_chain[model.pairs[0], model.pairs[1]]
    torch.testing.assert_close(model.w.grad, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("sweeps", [None, 60], ids=["exact", "gibbs"])
def test_samples_have_the_marginals_of_enumeration(sweeps):
    model, n = machine(), 20000
    x = last(model.trajectory(n, generator=seeded(), sweeps=sweeps))
    p = model.log_prob(every(4)).nats.exp().detach()
    index = (x @ torch.tensor([8.0, 4.0, 2.0, 1.0])).long()
    share = torch.bincount(index, minlength=16) / n
    assert ((share - p).abs() < 5 * (p * (1 - p) / n).sqrt() + 1e-4).all()  # five standard errors


def test_mean_field_bounds_the_likelihood_from_below(monkeypatch):
    """And is within a tenth of a nat where the hidden units are weakly coupled."""
    model = machine(scale=0.4)
    exact = model.log_prob(every(4)).nats
    monkeypatch.setattr(boltzmann, "FEW", 2)
    bound = model.log_prob(every(4))
    assert bound.kind == "lower bound"
    assert (bound.nats <= exact + 1e-6).all()
    assert (exact - bound.nats < 0.1).all()


def test_annealed_importance_sampling_is_close_and_never_flatters_much(monkeypatch):
    model = machine(hidden=8, space=Space("binary", (10,), levels=2), scale=0.5, weights=100)
    exact = float(model.log_z)
    monkeypatch.setattr(boltzmann, "ENUMERABLE", 4)
    model.calibrate(seeded())
    assert float(model.log_z) == pytest.approx(exact, abs=0.05)
    assert model.log_prob(torch.zeros(1, 10)).kind == "estimate"
    model.calibrate(seeded(), thorough=False)  # one-sided, a fifth of the temperatures
    assert float(model.log_z) == pytest.approx(exact, abs=0.2)


def test_the_path_of_annealing_ends_in_the_model_and_starts_at_its_own_constant():
    model = machine()
    path = FromIndependent(model.joint(), torch.randn(7, generator=seeded()))
    s = every(7)
    start = (s @ path.base).logsumexp(0)
    torch.testing.assert_close(path.log_z0, start)
    torch.testing.assert_close(
        path.log_ratio(s, 0.0, 1.0) + s @ path.base, -model.joint().energy(s), atol=1e-5, rtol=1e-5
    )
