"""Autoencoders: the variational one against probabilistic PCA, whose evidence is known."""

import math

import pytest
import torch
from torch import Tensor, nn

from pangen.errors import PangenError
from pangen.families.latent.ae import Autoencoder
from pangen.families.latent.latent import LOG_SIGMA
from pangen.families.latent.vae import VAE, kl_from_standard
from pangen.likelihoods import LOG_SCALES, Normal, log_normal
from pangen.space import Batch, Progress, Space, class_space

D, LATENT = 5, 2
SPACE = Space("real", (D,))


def unbounded(y: Tensor, low: float, high: float) -> Tensor:
    """The inverse of `likelihoods.bounded`."""
    y = low + torch.log(torch.expm1(y - low))
    return high - torch.log(torch.expm1(high - y))


class LinearEncoder(nn.Module):
    """x -> the mean F (x - m) and a constant log standard deviation."""

    def __init__(self, F: Tensor, m: Tensor, log_sigma: Tensor) -> None:
        super().__init__()
        self.F, self.m = nn.Parameter(F), nn.Parameter(m)
        self.log_sigma = nn.Parameter(unbounded(log_sigma, *LOG_SIGMA))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        mean = (x - self.m) @ self.F.T
        return torch.cat([mean, self.log_sigma.expand_as(mean)], 1)


class LinearDecoder(nn.Module):
    """z -> the mean W z + m and one log standard deviation for all dimensions."""

    def __init__(self, W: Tensor, m: Tensor, log_scale: Tensor) -> None:
        super().__init__()
        self.W, self.m = nn.Parameter(W), nn.Parameter(m)
        self.log_scale = nn.Parameter(unbounded(log_scale, *LOG_SCALES))

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        mean = z @ self.W.T + self.m
        return torch.stack([mean, self.log_scale.expand_as(mean)], 1)


def data(n: int = 400) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(D, LATENT, generator=generator)
    noise = 0.4 * torch.randn(n, D, generator=generator)
    return (torch.randn(n, LATENT, generator=generator) @ mix.T + noise + 0.5).double()


def principal_components(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Maximum likelihood W, mean and noise deviation (Tipping and Bishop 1999, Eq. 7 and 8)."""
    m = x.mean(0)
    values, vectors = torch.linalg.eigh((x - m).T @ (x - m) / len(x))
    variance = values[:-LATENT].mean()
    return vectors[:, -LATENT:] * (values[-LATENT:] - variance).sqrt(), m, variance.sqrt()


def evidence(x: Tensor, W: Tensor, m: Tensor, s: Tensor) -> Tensor:
    """log N(x; m, W W' + s^2 I)."""
    return torch.distributions.MultivariateNormal(m, W @ W.T + s**2 * torch.eye(D, dtype=W.dtype)).log_prob(x)


def linear_vae(x: Tensor, widen: float = 1.0, **settings) -> VAE:
    """Probabilistic PCA as a VAE; its true posterior is diagonal, as W has orthogonal columns."""
    W, m, s = principal_components(x)
    M = W.T @ W + s**2 * torch.eye(LATENT, dtype=W.dtype)
    vae = VAE(SPACE, latent=LATENT, **settings)
    sigma = widen * (s**2 / M.diag()).sqrt()
    vae.encoder = LinearEncoder(torch.linalg.solve(M, W.T), m, sigma.log())
    vae.decoder = LinearDecoder(W, m, s.log())
    return vae.double().eval().requires_grad_(False)


def test_with_the_true_posterior_the_bound_is_the_evidence():
    x = data()
    expected = evidence(x, *principal_components(x))
    # every importance weight is p(x) itself, so that the bound is tight for each example and any k
    for k in (1, 4):
        found = linear_vae(x, k=k).log_prob(x, generator=torch.Generator().manual_seed(0))
        assert found.kind == "lower bound"
        torch.testing.assert_close(found.nats, expected, atol=1e-9, rtol=0)
    torch.manual_seed(0)
    losses = [float(linear_vae(x).loss(Batch(x), Progress(1, 1)).total) for _ in range(50)]
    mean, error = torch.tensor(losses).mean(), torch.tensor(losses).std() / 50**0.5
    # the loss has its KL term in closed form, so it is the evidence on average over z only
    assert float(mean) == pytest.approx(-float(expected.mean()), abs=5 * float(error))


def test_importance_weighted_bound_rises_with_k_and_stays_below():
    x = data()
    exact = float(evidence(x, *principal_components(x)).mean())
    bounds = [
        float(linear_vae(x, widen=2, k=k).log_prob(x, generator=torch.Generator().manual_seed(k)).nats.mean())
        for k in (1, 8, 64, 512)
    ]
    # means over 400 examples; the steps between them are 0.1 nat and more until the last
    assert bounds == sorted(bounds)
    assert bounds[0] < exact - 0.5
    assert exact - 0.02 < bounds[-1] < exact + 0.01


def test_bound_does_not_depend_on_how_many_samples_are_decoded_at_once(monkeypatch):
    x = data(20)
    vae = linear_vae(x, widen=2, k=7)
    at_once = vae.log_prob(x, generator=torch.Generator().manual_seed(0)).nats
    monkeypatch.setattr("pangen.families.latent.latent.MEMORY", 3 * 2 * x.numel())
    in_parts = vae.log_prob(x, generator=torch.Generator().manual_seed(0)).nats
    torch.testing.assert_close(at_once, in_parts)


def test_training_reaches_the_evidence_of_probabilistic_pca():
    x = data()
    best = float(evidence(x, *principal_components(x)).mean())
    generator = torch.Generator().manual_seed(1)
    vae = VAE(SPACE, latent=LATENT)
    zero = torch.zeros(LATENT)
    vae.encoder = LinearEncoder(torch.randn(LATENT, D, generator=generator) / D, torch.zeros(D), zero)
    vae.decoder = LinearDecoder(torch.randn(D, LATENT, generator=generator) / D, torch.zeros(D), zero[0])
    vae = vae.double()
    optimizer = torch.optim.Adam(vae.parameters(), lr=0.03)
    steps = 1500
    torch.manual_seed(0)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.03 * (1 + math.cos(math.pi * step / steps)) / 2
        optimizer.zero_grad()
        vae.loss(Batch(x), Progress(steps, steps)).total.backward()
        optimizer.step()
    z = torch.zeros(1, LATENT, dtype=torch.float64)
    scale = vae.p(z).log_scale[0, 0].exp()
    found = float(evidence(x, vae.decoder.W, vae.decoder.m, scale).mean().detach())
    assert found <= best + 1e-9
    assert found > best - 0.02  # what is left is gradient noise
    assert float(vae.log_prob(x, generator=generator).nats.mean().detach()) > best - 0.03


def test_samples_have_the_covariance_of_the_model():
    x = data()
    W, m, s = principal_components(x)
    vae = linear_vae(x).float()
    n = 20000
    drawn = next(vae.trajectory(n, generator=torch.Generator().manual_seed(0)))
    expected = (W @ W.T + s**2 * torch.eye(D)).float()
    deviation = expected.diag().sqrt()
    # five standard errors, sqrt(2 / n) for a variance and less for a correlation
    error = (torch.cov(drawn.T) - expected) / (deviation[:, None] * deviation)
    assert error.abs().max() < 5 * (2 / n) ** 0.5
    assert ((drawn.mean(0) - m.float()).abs() < 5 * deviation / n**0.5).all()


def test_kl_in_closed_form_is_that_of_samples():
    mu, log_sigma = torch.tensor([[0.5, -1.0, 2.0]]).double(), torch.tensor([[-1.0, 0.3, 0.0]]).double()
    n = 100000
    z = mu + log_sigma.exp() * torch.randn(n, 3, generator=torch.Generator().manual_seed(0)).double()
    zero = torch.zeros_like(z)
    ratio = log_normal(z, mu.expand_as(z), log_sigma.expand_as(z)) - log_normal(z, zero, zero)
    assert float(ratio.mean()) == pytest.approx(
        float(kl_from_standard(Normal(mu, log_sigma)).sum()), abs=5 * float(ratio.std()) / n**0.5
    )
    assert (kl_from_standard(Normal(torch.zeros(1, 3), torch.zeros(1, 3))) == 0).all()


@pytest.mark.parametrize(
    "space", [SPACE, Space("binary", (1, 3, 2), levels=2, condition=class_space(3))], ids=["real", "binary"]
)
def test_pathwise_gradient_is_the_finite_difference(space):
    """At fixed noise the loss is a smooth function of the weights."""
    vae = VAE(space, latent=2, width=8).double()
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(6, *space.shape, generator=generator).double().round()
    batch = Batch(x, torch.arange(6) % 3 if space.classes else None)

    def loss() -> Tensor:
        torch.manual_seed(0)
        return vae.loss(batch, Progress(1, 4)).total

    parameters = list(vae.parameters())
    gradients = torch.autograd.grad(loss(), parameters, allow_unused=True)
    slope, eps = 0.0, 1e-5
    directions = [torch.randn(p.shape, generator=generator).double() for p in parameters]
    for gradient, direction in zip(gradients, directions, strict=True):
        slope += 0.0 if gradient is None else float((gradient * direction).sum())
    values = []
    for sign in (1, -2):
        with torch.no_grad():
            for p, direction in zip(parameters, directions, strict=True):
                p.add_(sign * eps * direction)
            values.append(float(loss()))
    assert (values[0] - values[1]) / (2 * eps) == pytest.approx(slope, rel=1e-5)


def test_warm_up_weighs_the_kl_term():
    vae = VAE(SPACE, latent=2, width=8, beta=2.0, warmup=0.5)
    batch = Batch(data(30).float())
    for done, weight in ((0, 0.0), (25, 1.0), (50, 2.0), (99, 2.0)):
        total, terms = vae.loss(batch, Progress(done, 100))
        torch.testing.assert_close(total, terms["reconstruction"] + weight * terms["kl"])


def test_autoencoder_gives_back_what_it_was_trained_on():
    """Four bits fit a code of four numbers."""
    space = Space("binary", (4,), levels=2)
    x = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
    torch.manual_seed(0)
    ae = Autoencoder(space, latent=4, width=32)
    optimizer = torch.optim.Adam(ae.parameters(), lr=1e-2)
    for step in range(150):
        optimizer.zero_grad()
        ae.loss(Batch(x), Progress(step, 150)).total.backward()
        optimizer.step()
    assert ae.encode(x).shape == (16, 4)
    assert torch.equal(ae.decode(ae.encode(x)).round(), x)


def test_autoencoder_says_why_it_cannot_be_sampled():
    with pytest.raises(PangenError, match="pangen fit realnvp latents:RUN"):
        Autoencoder(SPACE, latent=2, width=8).sample(3)
