"""One-layer models with known answers: importance weights, learnt priors, linear autoencoders, textbook losses."""

import math

import pytest
import torch
from test_latent import SPACE, data, evidence, linear_vae, principal_components
from torch import Tensor
from torch.nn.functional import binary_cross_entropy

from pangen.errors import PangenError
from pangen.families.latent.ae import Autoencoder
from pangen.families.latent.iwae import IWAE
from pangen.families.latent.vae import VAE, kl_from_standard
from pangen.families.latent.vampprior import VampPrior
from pangen.likelihoods import FIXED_SCALE, Mixture, Normal
from pangen.space import Batch, Progress, Space, class_space

LAST = Progress(1, 1)
BITS = Space("binary", (1, 4, 3), levels=2)


def bits(n: int, space: Space = BITS) -> Tensor:
    return (torch.rand(n, *space.shape, generator=torch.Generator().manual_seed(0)) < 0.4).float()


def linear_iwae(x: Tensor, samples: int, gradient: str = "double") -> IWAE:
    """Probabilistic PCA with a posterior twice too wide."""
    vae = linear_vae(x, widen=2)
    iwae = IWAE(SPACE, latent=2, width=8, samples=samples, gradient=gradient)
    iwae.encoder, iwae.decoder = vae.encoder, vae.decoder
    return iwae.double().train().requires_grad_(True)


def test_importance_weighted_loss_falls_with_k_to_the_evidence():
    x = data()
    exact = -float(evidence(x, *principal_components(x)).mean())
    losses = []
    for samples in (1, 8, 64, 512):
        torch.manual_seed(samples)
        losses.append(float(linear_iwae(x, samples).loss(Batch(x), LAST).total.detach()))
    # means over 400 examples; the steps between them are 0.1 nat and more until the last
    assert losses == sorted(losses, reverse=True)
    assert exact - 0.01 < losses[-1] < exact + 0.02


@pytest.mark.parametrize("gradient", ["double", "naive"])
def test_with_one_sample_it_is_the_bound_of_the_vae(gradient):
    x = data()
    iwae, vae = linear_iwae(x, 1, gradient), linear_vae(x, widen=2)
    torch.manual_seed(0)
    loss = float(iwae.loss(Batch(x), LAST).total.detach())
    torch.manual_seed(0)
    noise = torch.randn(len(x), 2, dtype=torch.float64)
    assert loss == pytest.approx(-float(vae.log_weights(vae.q(x), x, None, noise[None]).mean()), abs=1e-12)


def test_both_gradients_are_the_same_on_average_and_the_double_one_is_quieter():
    """Many copies of one example give many draws of the encoder's gradient; the decoder's is the same."""
    x, draws, samples = data(1), 4000, 8
    found, of_decoder = {}, {}
    for gradient in ("double", "naive"):
        iwae = linear_iwae(data(), samples, gradient)
        sigma = iwae.encoder.log_sigma.detach().expand(draws, -1).clone().requires_grad_(True)
        mean = iwae.encoder(x).detach()[:, :2].expand(draws, -1).clone().requires_grad_(True)
        iwae.encoder.forward = lambda x, y=None, m=mean, s=sigma: torch.cat([m, s], 1)
        torch.manual_seed(0)
        loss = iwae.loss(Batch(x.expand(draws, -1)), LAST).total
        *codes, of_decoder[gradient] = torch.autograd.grad(loss, [mean, sigma, iwae.decoder.W])
        found[gradient] = draws * torch.cat(codes, 1)
    error = (found["double"].var(0) / draws + found["naive"].var(0) / draws).sqrt()
    assert ((found["double"] - found["naive"]).mean(0).abs() < 5 * error).all()
    assert (found["double"].var(0) < found["naive"].var(0)).all()
    torch.testing.assert_close(of_decoder["double"], of_decoder["naive"])


def test_a_mixture_is_a_sum_of_normals_and_samples_follow_it():
    generator = torch.Generator().manual_seed(0)
    mu, log_scale = torch.randn(5, 3, generator=generator), torch.randn(5, 3, generator=generator) / 2
    n = 20000
    z = Mixture(Normal(mu, log_scale), n).sample(generator)
    each = torch.distributions.Normal(mu, log_scale.exp()).log_prob(z[:, None]).sum(2)
    found = Mixture(Normal(mu, log_scale), n).log_prob(z)
    torch.testing.assert_close(found, each.logsumexp(1) - math.log(5), atol=1e-4, rtol=1e-5)
    second = (mu**2 + (2 * log_scale).exp()).mean(0)
    assert ((z.mean(0) - mu.mean(0)).abs() < 5 * z.std(0) / n**0.5).all()
    assert ((z**2).mean(0) - second).abs().lt(5 * (z**2).std(0) / n**0.5).all()


@pytest.mark.parametrize(
    "space", [BITS, Space("real", (1, 4, 3), levels=5), SPACE], ids=["bits", "grid", "real"]
)
def test_pseudo_inputs_start_at_examples_and_stay_in_their_range(space):
    model = VampPrior(space, latent=2, width=8, pseudo_inputs=7)
    x = bits(5, space) if space.kind == "binary" else torch.randn(5, *space.shape)
    x = (x.clamp(-1, 1) * 2).round() / 2 if space.is_grid else x
    model.initialize(Batch(x))
    u = model.inputs()
    torch.testing.assert_close(u, x[torch.arange(7) % 5], atol=0.07, rtol=0)
    assert not torch.equal(u[0], u[5])
    if space.levels:
        assert u.min() > (0 if space.kind == "binary" else -1)
        assert u.max() < 1


def test_a_vampprior_of_the_true_prior_has_the_bound_of_the_vae():
    """Wherever pseudo-inputs are encoded as N(0, I), the prior is that."""
    x = data()
    vae = linear_vae(x, widen=2, k=4)
    vamp = VampPrior(SPACE, latent=2, width=8, pseudo_inputs=3, k=4)
    vamp.encoder, vamp.decoder = vae.encoder, vae.decoder
    vamp = vamp.double().eval()
    zeros = torch.zeros(3, 2, dtype=torch.float64)
    vamp.prior = lambda n: Mixture(Normal(zeros, zeros), n)
    a, b = (m.log_prob(x, generator=torch.Generator().manual_seed(0)).nats for m in (vae, vamp))
    torch.testing.assert_close(a, b)


def test_free_bits_bound_each_dimension_from_below():
    model = VAE(BITS, latent=3, width=8, warmup=0.0, free_bits=0.2, beta=1.5)
    batch = Batch(bits(16))
    torch.manual_seed(0)
    total, terms = model.loss(batch, LAST)
    told = kl_from_standard(model.q(batch.x)).mean(0)
    assert (told < 0.2).any()
    torch.testing.assert_close(
        total, terms["reconstruction"] + 1.5 * torch.where(told > 0.2, told, 0.2).sum()
    )
    torch.testing.assert_close(terms["kl"], told.sum())
    assert int(terms["active"]) == int((told > 0.01).sum())


def test_nats_per_example_are_the_sums_of_the_textbook_over_the_batch():
    """The 784-400-20 network: binary cross entropy and KL summed over all, over the batch's size."""
    space = Space("binary", (1, 28, 28), levels=2)
    model = VAE(space, latent=20, width=400, network="mlp", depth=1, warmup=0.0)
    shapes = [tuple(p.shape) for p in model.parameters()]
    assert shapes == [(400, 784), (400,), (40, 400), (40,), (400, 20), (400,), (784, 400), (784,)]
    x = bits(32, space)
    torch.manual_seed(3)
    loss = model.loss(Batch(x), LAST).total
    W1, b1, W2, b2, W3, b3, W4, b4 = model.parameters()
    h = torch.relu(x.flatten(1) @ W1.T + b1)
    mu, log_sigma = (h @ W2.T + b2).chunk(2, 1)
    log_sigma = model.q(x).log_scale  # bounded, which bends it a little
    torch.manual_seed(3)
    z = mu + log_sigma.exp() * torch.randn_like(mu)
    probability = torch.sigmoid(torch.relu(z @ W3.T + b3) @ W4.T + b4)
    cross_entropy = binary_cross_entropy(probability, x.flatten(1), reduction="sum")
    kl = -0.5 * (1 + 2 * log_sigma - mu**2 - (2 * log_sigma).exp()).sum()
    torch.testing.assert_close(loss, (cross_entropy + kl) / 32)


def test_rounded_products_change_little_and_only_in_training():
    model = {p: VAE(BITS, latent=3, width=32, precision=p) for p in ("full", "bfloat16")}
    model["bfloat16"].load_state_dict(model["full"].state_dict())
    x, losses = bits(64), {}
    for name, m in model.items():
        torch.manual_seed(0)
        losses[name] = float(m.train().loss(Batch(x), LAST).total.detach())
        m.eval()
    assert losses["full"] != losses["bfloat16"]
    # bfloat16 keeps 8 bits of a factor
    assert losses["full"] == pytest.approx(losses["bfloat16"], rel=2**-8)
    assert torch.equal(model["full"].encode(x), model["bfloat16"].encode(x))


def test_labels_reach_a_plain_perceptron_as_one_hot_inputs_would():
    space = Space("binary", (2,), levels=2, condition=class_space(3))
    model = VAE(space, latent=2, width=8, network="mlp", activation="tanh")
    x, y = bits(6, space), torch.arange(6) % 3
    table, (first, act, head) = model.encoder.condition.table.weight, model.encoder.net
    weight = torch.cat([first.weight, table.T], 1)
    inputs = torch.cat([x, torch.nn.functional.one_hot(y, 4)], 1)
    torch.testing.assert_close(model.encoder(x, y), head(act(inputs @ weight.T + first.bias)))


def test_a_linear_autoencoder_spans_the_principal_components():
    """With a squared error, from a random start; the largest principal angle is below 1 degree."""
    generator, n, d = torch.Generator().manual_seed(0), 300, 8
    spread = torch.linspace(2, 0.5, d)
    x = (
        torch.randn(n, d, generator=generator)
        * spread
        @ torch.linalg.qr(torch.randn(d, d, generator=generator))[0]
    )
    torch.manual_seed(0)
    ae = Autoencoder(Space("real", (d,)), latent=3, linear=True, observation="fixed")
    assert len(list(ae.parameters())) == 4
    optimizer = torch.optim.Adam(ae.parameters(), lr=0.05)
    steps = 600
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 + math.cos(math.pi * step / steps)) / 2
        optimizer.zero_grad()
        ae.loss(Batch(x), LAST).total.backward()
        optimizer.step()
    components = torch.linalg.svd(x - x.mean(0), full_matrices=False)[2][:3]
    decoder = torch.linalg.qr(ae.decoder.net[0].weight.detach())[0]
    cosines = torch.linalg.svdvals(components @ decoder)
    assert math.degrees(math.acos(min(float(cosines.min()), 1.0))) < 1
    residual = x - x.mean(0) - (x - x.mean(0)) @ components.T @ components
    least = residual.square().sum(1).mean() / (2 * FIXED_SCALE**2)
    constant = d * (math.log(FIXED_SCALE) + math.log(2 * math.pi) / 2)
    assert float(ae.loss(Batch(x), LAST).total.detach()) == pytest.approx(float(least) + constant, rel=1e-3)


def test_what_is_denoised_is_corrupted_on_its_way_in_alone():
    x = bits(2000)
    ae = Autoencoder(BITS, latent=2, width=8, noise=0.3)
    seen = ae.corrupted(x)
    assert torch.equal(seen * x, seen)  # bits are set to 0, never to 1
    kept = seen.sum() / x.sum()
    assert float(kept) == pytest.approx(0.7, abs=5 * (0.21 / float(x.sum())) ** 0.5)
    real = Autoencoder(SPACE, latent=2, width=8, noise=0.5)
    clean = torch.zeros(2000, 5)
    assert float(real.corrupted(clean).std()) == pytest.approx(0.5, abs=5 * 0.5 / 20000**0.5)
    torch.manual_seed(0)
    loss = ae.loss(Batch(x), LAST).total
    torch.manual_seed(0)
    p = ae.likelihood(ae.decoder(ae.encoder(ae.corrupted(x))))
    assert loss == -p.log_prob(x).mean()
    with pytest.raises(PangenError, match="would set every bit to 0"):
        Autoencoder(BITS, noise=1.0)


@pytest.mark.parametrize("shape", [(3, 17, 16), (1, 33, 20), (3, 16, 5)])
@pytest.mark.parametrize("observation", ["logistic", "categorical", "normal", "fixed"])
def test_images_of_any_size_and_every_likelihood(shape, observation):
    space = Space("real", shape, levels=4)
    model = VAE(space, latent=3, width=64, observation=observation, k=2)
    x = torch.randint(4, (2, *shape), generator=torch.Generator().manual_seed(0)) * (2 / 3) - 1
    loss = model.loss(Batch(x), LAST).total
    loss.backward()
    assert loss.isfinite()
    assert next(model.trajectory(2, generator=torch.Generator())).shape == x.shape
    assert model.eval().log_prob(x, generator=torch.Generator()).nats.shape == (2,)


def test_importance_samples_grow_so_that_each_doubling_takes_as_long():
    """From 1 to all; of the time of training, counted in samples decoded, each of nine doublings takes a ninth."""
    model, total = IWAE(SPACE, latent=2, width=8, samples=512, growth=1.0), 100_000
    k = torch.tensor([model.grown(Progress(step, total)) for step in range(total)], dtype=torch.float64)
    assert k[0] == 1
    assert k[-1] > 500
    assert (k[1:] >= k[:-1]).all()
    for low in (8, 16, 32, 64, 128):
        share = float(k[(k >= low) & (k < 2 * low)].sum() / k.sum())
        assert abs(share * 9 - 1) < 0.08  # whole numbers alone: 15.5 / 7.5 for 16 / 8 is 5 % more
    half = IWAE(SPACE, latent=2, width=8, samples=32, growth=0.5)
    assert half.grown(Progress(50, 100)) == 32
    assert IWAE(SPACE, latent=2, width=8, samples=32).grown(Progress(0, 100)) == 32
