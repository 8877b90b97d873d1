"""Vector quantisation: codes, gradients and running means against hand computation."""

import math
import signal

import pytest
import torch
from torch import Tensor, nn

import pangen
from pangen.errors import PangenError
from pangen.families.latent.vqvae import VQVAE
from pangen.likelihoods import Point
from pangen.networks.maps import MapDecoder, MapEncoder, grid_of
from pangen.networks.quantise import JITTER, Quantiser, perplexity, straight_through
from pangen.space import Batch, Progress, Space

BITS = Space("binary", (4,), levels=2)
NOW = Progress(0, 1)


def normals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def quantiser(dim: int, size: int, depth: int = 1, **settings: float) -> Quantiser:
    torch.manual_seed(0)
    return Quantiser(dim, size, depth, **settings).double()


def test_nearest_code_is_that_of_brute_force():
    q, h = quantiser(3, 17), normals(50, 4, 3)
    distance = (h[:, :, None] - q.codebook[0]).pow(2).sum(-1)
    found = q(h)
    assert torch.equal(found.tokens[..., 0], distance.argmin(-1))
    torch.testing.assert_close(found.codes[..., 0, :], q.codebook[0][distance.argmin(-1)])
    assert torch.equal(q.codes(found.tokens), found.codes)


def test_residual_codes_sum_to_what_is_quantised_and_each_brings_it_nearer():
    q, h = quantiser(3, 8, 4), normals(400, 3)
    q.initialize(h)
    found = q(h)
    q.decay = 0.0
    q.dead = 0.0
    for _ in range(5):  # each code the mean of what is nearest to it, which a mean can only bring nearer
        q.see(found)
        q.move()
        found = q(h)
    assert found.tokens.shape == (400, 4)
    partial = found.codes.cumsum(1)
    left = torch.cat([h[:, None], h[:, None] - partial], 1)
    torch.testing.assert_close(left[:, :-1], found.given)
    for i in range(4):  # each codebook quantises what those before it left
        assert torch.equal(found.tokens[:, i], torch.cdist(left[:, i], q.codebook[i]).argmin(1))
    errors = left.pow(2).sum(-1).mean(0)
    assert (errors[1:] < 0.8 * errors[:-1]).all()


def test_running_means_over_two_steps_by_hand():
    q = quantiser(1, 3, decay=0.75, dead=0.0)
    q.codebook.copy_(torch.tensor([[[0.0], [10.0], [20.0]]]))
    q.counts.copy_(torch.tensor([[1.0, 2.0, 4.0]]))
    q.sums.copy_(torch.tensor([[[0.0], [20.0], [80.0]]]))
    q.see(q(torch.tensor([[1.0], [3.0], [12.0]]).double()))
    q.move()
    # counts 0.75 n + 0.25 (2, 1, 0); sums 0.75 m + 0.25 (4, 12, 0); codes their ratio
    torch.testing.assert_close(q.counts, torch.tensor([[1.25, 1.75, 3.0]]).double())
    torch.testing.assert_close(q.sums[0, :, 0], torch.tensor([1.0, 18.0, 60.0]).double())
    torch.testing.assert_close(q.codebook[0, :, 0], torch.tensor([0.8, 18 / 1.75, 20.0]).double())
    q.see(q(torch.tensor([[16.0], [0.0]]).double()))  # 16 is now nearer to 20 than to 10.29
    q.move()
    torch.testing.assert_close(q.counts, torch.tensor([[1.1875, 1.3125, 2.5]]).double())
    torch.testing.assert_close(q.sums[0, :, 0], torch.tensor([0.75, 13.5, 49.0]).double())
    torch.testing.assert_close(q.codebook[0, :, 0], q.sums[0, :, 0] / q.counts[0])


def test_only_dead_codes_move_to_vectors_of_the_batch():
    h = normals(30, 2)
    moving, still = (quantiser(2, 6, decay=0.9, dead=dead) for dead in (0.2, 0.0))
    for q in (moving, still):
        q.codebook[0, 4:] += 50.0  # nothing is near them
        q.counts[0] = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.1, 0.1])
        q.sums.copy_(q.codebook * q.counts[..., None])
        q.see(q(h))
        q.move()
    assert (still.counts[0] < 0.2 * still.counts.mean()).tolist() == [False] * 4 + [True] * 2
    for name in ("codebook", "counts", "sums"):
        assert torch.equal(getattr(moving, name)[0, :4], getattr(still, name)[0, :4]), name
    away = torch.cdist(moving.codebook[0, 4:], h).min(1).values
    assert (away > 0).all()
    assert (away < 6 * JITTER * h.std()).all()  # six standard deviations of the noise
    torch.testing.assert_close(moving.counts[0, 4:], still.counts.mean().expand(2))
    torch.testing.assert_close(moving.sums, moving.codebook * moving.counts[..., None])


def test_every_code_of_the_start_is_a_vector_of_the_batch():
    h = normals(5, 2, 3)
    q = quantiser(3, 25)
    q.initialize(h)  # fewer vectors than codes: some twice
    away = torch.cdist(q.codebook[0], h.flatten(0, 1)).min(1)
    assert (away.values < 6 * JITTER * 3**0.5).all()
    assert set(away.indices.bincount(minlength=10).tolist()) == {2, 3}


def test_straight_through_hands_the_gradient_on():
    h = normals(7, 3).requires_grad_()
    q = normals(7, 3, seed=1)
    torch.testing.assert_close(straight_through(h, q), q)
    straight_through(h, q).pow(3).sum().backward()
    torch.testing.assert_close(h.grad, 3 * q**2)  # at q, not at h


class Given(nn.Module):
    """An encoder whose vectors are its weights."""

    def __init__(self, h: Tensor) -> None:
        super().__init__()
        self.h = nn.Parameter(h)

    def forward(self, x: Tensor) -> Tensor:
        return self.h


class Linear(nn.Module):
    """z `(B, dim, positions)` to the mean W z and one standard deviation."""

    def __init__(self, W: Tensor) -> None:
        super().__init__()
        self.W = W

    def forward(self, z: Tensor) -> Tensor:
        mean = z.flatten(1) @ self.W.T
        return torch.stack([mean, torch.full_like(mean, 0.3)], 1)


@pytest.mark.parametrize("residual", [1, 3])
def test_gradient_of_the_loss_by_hand(residual):
    """To z_e comes that of -log p(x given z_q) at z_q, and that of the commitment; to the codebook, none."""
    space, B = Space("real", (5,)), 6
    torch.manual_seed(0)
    model = VQVAE(space, codes=7, dim=2, slots=3, residual=residual, beta=0.4).double()
    model.encoder, model.decoder = Given(normals(B, 2, 3)), Linear(normals(5, 6, seed=1))
    x = normals(B, 5, seed=2)
    total, log = model.loss(Batch(x), NOW)
    total.backward()
    z_e = model.vectors(x).detach()
    found = model.quantiser(z_e)
    z_q = found.codes.sum(2)
    W, scale = model.decoder.W, model.p(model.encode(x)).log_scale.exp()
    to_z = ((W @ z_q.mT.flatten(1).T).T - x) / scale**2 @ W / B
    strays = sum(z_e - partial for partial in found.codes.cumsum(2).unbind(2))
    expected = to_z.view(B, 2, 3).mT + 2 * 0.4 * strays / B
    torch.testing.assert_close(model.encoder.h.grad.mT, expected)
    commitment = sum((z_e - partial).pow(2).sum() for partial in found.codes.cumsum(2).unbind(2)) / B
    torch.testing.assert_close(log["commitment"], commitment)
    torch.testing.assert_close(total, log["reconstruction"] + 0.4 * log["commitment"])


def test_reconstruction_is_in_nats_by_hand():
    """Four bits, each given a logit of log 3: a one costs log 4/3 and a zero log 4."""
    model = VQVAE(BITS, codes=3, dim=2)
    model.decoder = nn.Sequential(nn.Flatten(1), nn.Linear(8, 4), nn.Unflatten(1, (1, 4)))
    nn.init.zeros_(model.decoder[1].weight)
    nn.init.constant_(model.decoder[1].bias, math.log(3))
    x = torch.tensor([[1.0, 1, 1, 0], [0, 0, 0, 0]])
    log = model.loss(Batch(x), NOW).terms
    ones, zeros = math.log(4 / 3), math.log(4)
    assert float(log["reconstruction"].detach()) == pytest.approx(
        (3 * ones + zeros + 4 * zeros) / 2, rel=1e-6
    )
    torch.testing.assert_close(model.decode(model.encode(x)), torch.full((2, 4), 0.75))


def test_perplexity_in_closed_form():
    assert float(perplexity(torch.arange(12).view(3, 4), 12)) == pytest.approx(12)
    assert float(perplexity(torch.full((9,), 2), 5)) == 1
    assert float(perplexity(torch.tensor([0, 0, 1, 3]), 4)) == pytest.approx(2**1.5)  # entropy of 1.5 bits
    model = VQVAE(BITS, codes=8, dim=2, slots=1, residual=2)
    x = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
    tokens, log = model.encode(x), model.loss(Batch(x), NOW).terms
    each = [perplexity(k, 8) for k in tokens.unbind(1)]
    assert float(log["perplexity"]) == pytest.approx(float(sum(each)) / 2)
    assert float(log["used"]) == pytest.approx(sum(len(k.unique()) for k in tokens.unbind(1)) / 16)


def small(residual: int = 2) -> tuple[VQVAE, Tensor]:
    torch.manual_seed(0)
    model = VQVAE(Space("real", (2, 17, 18), levels=4), width=16, codes=9, dim=3, residual=residual).eval()
    x = torch.randint(4, (6, 2, 17, 18), generator=torch.Generator().manual_seed(1)) * (2 / 3) - 1
    model.initialize(Batch(x))
    return model, x


def test_codes_and_their_distributions():
    model, x = small()
    k = model.encode(x)
    assert model.latent_space == Space("tokens", (5 * 5 * 2,), levels=9)
    assert k.shape == (6, 50)
    assert k.dtype == torch.int64
    assert torch.equal(k, model.encode(x))
    q = model.q(x)
    assert isinstance(q, Point)
    assert torch.equal(q.sample(), k)
    assert q.log_prob(k).tolist() == [0.0] * 6
    assert torch.equal(model.decode(k), model.p(k).mean)
    torch.testing.assert_close(
        -model.p(k).log_prob(x).mean(), model.loss(Batch(x), NOW).terms["reconstruction"]
    )


def test_a_row_does_not_depend_on_the_others():
    model, x = small()
    k, other = model.encode(x), torch.cat([x[:1], x[1:].flip(0)])
    assert torch.equal(model.encode(other), torch.cat([k[:1], k[1:].flip(0)]))
    assert torch.equal(model.decode(k)[:1], model.decode(torch.cat([k[:1], k[1:].flip(0)]))[:1])


def test_position_by_position_its_residual_codes():
    """So that a prior that reads from left to right refines a place before it goes on."""
    model, x = small()
    found = model.quantiser(model.vectors(x))
    assert torch.equal(model.encode(x).view(6, 25, 2), found.tokens)
    torch.testing.assert_close(model.codes(model.encode(x)), found.codes)


@pytest.mark.parametrize("residual", [1, 3])
def test_interpolation_goes_from_code_to_code(residual):
    model, x = small(residual)
    k = model.encode(x)
    a, b = k[:3], k[3:]
    assert torch.equal(model.interpolate(a, b, torch.zeros(3)), a)
    assert torch.equal(model.interpolate(a, b, torch.ones(3)), b)
    middle = model.codes(model.interpolate(a, b, torch.full((3,), 0.5)))
    mean = (model.codes(a) + model.codes(b)) / 2
    nearest = torch.stack(
        [torch.cdist(mean[:, :, i], model.quantiser.codebook[i]).min(-1).values for i in range(residual)], 2
    )
    torch.testing.assert_close((middle - mean).norm(dim=-1), nearest)


@pytest.mark.parametrize(
    ("space", "grid"),
    [
        (Space("real", (1, 28, 28), levels=256), (7, 7)),
        (Space("binary", (3, 17, 30), levels=2), (5, 8)),
        (Space("real", (1, 8, 8), levels=17), (2, 2)),
        (Space("real", (2, 1, 19)), (1, 5)),
        (Space("real", (5,)), (4,)),
    ],
    ids=lambda v: "x".join(map(str, v.shape)) if isinstance(v, Space) else None,
)
def test_maps_of_any_size(space, grid):
    assert grid_of(space, 4) == grid
    x = torch.zeros(2, *space.shape)
    h = MapEncoder(space, 3, grid, 32)(x)
    assert h.shape == (2, 3, *grid)
    assert MapDecoder(space, 3, grid, 2, 32)(h).shape == (2, 2, *space.shape)


def test_sixteen_examples_get_a_code_each():
    """Four bits, one token: learning finds sixteen of the codes, and the decoder what each stands for."""
    x = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
    torch.manual_seed(0)
    model = VQVAE(BITS, width=32, codes=24, dim=4, slots=1, decay=0.8)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    model.initialize(Batch(x))
    for step in range(120):
        for _, loss in model.steps(Batch(x), Progress(step, 120)):
            optimizer.zero_grad()
            loss.total.backward()
            optimizer.step()
        model.after_step(Progress(step, 120))
    assert float(loss.terms["perplexity"]) == pytest.approx(16)
    assert torch.equal(model.decode(model.encode(x)).round(), x)


def test_refuses_to_be_sampled_and_says_what_to_fit():
    with pytest.raises(PangenError, match="pangen fit gpt latents:RUN"):
        VQVAE(BITS).sample(1)


def test_interrupted_and_resumed_is_undisturbed(tmp_path):
    """The codebook, its counts and its sums are all there is to its state; so is the noise of a step's number."""
    recipe = {
        "model.width": 16,
        "model.codes": 40,
        "model.dead": 0.5,
        "training.batch": 8,
        "training.validations": 2,
    }
    whole = pangen.fit("vqvae", "digits", steps=8, recipe=recipe)

    def interrupt(event):
        if event.step == 5:
            signal.raise_signal(signal.SIGINT)

    part = pangen.fit("vqvae", "digits", steps=8, recipe=recipe, out=tmp_path / "run", report=interrupt)
    assert part.card["state"] == "interrupted"
    resumed = pangen.fit("vqvae", "digits", out=tmp_path / "run", resume=True)
    assert resumed.card["best"] == whole.card["best"]
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
