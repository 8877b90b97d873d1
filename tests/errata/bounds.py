"""Mistakes in likelihoods, bounds and flows."""

from __future__ import annotations

import math

import torch
from mistake import Damage, mistake, near
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from pangen.families.flow.nice import NICE
from pangen.families.flow.realnvp import RealNVP
from pangen.families.latent.vae import VAE, kl_from_standard
from pangen.likelihoods import Normal, likelihood
from pangen.space import Batch, Progress, Space


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@mistake(4, "Binary cross entropy on targets without bounds")
def unbounded_targets() -> list[Damage]:
    """On a target over 1 or under 0 binary cross entropy has no least value: the further the logit, the lower. **Right:**
    the likelihood is that of the data's space, here a normal, and stops at the data's entropy."""
    x, found = torch.randn(64, generator=generator()), []
    for loss in (lambda raw: bce(raw[0], x), lambda raw: -Normal.of(raw[None]).log_prob(x[None]).mean() / 64):
        raw = torch.zeros(2, 64, requires_grad=True)
        optimizer = torch.optim.Adam([raw], lr=1.0)
        for _ in range(200):
            optimizer.zero_grad()
            value = loss(raw)
            value.backward()
            optimizer.step()
        found.append(float(value.detach()))
    wrong, right = found
    return [Damage("loss after 200 steps", wrong, right, wrong < -50 and right > -10)]


def mass_of_cross_entropy(p: Tensor) -> Tensor:
    """The integral over x in [0, 1] of exp(-BCE) = p^x (1 - p)^(1 - x), by the midpoint rule."""
    x = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    return (x * p.log()[:, None] + (1 - x) * (-p).log1p()[:, None]).exp().mean(1)


@mistake(5, "Binary cross entropy of grey values, called a likelihood")
def half_a_likelihood() -> list[Damage]:
    """For a value between 0 and 1 it is no logarithm of a density: what it stands for integrates to a half at most, and
    to nothing where the mean is near an end, so that every dark pixel flatters. **Right:** binarise, or take a
    likelihood of grey levels, whose probabilities add up to 1."""
    wrong = mass_of_cross_entropy(torch.tensor([0.5, 0.001], dtype=torch.float64))
    space = Space("real", (1, 1, 1), levels=17)
    every, grey = torch.linspace(-1, 1, 17).view(17, 1, 1, 1), likelihood(space)
    raw = torch.randn(1, grey.channels, 1, 1, 1, generator=generator()).expand(17, -1, -1, -1, -1)
    right = float(grey(raw).log_prob(every).exp().sum())
    return [
        Damage("all probability, mean 0.5", float(wrong[0]), right, near(float(wrong[0]), 0.5)),
        Damage(
            "all probability, mean 0.001", float(wrong[1]), right, wrong[1] < 0.15 and near(right, 1, 1e-4)
        ),
    ]


def posterior_after(steps: int, sign: float) -> list[float]:
    """KL of one posterior while `error + sign * KL` is minimised, for x = 1 and p(x given z) = N(tanh(z), 1)."""
    mu, log_sigma = (torch.full((1, 1), at).requires_grad_() for at in (0.0, 0.1))
    optimizer, path, noise = torch.optim.Adam([mu, log_sigma], lr=0.1), [], generator()
    for _ in range(steps):
        q = Normal(mu, log_sigma)
        z, kl = q.at(torch.randn(1, 1, generator=noise)), kl_from_standard(q).sum()
        error = (1 - z.tanh()).square().sum() / 2
        optimizer.zero_grad()
        (error + sign * kl).backward()
        optimizer.step()
        path.append(float(kl.detach()))
    return path


@mistake(6, "Error minus KL")
def minus_kl() -> list[Damage]:
    """The loss of a VAE is the negative bound: the sign of the KL term turns with it. With a minus, codes flee from the
    prior for ever. **Right:** error / (2 sigma^2) + KL."""
    space = Space("real", (3,))
    vae, batch = VAE(space, width=8, latent=2), torch.randn(32, 3, generator=generator())
    loss = vae.loss(*late(batch))
    total = float((loss.terms["reconstruction"] + loss.terms["kl"] - loss.total).detach())
    wrong, right = posterior_after(200, -1.0)[-1], posterior_after(200, 1.0)[-1]
    return [
        Damage("KL in nats after 200 steps", wrong, right, wrong > 1e6 and right < 1),
        Damage("error + KL, less the loss", "2 KL", total, abs(total) < 1e-4),
    ]


def late(x: Tensor) -> tuple[Batch, Progress]:
    """A batch at the end of training, when nothing is warmed up any more."""
    return Batch(x), Progress(99, 100)


@mistake(7, "log p(x) - KL(q || p(z)), called the ELBO")
def wrong_bound() -> list[Damage]:
    """It is below log p(x) and yet not the bound, nor can it be computed: it has log p(x) in it. The bound is
    E_q[log p(x given z)] - KL(q(z given x) || p(z)) = log p(x) - KL(q || p(z given x)). **Right:** these two are equal, and
    with the true posterior for q they are log p(x)."""
    # z ~ N(0, 1), x given z ~ N(z, 1/4): p(x) is N(0, 5/4) and the posterior N(4/5 x, 1/5)
    x, s2 = torch.tensor([[1.0]]).double(), 0.25
    q = Normal(0.8 * x, torch.full_like(x, math.log(0.2) / 2))
    log_p = float(Normal(0 * x, torch.full_like(x, math.log(1.25) / 2)).log_prob(x))
    error = ((x - q.mean).square() + 0.2) / s2  # E_q of the squared distance, in units of s^2
    elbo = float(-(error + math.log(2 * math.pi * s2)) / 2 - kl_from_standard(q))
    gaps = float(kl_from_standard(q)), log_p - elbo
    return [Damage("nats below log p(x), q the posterior", *gaps, gaps[0] > 0.3 and abs(gaps[1]) < 1e-9)]


@mistake(8, "A sum over the batch, a log-variance without bounds")
def sums_and_bounds() -> list[Damage]:
    """Summed over the batch, a loss has a gradient that grows with it, and so does the step that a rate of 1e-3 means.
    A log-variance without bounds is exponentiated all the same. **Right:** nats per example, log-scales bent to a
    bounded range, and a size of the code that is a setting of its own."""
    x, model = torch.randn(128, 3, generator=generator()), VAE(Space("real", (3,)), width=32, latent=2)
    sizes = []
    for rows in (128, 1):
        loss = model.loss(*late(x)).total * rows
        sizes.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, model.parameters())]).norm())
    ratio = float(sizes[0] / sizes[1])
    raw = torch.full((1, 2, 1), 100.0)
    variances = (float(raw[0, 1].exp()), float((2 * Normal.of(raw).log_scale).exp()))
    code = model.latent_space.shape[0]
    return [
        Damage("gradient over that of an example's mean", ratio, 1.0, 90 < ratio < 180),
        Damage("variance at an output of 100", *variances, variances[0] > 1e30 and variances[1] < 1e10),
        Damage("numbers in a code, width 32", 32.0, float(code), code == 2),
    ]


@mistake(9, "Linear, tanh, linear, sigmoid, called a flow")
def no_bijection() -> list[Damage]:
    """Layers that narrow have no inverse and no determinant: examples far apart share a code. **Right:** bijections with
    their log-determinants, trained by likelihood."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 3), nn.Sigmoid())
    lost = torch.linalg.svd(net[0].weight.detach()).Vh[-1]  # the direction that the first layer cannot see
    x = torch.stack([torch.zeros(3), 3 * lost])
    flow = RealNVP(Space("real", (3,)), width=16)
    with torch.no_grad():
        wrong, right = (float((z[0] - z[1]).norm()) for z in (net(x), flow.encode(x)))
        back = float((flow.decode(flow.encode(x)) - x).abs().max())
    return [
        Damage("distance of the codes of two inputs 3.0 apart", wrong, right, wrong < 1e-5 and right > 0.5),
        Damage("error of the way back", "none", back, back < 1e-4),
    ]


@mistake(22, "NICE, called affine")
def additive() -> list[Damage]:
    """NICE adds: its couplings keep every volume, and one diagonal scale at the end is all that stretches. Affine is
    RealNVP. **Right:** the log-determinant of `nice` is the same everywhere, that of `realnvp` is not."""
    x, spreads = torch.randn(64, 4, generator=generator()), []
    for family in (RealNVP, NICE):
        torch.manual_seed(0)
        model = family(Space("real", (4,)), width=16)
        for parameter in model.parameters():  # away from where training starts
            parameter.data.add_(0.1 * torch.randn_like(parameter))
        with torch.no_grad():
            base = -(model.encode(x).square() + math.log(2 * math.pi)).sum(1) / 2
            base = base if family is RealNVP else log_logistic(model.encode(x))
            spreads.append(float((model.log_prob(x).nats - base).std()))
    return [
        Damage(
            "spread of the log-determinant: affine, additive",
            *spreads,
            spreads[0] > 0.05 and spreads[1] < 1e-5,
        )
    ]


def log_logistic(z: Tensor) -> Tensor:
    """NICE's own base, independent logistic dimensions."""
    return -(nn.functional.softplus(z) + nn.functional.softplus(-z)).sum(1)
