"""The restricted Boltzmann machine against enumeration, quadrature and scikit-learn."""

import math
from itertools import product

import pytest
import torch

from pangen.errors import PangenError
from pangen.families.energy.rbm import RBM
from pangen.model import last
from pangen.samplers.annealing import tempered_walk
from pangen.samplers.layered import FromBaseRates
from pangen.samplers.layered import product as rounded_product
from pangen.samplers.mcmc import binomial
from pangen.space import Batch, Progress, Space, class_space

BINARY, GRID = Space("binary", (4,), levels=2), Space("real", (3,), levels=5)
TOKENS, LABELLED = (
    Space("tokens", (3,), levels=3),
    Space("binary", (4,), levels=2, condition=class_space(3)),
)
SPACES = pytest.mark.parametrize(
    "space", [BINARY, GRID, TOKENS, LABELLED], ids=["bits", "binomial", "categorical", "labelled"]
)


def machine(space: Space, hidden: int = 5, scale: float = 1.0, **settings) -> RBM:
    """An RBM with random weights of the given scale."""
    generator = torch.Generator().manual_seed(3)
    rbm = RBM(space, **{"width": hidden, "chains": 0, **settings}).eval()
    with torch.no_grad():
        for tensor in (rbm.W, rbm.b, rbm.c, rbm.b_base):
            noise = torch.randn(tensor.shape, generator=generator)
            tensor.copy_(scale / rbm.visible.parts[0].scale ** 0.5 * noise)
    rbm.calibrate(torch.Generator().manual_seed(0), thorough=False)
    return rbm


def every(rbm: RBM) -> tuple[torch.Tensor, torch.Tensor | None]:
    """All examples, each with every class where there are classes."""
    space = rbm.space
    levels = {"binary": 2}.get(space.kind, space.levels)
    rows = torch.tensor(list(product(range(levels), repeat=space.dims)))
    if space.kind == "real":
        rows = rows * (2 / (levels - 1)) - 1
    rows = rows if space.kind == "tokens" else rows.float()
    if not space.classes:
        return rows, None
    return rows.repeat_interleave(space.classes, 0), torch.arange(space.classes).repeat(len(rows))


def brute_force(rbm: RBM) -> torch.Tensor:
    """-E(v, y, h) of every example, class and hidden state, written as in the papers."""
    x, y = every(rbm)
    h = torch.tensor(list(product(range(2), repeat=rbm.W.shape[1]))).double()
    W, b, c = (p.detach().double() for p in (rbm.W, rbm.b, rbm.c))
    base = torch.zeros(len(x)).double()
    match rbm.space.kind:
        case "tokens":
            t = torch.nn.functional.one_hot(x, rbm.space.levels).flatten(1).double()
        case "real":
            t = ((x + 1) * (rbm.space.levels - 1) / 2).round().double()
            choose = [
                sum(math.log(math.comb(rbm.space.levels - 1, int(n))) for n in row) for row in t.tolist()
            ]
            base = torch.tensor(choose).double()
        case _:
            t = x.double()
    if y is not None:
        t = torch.cat([t, torch.nn.functional.one_hot(y, rbm.space.classes)], 1).double()
    return (t @ b)[:, None] + (h @ c)[None] + t @ W @ h.T + base[:, None]


@SPACES
def test_probabilities_sum_to_one(space):
    """In each class, and without a class too."""
    rbm = machine(space)
    x, y = every(rbm)
    found = rbm.log_prob(x, y)
    assert found.kind == "exact"
    assert float(found.nats.detach().double().exp().sum()) == pytest.approx(max(space.classes, 1), abs=1e-5)
    alone = rbm.log_prob(x).nats.detach().double().exp().sum() / max(space.classes, 1)
    assert float(alone) == pytest.approx(1, abs=1e-5)  # float32 log Z


@SPACES
def test_free_energy_is_the_sum_over_hidden_states(space):
    rbm = machine(space)
    expected = -brute_force(rbm).logsumexp(1)
    torch.testing.assert_close(rbm.energy(*every(rbm)).double(), expected, atol=1e-5, rtol=1e-5)


def test_the_class_is_known_exactly():
    """p(y given x) of the joint enumeration; and a null class is no class."""
    rbm = machine(LABELLED)
    x, y = every(rbm)
    joint = brute_force(rbm).logsumexp(1).view(-1, 3)
    torch.testing.assert_close(
        rbm.classify(x[::3]).double(), joint.log_softmax(1).double(), atol=1e-5, rtol=1e-5
    )
    for of in (rbm.energy, lambda x, y=None: rbm.log_prob(x, y).nats):
        torch.testing.assert_close(of(x, torch.full_like(y, 3)), of(x), atol=1e-6, rtol=0)


@SPACES
def test_both_sides_give_the_same_partition_function(space):
    """Hidden units beyond 16 are enumerated from the visible side."""
    few, many = machine(space, hidden=5), machine(space, hidden=20)
    with torch.no_grad():  # fifteen hidden units that see nothing: a factor of 2 each
        for parameter in (many.W, many.b, many.c):
            parameter.zero_()
        many.W[:, :5], many.b[:], many.c[:5] = few.W, few.b, few.c
    many.calibrate(torch.Generator())
    a, b = many.log_prob(*every(few)), few.log_prob(*every(few))
    torch.testing.assert_close(a.nats, b.nats, atol=1e-4, rtol=0)
    assert a.kind == "exact"


def test_gaussian_units_integrate_to_one():
    """By quadrature over the plane; noise of its own in each dimension."""
    rbm = machine(Space("real", (2,)), hidden=4, scale=0.7)
    with torch.no_grad():
        rbm.visible.parts[0].log_s.copy_(torch.tensor([-0.3, 0.4]))
    line = torch.linspace(-25, 25, 1001)
    x = torch.cartesian_prod(line, line)
    mass = rbm.log_prob(x).nats.detach().double().exp().sum() * (line[1] - line[0]).double() ** 2
    assert float(mass) == pytest.approx(1, abs=1e-4)  # float32 energies of some tens of nats


def test_gaussian_units_learn_their_noise():
    """The slope of their scale is that of -log p(x), by automatic differentiation."""
    rbm = machine(Space("real", (2,)), hidden=4, scale=0.5)
    x, (units,) = torch.randn(50, 2, generator=torch.Generator().manual_seed(0)), rbm.visible.parts
    (expected,) = torch.autograd.grad(-rbm.log_prob(x).nats.mean(), units.log_s)
    (found,) = torch.autograd.grad(rbm.loss(Batch(x), Progress(0, 1)).total, units.log_s)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("centering", [False, True])
@SPACES
def test_gradient_is_the_difference_of_moments(space, centering):
    """Of the data and of what the chains are after their sweeps, about the centres if there are any."""
    rbm = machine(space, k=2, chains=7, centering=centering)
    x, y = every(rbm)
    rbm.initialize(Batch(x, y))
    batch = Batch(x[::3], None if y is None else y[::3])
    rbm.train().loss(batch, Progress(0, 1)).total.backward()
    t, s = rbm.visible.of(*batch), rbm.chains[0, :, : len(rbm.b)]
    mu, lam = rbm.mu, rbm.lam if centering else torch.zeros(5)
    assert bool(mu.any()) == centering
    h, q = (torch.sigmoid(rbm.c + v @ rbm.W).detach() for v in (t, s))
    lam = 0.5 * torch.ones(5) if centering else lam  # before the step moved it
    W = (s - mu).T @ (q - lam) / len(s) - (t - mu).T @ (h - lam) / len(t)
    b, c = s.mean(0) - t.mean(0) - W @ lam, q.mean(0) - h.mean(0) - W.T @ mu
    for parameter, expected in zip((rbm.W, rbm.b, rbm.c), (W, b, c), strict=True):
        scale = rbm.visible.parts[0].scale
        torch.testing.assert_close(parameter.grad * scale, expected, atol=1e-6, rtol=1e-5)


def test_centred_direction_is_the_gradient_of_the_centred_machine():
    """Written with (v - mu) and (h - lam), the machine has the same law and these slopes, W's among them."""
    rbm = machine(BINARY)
    x = every(rbm)[0]
    rbm.initialize(Batch(x[:5]))
    mu, lam, law = rbm.mu, rbm.lam, rbm.joint()
    W, b, c = (
        p.detach().clone().requires_grad_() for p in (rbm.W, rbm.b + rbm.W @ lam, rbm.c + rbm.W.T @ mu)
    )

    def free(v):
        return (
            -(v - mu) @ b
            + c.sum() * 0
            + lam @ c
            - torch.nn.functional.softplus(c + (v - mu) @ W).sum(1)
            + ((v - mu) @ W) @ lam
        )

    data, model = x[:5], x[7:]
    slopes = torch.autograd.grad(free(data).mean() - free(model).mean(), (W, b, c))
    layers = [[v, torch.sigmoid(rbm.c + v @ rbm.W).detach()] for v in (data, model)]
    (dW,), (db, dc) = law.slopes(*layers, [mu, lam])
    torch.testing.assert_close(slopes[0], dW, atol=1e-6, rtol=1e-5)
    # b' = b + W lam, so moving (W, b') along their slopes moves b by db' - dW lam; c the same
    torch.testing.assert_close(slopes[1] - slopes[0] @ lam, db, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(slopes[2] - slopes[0].T @ mu, dc, atol=1e-6, rtol=1e-5)


def test_likelihood_gradient_is_what_infinite_cd_estimates():
    """d log Z / d theta = -E_model[dF / d theta], the model's moments by enumeration."""
    rbm = machine(BINARY)
    x, parameters = every(rbm)[0], (rbm.W, rbm.b, rbm.c)
    log_z = (-rbm.energy(x)).logsumexp(0)
    by_z = torch.autograd.grad(log_z, parameters)
    p = rbm.log_prob(x).nats.exp().detach()
    by_moments = torch.autograd.grad((p * rbm.energy(x)).sum(), parameters)
    for a, b in zip(by_z, by_moments, strict=True):
        torch.testing.assert_close(a, -b, atol=1e-5, rtol=1e-5)


def test_sparsity_moves_the_biases_towards_its_share():
    torch.manual_seed(0)
    plain, sparse = (machine(BINARY, chains=0, sparsity=s, sparsity_cost=2.0) for s in (0.0, 0.1))
    x = every(plain)[0]
    grads = []
    for rbm in (plain, sparse):
        torch.manual_seed(1)
        rbm.loss(Batch(x), Progress(0, 1)).total.backward()
        grads.append(rbm.c.grad)
    active = torch.sigmoid(plain.c + x @ plain.W).mean(0)
    torch.testing.assert_close(grads[1] - grads[0], 2.0 * (active - 0.1))
    torch.testing.assert_close(plain.W.grad, sparse.W.grad)


@pytest.mark.parametrize("seed", range(20))
def test_annealing_finds_log_z_of_random_machines(seed, covered):
    """Within 0.05 nat each, and the interval holds it; checked below for all of them."""
    torch.manual_seed(seed)
    rbm = RBM(Space("binary", (16,), levels=2), width=8, chains=0, sweeps=200).eval()
    with torch.no_grad():
        for tensor in (rbm.W, rbm.b, rbm.c, rbm.b_base):
            tensor.copy_(0.6 * torch.randn(tensor.shape))
    exact = rbm.partition(torch.Generator())
    assert exact.method == "exact"
    found = rbm.partition(torch.Generator().manual_seed(seed), "ais", 200)
    assert found.method == "ais"
    assert float(found.value) == pytest.approx(float(exact.value.detach()), abs=0.05)
    covered.append(bool(found.low <= exact.value) and bool(exact.value <= found.high))


@pytest.fixture(scope="module")
def covered():
    """Whether each interval held the truth; an honest one of two standard errors misses now and then."""
    found: list[bool] = []
    yield found
    assert sum(found) >= 0.9 * len(found)


def test_annealing_by_class_finds_each_sum():
    rbm = machine(LABELLED, scale=0.7, sweeps=100)
    exact = rbm.partition(torch.Generator())
    found = rbm.partition(torch.Generator().manual_seed(0), "ais", 600)
    torch.testing.assert_close(found.value, exact.value.detach(), atol=0.05, rtol=0)
    assert (found.low <= found.value).all()
    assert (found.value <= found.high).all()


@pytest.mark.parametrize("space", [TOKENS, Space("real", (3,))], ids=["categorical", "gaussian"])
def test_annealing_works_for_other_units(space):
    rbm = machine(space, scale=0.6, sweeps=100)
    exact, found = (
        rbm.partition(torch.Generator()),
        rbm.partition(torch.Generator().manual_seed(1), "ais", 400),
    )
    assert float(found.value) == pytest.approx(float(exact.value.detach()), abs=0.05)


@SPACES
def test_gibbs_marginals_are_those_of_enumeration(space):
    rbm = machine(space)
    x, y = every(rbm)
    y = None if y is None else y * 0 + 1
    p = rbm.log_prob(x, y).nats.exp().detach() / max(space.classes, 1)
    n = 20000
    given = None if y is None else torch.ones(n, dtype=torch.long)
    found = last(rbm.trajectory(n, given, generator=torch.Generator().manual_seed(0), sweeps=60)).float()
    x = x.float()
    mean = p @ x
    std = (p @ (x - mean) ** 2).sqrt()
    assert ((found.mean(0) - mean).abs() < 5 * std / n**0.5).all()  # five standard errors
    pair = p @ (x[:, 0] * x[:, 1])
    spread = (p @ (x[:, 0] * x[:, 1] - pair) ** 2).sqrt()
    assert float((found[:, 0] * found[:, 1]).mean()) == pytest.approx(
        float(pair), abs=5 * float(spread) / n**0.5
    )


def test_a_class_that_is_not_given_is_drawn():
    """As often as the model has it."""
    rbm = machine(LABELLED)
    rbm.calibrate(torch.Generator())
    n = 20000
    x = last(rbm.trajectory(n, torch.full((n,), 3), generator=torch.Generator().manual_seed(0), sweeps=60))
    every_x = every(rbm)[0][::3]
    mean = rbm.log_prob(every_x).nats.exp().detach() @ every_x
    assert ((x.mean(0) - mean).abs() < 5 * 0.5 / n**0.5).all()  # a bit's deviation is at most 1/2


def test_tempering_visits_both_modes_where_gibbs_stays_in_one():
    """Two visible patterns, equally likely, with a wall of some nats between them."""
    rbm = RBM(Space("binary", (12,), levels=2), width=6, chains=0).eval()
    with torch.no_grad():
        rbm.W.fill_(1.8)  # all on or all off
        rbm.b.fill_(-rbm.W[0].sum() / 2)
        rbm.c.fill_(-rbm.W[:, 0].sum() / 2)
    path, n, betas = FromBaseRates(rbm.joint(), torch.zeros(12)), 200, [1.0, 0.75, 0.5, 0.25, 0.0]
    off = torch.zeros(n, 18)

    def generator():
        return torch.Generator().manual_seed(0)

    alone = off
    for _ in range(300):
        alone = path.move(alone, 1.0, generator())
    assert float(alone[:, :12].mean()) < 0.05
    x = last(
        tempered_walk(path, off.expand(5, -1, -1), betas, 300, generator=torch.Generator().manual_seed(0))
    )
    share = float((x[0, :, :12].mean(1) > 0.5).float().mean())
    assert share == pytest.approx(0.5, abs=5 * 0.5 / n**0.5)  # five standard errors


def test_tempering_leaves_every_law_invariant():
    """The chain at each temperature keeps the marginals of its own law, by enumeration at beta = 1."""
    rbm = machine(BINARY)
    rbm.b_base.copy_(torch.tensor([1.0, -1.0, 0.5, 0.0]))
    path, n, betas = FromBaseRates(rbm.joint(), rbm.b_base), 20000, [1.0, 0.5, 0.0]
    start = path.start(3 * n, torch.Generator().manual_seed(1)).view(3, n, -1)
    x = last(tempered_walk(path, start, betas, 40, torch.Generator().manual_seed(0)))[..., :4]
    v = every(rbm)[0]
    p = rbm.log_prob(v).nats.exp().detach()
    for found, expected in ((x[0].mean(0), p @ v), (x[2].mean(0), rbm.b_base.sigmoid())):
        assert ((found - expected).abs() < 5 * 0.5 / n**0.5).all()  # five standard errors of a bit


def test_replicas_need_chains():
    with pytest.raises(PangenError, match="raise chains"):
        RBM(BINARY, replicas=3, chains=0)


@pytest.mark.parametrize("replicas", [1, 3])
def test_persistent_chains_move_while_training_and_only_then(replicas):
    rbm = RBM(BINARY, width=3, chains=10, replicas=replicas)
    batch = Batch(every(rbm)[0])
    rbm.initialize(batch)
    before = rbm.chains.clone()
    rbm.eval().loss(batch, Progress(0, 1))
    assert torch.equal(rbm.chains, before)
    rbm.train().loss(batch, Progress(0, 1))
    assert not torch.equal(rbm.chains, before)


def test_rounded_products_are_near():
    """Bits are exact in bfloat16, weights to one part in 256; means of many stay well within that."""
    generator = torch.Generator().manual_seed(0)
    v = (torch.rand(50, 300, generator=generator) < 0.3).float()
    W = torch.randn(300, 40, generator=generator)
    found = rounded_product(v, W, torch.bfloat16)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, v @ W, atol=0.15, rtol=2**-7)
    assert torch.equal(rounded_product(v, W, None), v @ W)


@pytest.mark.parametrize("count", [1, 5, 300])
def test_binomial_has_the_mean_and_variance_of_a_binomial(count):
    p = torch.tensor([0.0, 0.1, 0.5, 1.0]).expand(20000, 4)
    drawn = binomial(p, count, torch.Generator().manual_seed(0))
    mean, variance = count * p[0], count * p[0] * (1 - p[0])
    assert ((drawn.mean(0) - mean).abs() <= 5 * (variance / 20000).sqrt() + 1e-4 * mean).all()
    assert ((drawn.var(0) - variance).abs() <= 0.06 * variance).all()  # six standard errors: 6 sqrt(2/20000)


def test_against_scikit_learn():
    """The same weights give the same free energies, hidden probabilities and Gibbs statistics."""
    np = pytest.importorskip("numpy")
    network = pytest.importorskip("sklearn.neural_network")
    rbm = machine(BINARY)
    oracle = network.BernoulliRBM(n_components=5)
    oracle.components_ = rbm.W.detach().numpy().T.astype(np.float64)
    oracle.intercept_visible_ = rbm.b.detach().numpy().astype(np.float64)
    oracle.intercept_hidden_ = rbm.c.detach().numpy().astype(np.float64)
    oracle.random_state_ = oracle.random_state = np.random.RandomState(0)
    x = every(rbm)[0]
    theirs = torch.tensor(oracle._free_energy(x.double().numpy()))
    torch.testing.assert_close(rbm.energy(x).double(), theirs, atol=1e-5, rtol=1e-5)
    hidden = torch.tensor(oracle.transform(x.double().numpy()))
    found = torch.sigmoid(rbm.c + x @ rbm.W)
    torch.testing.assert_close(found.double(), hidden, atol=1e-6, rtol=1e-5)
    # score_samples is a random choice of one flipped bit: log sigmoid(F(flipped) - F), times the bits
    flipped = x.clone()
    scores = oracle.score_samples(x.double().numpy())
    options = []
    for i in range(4):
        flipped = x.clone()
        flipped[:, i] = 1 - flipped[:, i]
        options.append(4 * torch.nn.functional.logsigmoid(rbm.energy(flipped) - rbm.energy(x)))
    gap = (torch.stack(options).detach().double() - torch.tensor(scores)).abs().amin(0)
    assert float(gap.max()) < 1e-4
    n = 20000
    theirs = np.zeros((n, 4))
    for _ in range(30):
        theirs = oracle.gibbs(theirs)
    ours = last(rbm.trajectory(n, generator=torch.Generator().manual_seed(0), sweeps=30))
    error = 5 * (2 * 0.25 / n) ** 0.5  # five standard errors of a difference of means of bits
    assert (ours.mean(0) - torch.tensor(theirs).float().mean(0)).abs().max() < error
