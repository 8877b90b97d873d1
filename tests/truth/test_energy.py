"""The restricted Boltzmann machine against enumeration and scikit-learn."""

import math
from itertools import product

import pytest
import torch

from pangen.families.energy.rbm import RBM
from pangen.model import last
from pangen.samplers.mcmc import binomial
from pangen.space import Batch, Progress, Space

BINARY, GRID = Space("binary", (4,), levels=2), Space("real", (3,), levels=5)
SPACES = pytest.mark.parametrize("space", [BINARY, GRID], ids=["binary", "binomial"])


def machine(space: Space, hidden: int = 5, scale: float = 1.0, **settings) -> RBM:
    """An RBM with random weights of the given scale."""
    generator = torch.Generator().manual_seed(3)
    rbm = RBM(space, width=hidden, chains=0, **settings).eval()
    with torch.no_grad():
        for parameter in rbm.parameters():
            parameter.copy_(scale / rbm.N**0.5 * torch.randn(parameter.shape, generator=generator))
    return rbm


def counts(rbm: RBM) -> torch.Tensor:
    return torch.tensor(list(product(range(rbm.N + 1), repeat=rbm.space.dims))).float()


def values(rbm: RBM) -> torch.Tensor:
    return counts(rbm) * (2 / rbm.N) - 1 if rbm.space.kind == "real" else counts(rbm)


def brute_force(rbm: RBM) -> tuple[torch.Tensor, torch.Tensor]:
    """States of h, and -E(v, h) of every pair, written as in the paper."""
    v, h = counts(rbm).double(), torch.tensor(list(product(range(2), repeat=rbm.W.shape[1]))).double()
    W, b, c = (p.detach().double() for p in (rbm.W, rbm.b, rbm.c))
    choose = torch.tensor([[math.log(math.comb(rbm.N, int(n))) for n in row] for row in v.tolist()]).double()
    return h, (v @ b)[:, None] + (h @ c)[None] + v @ W @ h.T + choose.sum(1)[:, None]


@SPACES
def test_probabilities_sum_to_one(space):
    rbm = machine(space)
    found = rbm.log_prob(values(rbm))
    assert found.kind == "exact"
    assert float(found.nats.detach().double().exp().sum()) == pytest.approx(1, abs=1e-5)  # float32 log Z


@SPACES
def test_free_energy_is_the_sum_over_hidden_states(space):
    rbm = machine(space)
    expected = -brute_force(rbm)[1].logsumexp(1)
    torch.testing.assert_close(rbm.energy(values(rbm)).double(), expected, atol=1e-5, rtol=1e-5)


@SPACES
def test_both_sides_give_the_same_partition_function(space):
    """Hidden units beyond 14 are enumerated from the visible side."""
    few = machine(space, hidden=5)
    many = machine(space, hidden=20)
    with torch.no_grad():  # fifteen hidden units that see nothing: a factor of 2 each
        for parameter in many.parameters():
            parameter.zero_()
        many.W[:, :5], many.b[:], many.c[:5] = few.W, few.b, few.c
    x = values(few)
    torch.testing.assert_close(many.log_prob(x).nats, few.log_prob(x).nats, atol=1e-4, rtol=0)
    assert many.log_prob(x).kind == "exact"


@SPACES
def test_contrastive_divergence_gradient_is_the_difference_of_moments(space):
    rbm = machine(space, k=2)
    x = values(rbm)[::3]
    torch.manual_seed(0)
    rbm.loss(Batch(x), Progress(0, 1)).total.backward()

    torch.manual_seed(0)  # the same chain again
    chain = data = rbm.counts.of(x)
    with torch.no_grad():
        for _ in range(2):
            chain = rbm.draw_v(rbm.draw_h(chain))

    def moments(v):
        h = torch.sigmoid(rbm.c + v @ rbm.W).detach()
        return v.T @ h / len(v), v.mean(0), h.mean(0)

    for parameter, on_data, on_chain in zip(
        (rbm.W, rbm.b, rbm.c), moments(data), moments(chain), strict=True
    ):
        torch.testing.assert_close(parameter.grad * rbm.N, on_chain - on_data, atol=1e-6, rtol=1e-5)


def test_likelihood_gradient_is_what_infinite_cd_estimates():
    """d log Z / d theta = -E_model[dF / d theta], the model's moments by enumeration."""
    rbm = machine(BINARY)
    x = values(rbm)
    log_z = (-rbm.energy(x)).logsumexp(0)
    by_z = torch.autograd.grad(log_z, list(rbm.parameters()))
    p = rbm.log_prob(x).nats.exp().detach()
    by_moments = torch.autograd.grad((p * rbm.energy(x)).sum(), list(rbm.parameters()))
    for a, b in zip(by_z, by_moments, strict=True):
        torch.testing.assert_close(a, -b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "space", [Space("binary", (16,), levels=2), Space("real", (16,), levels=4)], ids=["binary", "binomial"]
)
def test_annealed_importance_sampling_is_within_a_twentieth_of_a_nat(space, monkeypatch):
    rbm = machine(space, hidden=8, scale=0.6)
    exact = float(rbm._log_z_exact().detach())
    monkeypatch.setattr("pangen.families.energy.rbm.ENUMERABLE", 1)
    rbm.calibrate(torch.Generator().manual_seed(0))
    assert float(rbm.log_z) == pytest.approx(exact, abs=0.05)
    found = rbm.log_prob(torch.zeros(1, 16))
    assert found.kind == "estimate"


@SPACES
def test_gibbs_marginals_are_those_of_enumeration(space):
    rbm = machine(space)
    n = 20000
    x = last(rbm.trajectory(n, generator=torch.Generator().manual_seed(0), sweeps=60))
    p = rbm.log_prob(values(rbm)).nats.exp().detach()
    mean = p @ values(rbm)
    std = (p @ (values(rbm) - mean) ** 2).sqrt()
    assert ((x.mean(0) - mean).abs() < 5 * std / n**0.5).all()  # five standard errors
    pair = p @ (values(rbm)[:, 0] * values(rbm)[:, 1])
    assert float((x[:, 0] * x[:, 1]).mean()) == pytest.approx(float(pair), abs=5 / n**0.5)


def test_persistent_chains_move_while_training_and_only_then():
    rbm = RBM(BINARY, width=3, chains=10)
    batch = Batch(values(rbm))
    rbm.initialize(batch)
    before = rbm.chains.clone()
    rbm.eval().loss(batch, Progress(0, 1))
    assert torch.equal(rbm.chains, before)
    rbm.train().loss(batch, Progress(0, 1))
    assert not torch.equal(rbm.chains, before)


@pytest.mark.parametrize("count", [1, 5, 300])
def test_binomial_has_the_mean_and_variance_of_a_binomial(count):
    p = torch.tensor([0.0, 0.1, 0.5, 1.0]).expand(20000, 4)
    drawn = binomial(p, count, torch.Generator().manual_seed(0))
    mean, variance = count * p[0], count * p[0] * (1 - p[0])
    assert ((drawn.mean(0) - mean).abs() <= 5 * (variance / 20000).sqrt() + 1e-4 * mean).all()
    assert ((drawn.var(0) - variance).abs() <= 0.06 * variance).all()  # six standard errors: 6 sqrt(2/20000)


def test_against_scikit_learn():
    """The same weights give the same free energies and hidden probabilities."""
    np = pytest.importorskip("numpy")
    network = pytest.importorskip("sklearn.neural_network")
    rbm = machine(BINARY)
    oracle = network.BernoulliRBM(n_components=5)
    oracle.components_ = rbm.W.detach().numpy().T.astype(np.float64)
    oracle.intercept_visible_ = rbm.b.detach().numpy().astype(np.float64)
    oracle.intercept_hidden_ = rbm.c.detach().numpy().astype(np.float64)
    x = values(rbm)
    theirs = torch.tensor(oracle._free_energy(x.double().numpy()))
    torch.testing.assert_close(rbm.energy(x).double(), theirs, atol=1e-5, rtol=1e-5)
    hidden = torch.tensor(oracle.transform(x.double().numpy()))
    found = torch.sigmoid(rbm.c + x @ rbm.W)
    torch.testing.assert_close(found.double(), hidden, atol=1e-6, rtol=1e-5)
