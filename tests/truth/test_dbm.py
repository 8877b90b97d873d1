"""The deep Boltzmann machine against enumeration of all its units."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from pangen.families.energy.dbm import DBM
from pangen.families.energy.rbm import RBM
from pangen.space import Batch, Progress, Space

BINARY, GRID = Space("binary", (6,), levels=2), Space("real", (3,), levels=4)
MACHINES = pytest.mark.parametrize(
    ("space", "hidden"), [(BINARY, (4,)), (BINARY, (4, 3)), (BINARY, (4, 3, 2)), (GRID, (3, 4, 2))], ids=str
)


def machine(space: Space, hidden: tuple[int, ...], scale: float = 0.8, **settings) -> DBM:
    dbm = DBM(space, hidden=hidden, chains=16, **settings).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(3)
    for tensor in (*dbm.parameters(), dbm.b_base):
        tensor.copy_(scale * torch.randn(tensor.shape, generator=generator))
    return dbm


def states(units: int, values: int) -> torch.Tensor:
    return torch.tensor(list(product(range(values), repeat=units))).float()


def exact(dbm: DBM) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Every example, log p of each, and log Z, all units summed."""
    v = states(dbm.space.dims, dbm.visible.N + 1)
    hidden = [len(b) for b in dbm.b[1:]]
    h = states(sum(hidden), 2).split(hidden, 1)
    scores = torch.stack([(-dbm.joint().energy([row.expand(len(h[0]), -1), *h])).logsumexp(0) for row in v])
    scores = scores + dbm.visible.log_base(v)
    log_z = scores.logsumexp(0)
    return dbm.visible.values(v), scores - log_z, log_z


@MACHINES
def test_annealing_finds_the_partition_function_and_takes_the_pessimistic_end(space, hidden):
    dbm = machine(space, hidden, weights=500)
    _, _, log_z = exact(dbm)
    dbm.calibrate(torch.Generator().manual_seed(0))
    assert float(dbm.log_z) == pytest.approx(float(log_z), abs=0.05)


@MACHINES
def test_mean_field_bound_is_below_the_exact_likelihood_and_near_it(space, hidden):
    """With weak ties the posterior almost factorises: within 0.1 nat; with one layer it does."""
    dbm = machine(space, hidden, scale=0.5, mean_field=30)
    x, log_p, log_z = exact(dbm)
    dbm.log_z.copy_(log_z)
    gap = log_p - dbm.log_prob(x).nats
    assert float(gap.min()) > -1e-4  # float32
    assert float(gap.max()) < 0.1
    if len(hidden) == 1:
        assert float(gap.max()) < 1e-4


@MACHINES
def test_gibbs_moments_are_those_of_enumeration(space, hidden):
    dbm = machine(space, hidden)
    x, log_p, _ = exact(dbm)
    n = 4000
    dbm.chunk = n
    samples = dbm.sample(n, sweeps=100)
    p = log_p.exp()
    mean = p @ x
    std = (p @ (x - mean) ** 2).sqrt()
    assert ((samples.mean(0) - mean).abs() < 5 * std / n**0.5).all()  # five standard errors


@pytest.mark.parametrize("centering", [False, True])
def test_gradient_is_the_difference_of_moments(centering):
    """After the layer-wise start: data's mean field less the chains, about the centres if there are any."""
    dbm = machine(BINARY, (4, 3), pretrain=0.0, centering=centering).requires_grad_(True).train()
    x = states(6, 2)[::5]
    dbm.initialize(Batch(x))
    data, o = (
        dbm.joint().mean_field(x, dbm.mean_field),
        [c[0] for c in dbm.path().layers(dbm.centres[None].clone())],
    )
    dbm.loss(Batch(x), Progress(9, 10)).total.backward()
    chain = dbm.path().layers(dbm.chains)  # where the step left them
    assert bool(dbm.centres.any()) == centering
    slopes = []
    for i, W in enumerate(dbm.W):
        on_data, on_chain = ((h[i] - o[i]).T @ (h[i + 1] - o[i + 1]) / len(h[i]) for h in (data, chain))
        slopes.append(on_chain - on_data)
        torch.testing.assert_close(W.grad, slopes[-1], atol=1e-6, rtol=1e-5)
    middle = chain[1].mean(0) - data[1].mean(0) - slopes[0].T @ o[0] - slopes[1] @ o[2]
    torch.testing.assert_close(dbm.b[1].grad, middle, atol=1e-6, rtol=1e-5)


def test_layers_are_trained_bottom_first():
    """In the first half of the layer-wise start only the first pair has a gradient, then the second."""
    dbm = machine(BINARY, (4, 3), pretrain=1.0).requires_grad_(True)
    for step, (moving, still) in {0: (0, 1), 9: (1, 0)}.items():
        dbm.zero_grad(set_to_none=True)
        dbm.loss(Batch(states(6, 2)), Progress(step, 10)).total.backward()
        assert dbm.W[moving].grad is not None
        assert dbm.W[still].grad is None


def test_layerwise_start_of_one_layer_is_contrastive_divergence():
    """With no layer above, nothing is doubled: the gradient is that of the restricted machine."""
    dbm = machine(BINARY, (5,), pretrain=1.0).requires_grad_(True)
    rbm = RBM(BINARY, width=5, chains=0, centering=False).eval()
    with torch.no_grad():
        for mine, theirs in zip((rbm.W, rbm.b, rbm.c), (dbm.W[0], dbm.b[0], dbm.b[1]), strict=True):
            mine.copy_(theirs)
    grads = []
    for model, W in ((dbm, dbm.W[0]), (rbm, rbm.W)):
        torch.manual_seed(0)  # the same chains
        model.loss(Batch(states(6, 2)), Progress(0, 10)).total.backward()
        grads.append(W.grad)
    torch.testing.assert_close(*grads, atol=1e-6, rtol=1e-5)


def test_one_hidden_layer_is_the_restricted_boltzmann_machine():
    dbm = machine(BINARY, (5,))
    rbm = RBM(BINARY, width=5, chains=0).eval()
    with torch.no_grad():
        rbm.W.copy_(dbm.W[0])
        rbm.b.copy_(dbm.b[0])
        rbm.c.copy_(dbm.b[1])
    rbm.calibrate(torch.Generator())
    x, log_p, _ = exact(dbm)
    torch.testing.assert_close(rbm.log_prob(x).nats.detach(), log_p, atol=1e-4, rtol=0)
