"""Variational diffusion: what the bound depends on, what it does not, and what it never claims."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from denoisers import MEAN, STD, Gaussian, generator
from torch import Tensor

from pangen.families.diffusion.vdm import VDM
from pangen.networks.monotone import Monotone
from pangen.space import Batch, Progress, Space

X = (MEAN + STD * torch.tensor([0.5, -1.0, 1.5])).double()


def bent(model: VDM) -> VDM:
    """With a schedule far from a line."""
    with torch.no_grad():
        way = model.schedule.way
        way.height.copy_(torch.linspace(2, -6, len(way.height)))
        way.steepness.fill_(12.0)
    return model


def vdm(monkeypatch: pytest.MonkeyPatch, low: float, **settings: object) -> VDM:
    """With the exact denoiser of Gaussian data."""
    model = VDM(Space("real", (3,)), width=16, **settings).double()
    monkeypatch.setattr(model, "denoise", Gaussian().denoise)
    monkeypatch.setattr(model, "error", Gaussian().error)
    model.low.fill_(low)
    return model


def bound(model: VDM, n: int = 20_000) -> tuple[float, float]:
    """At one x, the mean over noise and times, and its standard error."""
    with torch.no_grad():
        nats = model.log_prob(X.expand(n, 3), generator=generator()).nats
    return nats.mean().item(), nats.std().item() / n**0.5


def exact() -> float:
    return torch.distributions.Normal(MEAN.double(), STD.double()).log_prob(X).sum().item()


def expected(model: VDM) -> float:
    """At one x, the mean of the bound over the noise, which the exact denoiser shows in closed form."""
    low, high = model.low, model.high

    def squares(sigma: Tensor) -> Tensor:
        kept = STD**2 / (STD**2 + sigma**2)
        return (1 - kept) ** 2 * (X - MEAN) ** 2 + (kept * sigma) ** 2

    variance = Gaussian().error(low)
    total = -0.5 * (X / high) ** 2 - squares(low) / variance / 2 - torch.log(2 * math.pi * variance) / 2
    with torch.no_grad():
        for sigma, weight in model.levels(1, low, high, generator()):
            total = total - weight * squares(sigma)
    return total.sum().item()


@pytest.mark.parametrize("bend", [False, True])
@pytest.mark.parametrize("low", [0.01, 0.2])
def test_the_bound_depends_on_no_schedule_and_is_the_likelihood(monkeypatch, bend, low):
    """Kingma et al. 2021, Eq. 18. With the exact denoiser the reverse process is the forward one reversed."""
    model = vdm(monkeypatch, low, draws=1000)
    found = expected(bent(model) if bend else model)
    assert found == pytest.approx(exact(), abs=3e-3)  # and the prior is N(0, 50^2), not N(x0, 50^2)


@pytest.mark.parametrize("chain", [0, 30])
def test_draws_of_noise_tend_to_the_bound(monkeypatch, chain):
    model = bent(vdm(monkeypatch, 0.2, chain=chain, draws=30))
    found, deviation = bound(model)
    assert deviation < 0.03
    assert found == pytest.approx(expected(model), abs=4 * deviation + 0.002 + 0.03 * (chain == 0))


def test_the_bound_of_a_chain_tightens_with_its_steps(monkeypatch):
    """What it loses to infinitely many falls like one over their number, by either way."""
    for bend in (False, True):
        gaps = []
        for chain in (60, 240):
            model = vdm(monkeypatch, 0.05, chain=chain)
            gaps.append(exact() - expected(bent(model) if bend else model))
        assert gaps[0] > gaps[1] > 0
        assert gaps[0] / gaps[1] == pytest.approx(4, rel=0.2)


@pytest.mark.parametrize("kind", ["binary", "grid"])
@pytest.mark.parametrize("chain", [0, 40])
def test_the_bound_never_claims_more_than_all_probability(kind, chain):
    """exp of the bound, summed over every x, is at most 1 whatever the network says."""
    space = Space("binary", (1, 2, 2), levels=2) if kind == "binary" else Space("real", (1, 1, 3), levels=4)
    values = torch.linspace(0 if kind == "binary" else -1, 1, space.levels).tolist()
    every = torch.tensor(list(itertools.product(values, repeat=space.dims))).view(-1, *space.shape)
    model = VDM(space, width=16, chain=chain, draws=20)
    model.initialize(Batch(every))
    torch.nn.init.normal_(model.net.net.net.head.weight, std=0.1)
    with torch.no_grad():
        draws = torch.stack([model.log_prob(every, generator=generator(i)).nats for i in range(30)])
    assert 0.01 < draws.mean(0).exp().sum().item() < 1


def test_the_schedule_rises_from_end_to_end():
    torch.manual_seed(0)
    for _ in range(5):
        way = Monotone(8).double()
        for parameter in way.parameters():
            torch.nn.init.normal_(parameter, std=3.0)
        t = torch.linspace(0, 1, 201).double().requires_grad_()
        s, slope = way(t)
        assert s[[0, -1]].tolist() == pytest.approx([0, 1], abs=1e-12)
        assert (s.diff() > 0).all()
        assert torch.allclose(torch.autograd.grad(s.sum(), t)[0], slope)
    low, high = torch.tensor([0.02, 40.0], dtype=torch.float64)
    sigma = bent(VDM(Space("real", (3,)), width=16)).schedule(torch.linspace(0, 1, 50).double(), low, high)
    assert torch.allclose(sigma[[0, -1]], torch.stack([low, high]))
    assert (sigma.diff() > 0).all()


def test_the_loss_is_the_bound(monkeypatch):
    """Of one dimension, but for the scale of the data; its three terms add up."""
    torch.manual_seed(0)
    x = STD * torch.randn(4000, 3) + MEAN
    model = VDM(Space("real", (3,)), width=16, unlabelled=0.0)
    model.initialize(Batch(x))
    torch.nn.init.normal_(model.net.net.net.head.weight, std=0.1)
    model.eval().requires_grad_(False)
    losses = [model.loss(Batch(x), Progress(0, 1)) for _ in range(20)]
    assert all(torch.allclose(sum(loss.terms.values()), loss.total) for loss in losses)
    total = torch.stack([loss.total for loss in losses])
    nats = -model.log_prob(x, generator=generator()).nats.mean() / 3
    assert total.mean().item() == pytest.approx(nats.item(), abs=0.03)  # four standard errors


def test_the_ends_follow_the_bound_and_the_way_its_scatter(monkeypatch):
    """Gradients: of the ends that of the loss; of the way that of the mean square of what is drawn."""
    model = VDM(Space("real", (3,)), width=16, unlabelled=0.0)
    model.train(False)
    x, shift = STD * torch.randn(16, 3) + MEAN, 1e-3

    def terms() -> tuple[Tensor, Tensor]:
        torch.manual_seed(3)
        low, high = model.ends.exp()
        s, slope = model.schedule.way((torch.rand(()) + torch.arange(16) / 16) % 1)
        sigma = low * (high / low) ** s
        each = (
            (high / low).log()
            * slope
            * model.squares(Batch(x), sigma, Progress(0, 1), lambda level: level).mean(1)
        )
        return each.mean(), each.square().mean()

    torch.manual_seed(3)
    model.loss(Batch(x), Progress(0, 1)).total.backward()
    way = list(model.schedule.way.parameters())
    expected = torch.autograd.grad(terms()[1], way)
    for parameter, g in zip(way, expected, strict=True):
        assert torch.allclose(parameter.grad, g, rtol=1e-3, atol=1e-4)  # float32
    (g,) = torch.autograd.grad(terms()[0], model.ends)
    assert model.ends.grad[1].item() == pytest.approx(
        g[1].item() - (x / 50).square().mean().item(), rel=1e-3
    )  # the prior's slope is -x^2 / sigma_T^2
    before = float(model.low)
    with torch.no_grad():
        model.ends.add_(shift)
    model.after_step(Progress(0, 1))
    assert float(model.low) == pytest.approx(before * math.exp(shift), rel=1e-6)


def test_learning_the_way_makes_the_loss_scatter_less():
    """With the exact denoiser nothing else can be learnt, and the mean stays."""
    torch.manual_seed(0)
    x = STD * torch.randn(512, 3) + MEAN
    model = VDM(Space("real", (3,)), width=16, unlabelled=0.0).eval()
    exact = Gaussian()

    def output(z, sigma, y=None):
        c_skip, c_out = model.net.coefficients(sigma[:, None])
        return (exact.denoise(z, sigma) - c_skip * z) / c_out

    model.net.output = output

    def scatter() -> tuple[float, float]:
        torch.manual_seed(1)
        with torch.no_grad():
            s, slope = model.schedule.way(torch.rand(512))
            sigma = model.low * (model.high / model.low) ** s
            each = (
                (model.high / model.low).log()
                * slope
                * model.squares(Batch(x), sigma, Progress(0, 1), lambda level: level).mean(1)
            )
        return each.mean().item(), each.std().item()

    mean, before = scatter()
    optimizer = torch.optim.Adam(model.schedule.parameters(), lr=0.1)
    for _ in range(40):
        optimizer.zero_grad()
        model.loss(Batch(x), Progress(0, 1)).total.backward()
        optimizer.step()
    again, after = scatter()
    assert after < 0.8 * before
    assert again == pytest.approx(mean, rel=4 * before / mean / 512**0.5)
