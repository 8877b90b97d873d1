"""TarFlow: log-determinants against autograd, causality, inverses with and without a cache, patches."""

import math

import pytest
import torch
from torch import Tensor

from pangen.errors import PangenError
from pangen.families.flow.tarflow import Patches, TarFlow, side
from pangen.space import Batch, Space, class_space

SHAPES = ((2,), (5,), (1, 5, 7), (3, 6, 4), (1, 8, 8))
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def normal(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def model(shape: tuple[int, ...], classes: int = 3, **settings) -> TarFlow:
    """In float64 and away from the start, where the blocks are the identity."""
    torch.manual_seed(0)
    space = Space("real", shape, condition=class_space(classes) if classes else None)
    m = TarFlow(space, **{"channels": 16, "blocks": 3, "heads": 2, **settings}).double().eval()
    for p in m.parameters():
        inputs = p[0].numel() if p.ndim == 2 else 1
        p.data += 0.3 / math.sqrt(inputs) * torch.randn(p.shape, dtype=torch.float64)
    return m.requires_grad_(False)


@every_shape
def test_log_prob_is_the_base_and_autograds_log_determinant(shape):
    m, x, y = model(shape), normal(1, *shape), torch.tensor([1])
    J = torch.autograd.functional.jacobian(lambda v: m.encode(v.view_as(x), y)[0], x.flatten())
    expected = (
        torch.distributions.Normal(0, 1).log_prob(m.encode(x, y)).sum() + torch.linalg.slogdet(J).logabsdet
    )
    found = m.log_prob(x, y)
    assert found.kind == "exact"
    assert abs(float(found.nats - expected)) < 1e-8


@every_shape
@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-10), (torch.float32, 1e-4)], ids=str)
def test_decode_undoes_encode(shape, dtype, error):
    m, x, y = model(shape).to(dtype), normal(4, *shape, dtype=dtype), torch.tensor([0, 1, 2, 3])
    assert (m.decode(m.encode(x, y), y) - x).abs().max() < error


@every_shape
def test_a_block_inverts_by_a_cache_as_it_does_without(shape):
    """Both in float32: token by token with kept keys and values, or the whole row anew for each token."""
    m = model(shape).float()
    y = torch.tensor([0, 1])
    context = m.flow.context(y, 2)
    for through in m.flow.transform.parts[1:]:
        block = through.inner
        z = normal(2, through.change.tokens, through.change.size, dtype=torch.float32)
        x = torch.zeros_like(z)
        order = range(z.shape[1])
        for t in reversed(order) if block.reverse else order:
            seen = x.flip(1) if block.reverse else x
            mu, alpha = block.mu_alpha(block.net(block.inputs(seen[:, :-1], context)))
            if block.reverse:
                mu, alpha = mu.flip(1), alpha.flip(1)
            x[:, t] = z[:, t] * alpha[:, t].exp() + mu[:, t]
        assert (block.inverse(z, context) - x).abs().max() < 1e-5


@pytest.mark.parametrize("k", [0, 1], ids=["forward", "reverse"])
def test_a_block_is_causal_in_its_direction(k):
    """Token t moves by tokens before it alone, the first by none: the Jacobian over tokens is triangular."""
    m = model((6,))
    block = m.flow.transform.parts[1 + k].inner
    assert block.reverse == bool(k)
    context, x = m.flow.context(torch.tensor([0]), 1), normal(1, 6, 1)
    J = torch.autograd.functional.jacobian(lambda v: block(v.view_as(x), context)[0].flatten(), x.flatten())
    J = J.T if k else J
    assert torch.equal(J.triu(1), torch.zeros_like(J))
    assert J.tril(-1).abs().max() > 1e-3
    assert block(x, context)[1].item() == pytest.approx(float(J.diagonal().log().sum()), abs=1e-10)


@pytest.mark.parametrize(
    ("length", "most", "found"), [(28, 4, 4), (8, 4, 4), (6, 4, 3), (7, 4, 1), (17, 4, 1), (2, 4, 1), (9, 8, 3)]
)  # fmt: skip
def test_patches_divide_a_side_and_leave_some(length, most, found):
    assert side(length, most) == found


@every_shape
def test_patches_are_the_same_numbers(shape):
    patches, x = Patches(shape, 4), normal(2, *shape)
    tokens, log_det = patches(x)
    assert tokens.shape == (2, patches.tokens, patches.size)
    assert torch.equal(log_det, torch.zeros(2, dtype=torch.float64))
    assert torch.equal(patches.inverse(tokens), x)
    assert torch.equal(tokens.flatten().sort().values, x.flatten().sort().values)


def test_a_patch_is_a_rectangle_of_the_image():
    x = torch.arange(64.0).view(1, 1, 8, 8)
    assert torch.equal(Patches((1, 8, 8), 4)(x)[0][0, 1], x[0, 0, :4, 4:].flatten())


def test_two_dimensional_densities_integrate_to_one():
    """Trapezoid rule; scales of three blocks are at most exp(6), but those of these weights are far less."""
    m, h = model((2,), classes=0).float(), 0.2
    line = torch.arange(-20, 20 + h / 2, h)
    rows = (m.log_prob(torch.cartesian_prod(row, line)).nats.double() for row in line.split(50))
    total = sum(float(row.exp().sum()) for row in rows)
    assert abs(total * h * h - 1) < 1e-3


def test_a_flow_at_its_start_is_the_gaussian_with_the_datas_diagonal():
    x = normal(300, 5) * torch.tensor([0.2, 1, 3, 10, 0.5]) + torch.arange(5)
    m = TarFlow(Space("real", (5,)), channels=16).double().eval()
    with torch.no_grad():
        m.initialize(Batch(x))
    expected = torch.distributions.Normal(x.mean(0), x.std(0, correction=0)).log_prob(x).sum(1)
    assert (m.log_prob(x).nats - expected).abs().max() < 1e-8


def test_samples_are_the_decoded_noise():
    m, y = model((1, 8, 8)), torch.tensor([0, 1, 2, 3])
    z, *_, x = list(m.trajectory(4, y, generator=torch.Generator().manual_seed(0)))
    assert (m.encode(x, y) - z.flatten(1)).abs().max() < 1e-8


def test_wrong_settings_are_one_sentence():
    with pytest.raises(PangenError, match=r"model\.heads = 3"):
        TarFlow(Space("real", (2,)), channels=16, heads=3)
