"""The hierarchical autoencoder against sums by hand, quadrature, and the autoencoder with one code."""

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from pangen.families.latent.hvae import HVAE
from pangen.families.latent.ladder import Step
from pangen.families.latent.vae import VAE
from pangen.likelihoods import Normal, log_normal
from pangen.space import Batch, Progress, Space, class_space

BITS = Space("binary", (3,), levels=2)
IMAGE = Space("binary", (2, 17, 16), levels=2, condition=class_space(3))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def lively(model: HVAE, scale: float = 0.4) -> HVAE:
    """Every parameter away from its start, where priors and posteriors are all standard."""
    draws = generator(5)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(scale / math.sqrt(p[0].numel()) * torch.randn(p.shape, generator=draws))
    return model.double().eval().requires_grad_(False)


def vectors() -> HVAE:
    torch.manual_seed(0)
    return lively(HVAE(BITS, latent=1, groups=(2,), width=16), 0.15)


def maps() -> HVAE:
    torch.manual_seed(0)
    return lively(HVAE(IMAGE, latent=3, channels=2, groups=(2, 1), width=32))


def nats(q: Normal, z: Tensor) -> Tensor:
    """Of each dimension, by torch's own normal distribution."""
    return torch.distributions.Normal(q.mean, q.log_scale.exp()).log_prob(z)


def by_hand(model: HVAE, z: Tensor, y: Tensor | None, d: list[Tensor] | None) -> tuple[Tensor, Tensor]:
    """log p(z) and log q(z), each group's from a way down that knows the codes above it alone."""
    total_p, total_q, start = 0.0, 0.0, 0
    for i, size in enumerate(model.sizes):
        # the codes below do not matter: they are replaced by others
        above = torch.cat(
            [z[:, :start], torch.randn(len(z), z.shape[1] - start, generator=generator(i)).to(z)], 1
        )
        step = model.descend(above, y, d, pick=lambda q, e: e)[0][i]
        part = z[:, start : start + size]
        total_p, total_q = total_p + nats(step.p, part).sum(1), total_q + nats(step.q, part).sum(1)
        start += size
    return total_p, total_q


@pytest.mark.parametrize("make", [vectors, maps])
def test_weights_are_the_sums_over_groups(make):
    model = make()
    x = torch.rand(4, *model.space.shape, generator=generator()).round().double()
    y = torch.tensor([0, 1, 2, 3]) if model.space.classes else None
    q = model.q(x, y)
    noise = torch.randn(3, 4, *model.latent_space.shape, generator=generator(1)).double()
    found = model.log_weights(q, x, y, noise)
    for e, weights in zip(noise, found, strict=True):
        z = q.at(e)
        log_p, log_q = by_hand(model, z, y, q.d)
        torch.testing.assert_close(model.log_prior(z, y), log_p)
        torch.testing.assert_close(q.log_prob(z), log_q)
        # change of variables: the noise is standard, and the way down triangular in it
        jacobian = torch.autograd.functional.jacobian(q.at, e) if make is vectors else None
        if jacobian is not None:
            own = torch.stack([jacobian[i, :, i] for i in range(len(x))])
            zero = torch.zeros_like(e)
            torch.testing.assert_close(log_q, log_normal(e, zero, zero) - own.slogdet().logabsdet)
        torch.testing.assert_close(weights, model.p(z, y).log_prob(x) + log_p - log_q)


def test_posterior_integrates_to_one():
    model = vectors()
    x = torch.tensor([[1.0, 0.0, 1.0]]).double()
    z, area = grid(400, 8.0)
    q = model.q(x)
    q = type(q)(
        lambda e, pick: model.descend(e, None, [d.expand(len(e), -1) for d in q.d], pick)[0], q.d, q.still
    )
    assert float((q.log_prob(z).exp() * area).sum()) == pytest.approx(1, abs=1e-6)


def grid(n: int, reach: float) -> tuple[Tensor, float]:
    """Points `(n * n, 2)` over a square, and the area that each stands for."""
    axis = torch.linspace(-reach, reach, n, dtype=torch.float64)
    return torch.cartesian_prod(axis, axis), float(axis[1] - axis[0]) ** 2


def test_bound_rises_to_the_probability_found_by_quadrature():
    model = vectors()
    z, area = grid(400, 8.0)
    prior = model.log_prior(z)
    assert float((prior.exp() * area).sum()) == pytest.approx(1, abs=1e-6)
    xs = torch.tensor(list(product([0.0, 1.0], repeat=3))).double()
    logits = model.p(z)
    exact = torch.stack([(logits.log_prob(x.expand(len(z), -1)) + prior).logsumexp(0) for x in xs])
    exact = exact + math.log(area)
    assert float(exact.exp().sum()) == pytest.approx(1, abs=1e-6)
    bounds = []
    for k in (1, 10, 400):
        model.k = k
        rows = xs.repeat(200 if k < 400 else 20, 1)
        bounds.append(model.log_prob(rows, generator=generator()).nats.view(-1, 8).mean(0))
    # the posterior is not the true one: the bound is loose at k = 1, and tight within noise at 400
    assert (bounds[0].mean() < exact.mean() - 0.05).all()
    assert bounds[0].mean() < bounds[1].mean() < bounds[2].mean() + 0.02
    torch.testing.assert_close(bounds[2], exact, atol=0.1, rtol=0)
    loss = [float(model.loss(Batch(xs), Progress(1, 1)).total) for _ in range(300)]
    mean, error = torch.tensor(loss).mean(), torch.tensor(loss).std() / 300**0.5
    assert float(mean) == pytest.approx(-float(bounds[0].mean()), abs=5 * float(error) + 0.05)


def test_kl_in_closed_form_is_that_of_samples():
    p = Normal(torch.tensor([[0.5, -1.0]]).double(), torch.tensor([[0.3, -0.5]]).double())
    q = Normal(torch.tensor([[0.7, -2.0]]).double(), torch.tensor([[-1.0, 0.1]]).double())
    n = 100_000
    z = q.at(torch.randn(n, 2, generator=generator()).double())
    found, exact = nats(q, z) - nats(p, z), Step(z, p, q).kl[0]
    assert ((found.mean(0) - exact).abs() < 5 * found.std(0) / n**0.5).all()


def test_one_group_is_a_vae():
    """A vae whose encoder and decoder are made of the same networks has the same loss and bound."""
    torch.manual_seed(0)
    model = HVAE(BITS, latent=2, groups=(1,), width=16, warmup=0.0, free_bits=0.0)
    model.down.groups[0].prior.requires_grad_(False)
    draws = generator(5)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "prior" not in name:
                p.add_(0.1 * torch.randn(p.shape, generator=draws))
    model = model.eval().double()
    with torch.no_grad():  # a prior that is standard within its bounds
        model.down.groups[0].prior.bias[2:] = float(unbounded(0.0, -4.0, 3.0))
    x = torch.rand(6, 3, generator=generator()).round().double()
    vae = VAE(BITS, latent=2, width=16, warmup=0.0, k=8).double()
    vae.q = lambda x, y=None: model.descend(torch.zeros(len(x), 2).to(x), y, model.up(x, y))[0][0].q
    vae.p = model.p
    model.k = 8
    torch.testing.assert_close(
        model.log_prob(x, generator=generator()).nats, vae.log_prob(x, generator=generator()).nats
    )
    found = []
    for each in (model, vae):
        torch.manual_seed(1)
        found.append(each.loss(Batch(x), Progress(1, 1)))
    torch.testing.assert_close(found[0].total, found[1].total)
    torch.testing.assert_close(found[0].terms["kl_1"], found[1].terms["kl"])


def unbounded(y: float, low: float, high: float) -> Tensor:
    """The inverse of `likelihoods.bounded`."""
    inner = low + torch.log(torch.expm1(torch.tensor(y - low, dtype=torch.float64)))
    return high - torch.log(torch.expm1(high - inner))


def test_terms_add_up():
    model = maps()
    x = torch.rand(5, *IMAGE.shape, generator=generator()).round().double()
    batch = Batch(x, torch.tensor([0, 1, 2, 0, 3]))
    model.beta, model.warmup, model.free_bits = 2.0, 0.5, 3.0
    for step, beta, free in ((25, 1.0, 2.25), (50, 2.0, 1.5), (100, 2.0, 0.0)):
        total, terms = model.loss(batch, Progress(step, 100))
        kl = torch.stack([terms[f"kl_{i + 1}"] for i in range(len(model.sizes))])
        torch.testing.assert_close(kl.sum(), terms["kl"])
        torch.testing.assert_close(total, terms["reconstruction"] + beta * kl.clamp(min=free).sum())


def test_samples_are_of_the_prior_and_cool_to_its_mean():
    model = vectors()
    z, area = grid(300, 8.0)
    weights = (model.log_prior(z).exp() * area)[:, None]
    expected = (weights * model.p(z).mean).sum(0)
    n = 20_000
    model = model.float()
    drawn = next(model.trajectory(n, generator=generator()))
    assert ((drawn.mean(0) - expected.float()).abs() < 5 * 0.5 / n**0.5).all()
    cold = next(model.trajectory(3, generator=generator(), temperature=0.0, mean=True))
    torch.testing.assert_close(cold[0], cold[2])


def test_every_group_is_used_after_a_short_training():
    """Which of four far places, and where there: a cause above a cause."""
    draws = generator(2)
    place = torch.randint(4, (512, 1), generator=draws)
    x = torch.cat([(place == i) * 3.0 for i in range(4)], 1) + 0.3 * torch.randn(512, 4, generator=draws)
    torch.manual_seed(0)
    model = HVAE(Space("real", (4,)), latent=2, groups=(2,), width=32, free_bits=1.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(120):
        optimizer.zero_grad()
        loss = model.loss(Batch(x), Progress(step, 120))
        loss.total.backward()
        optimizer.step()
    steps, _ = model.descend(torch.zeros(512, 4), None, model.up(x))
    used = [float(step.kl.sum(1).mean().detach()) for step in steps]
    assert min(used) > 0.1
    assert sum(used) > 0.8 * math.log(4)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 20), (1, 16, 31)])
def test_codes_of_maps_have_several_resolutions(shape):
    model = HVAE(Space("binary", shape, levels=2), latent=4, channels=2, groups=(1, 1), width=32)
    assert model.shapes[0] == (4,)
    sizes = [math.prod(s[1:]) for s in model.shapes[1:]]
    assert sizes == sorted(sizes)
    assert model.shapes[-1] == (2, (shape[1] + 1) // 2, (shape[2] + 1) // 2)
    assert next(model.trajectory(2, generator=generator())).shape == (2, *shape)
