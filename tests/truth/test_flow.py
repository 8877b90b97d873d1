"""Flows: log-determinants against autograd, inverses, normalisation, and starts that are known in closed form."""

import math

import pytest
import torch
from flow_checks import CLASSES, model, normal, perturbed, slogdet

from pangen.families.flow.glow import Glow
from pangen.families.flow.nice import NICE
from pangen.families.flow.realnvp import RealNVP
from pangen.networks.bijections import (
    Additive,
    Compose,
    ConvNet,
    Coupling,
    Elementwise,
    Flatten,
    Inverse,
    Invertible1x1,
    Logit,
    MaskedCoupling,
    OnHalf,
    Scale,
    ScaleShift,
    Shift,
    Sigmoid,
    Sorted,
    Squeeze,
    Through,
    Transform,
    actnorm,
    at_scale,
    checkerboard,
    flat_coupling,
    flat_pair,
    halves,
    mask_pairs,
    stripes,
)
from pangen.space import Batch, Progress, Space

CONTEXT = 4


def flat(map_: Elementwise, shape: tuple[int, ...], parity: int = 0) -> Transform:
    return flat_pair(map_, checkerboard(shape, parity), 8, context=CONTEXT)


def half(map_: Elementwise, *, upper: bool) -> Coupling:
    return flat_coupling(map_, 5, 2, upper, 8, context=CONTEXT)


def conv(map_: Elementwise, shape: tuple[int, ...], parity: int = 0) -> Transform:
    net = ConvNet(shape, map_.k, 8, 1, context=CONTEXT)
    return MaskedCoupling(map_, net, checkerboard(shape, parity))


TRANSFORMS = {
    "shift": (lambda: Shift((3,)), (3,)),
    "scale": (lambda: Scale((3,)), (3,)),
    "scale by channel": (lambda: Scale((3, 1, 1)), (3, 6, 6)),
    "actnorm": (lambda: actnorm((1, 5, 7)), (1, 5, 7)),
    "squeeze": (Squeeze, (3, 6, 6)),
    "unsqueeze": (lambda: Inverse(Squeeze()), (12, 3, 3)),
    "additive": (lambda: flat(Additive(), (5,)), (5,)),
    "additive image": (lambda: conv(Additive(), (1, 5, 7)), (1, 5, 7)),
    "affine": (lambda: flat(ScaleShift(), (5,)), (5,)),
    "affine image": (lambda: flat(ScaleShift(), (1, 5, 7)), (1, 5, 7)),
    "affine convolved": (lambda: conv(ScaleShift(), (3, 6, 6)), (3, 6, 6)),
    "lower half": (lambda: half(ScaleShift(), upper=False), (5,)),
    "upper half": (lambda: half(ScaleShift(), upper=True), (5,)),
    "half of the channels": (
        lambda: Coupling(ScaleShift(), ConvNet((2,), 2, 8, 1, context=CONTEXT), 2),
        (4, 3, 5),
    ),
    "sorted": (lambda: Sorted(checkerboard((1, 5, 7), 0)), (1, 5, 7)),
    "1x1 of vectors": (lambda: Invertible1x1(5), (5,)),
    "1x1 of images": (lambda: Invertible1x1(3), (3, 6, 6)),
    "1x1 from a permutation": (lambda: Invertible1x1(6, start="permutation"), (6, 3, 3)),
    "flattened": (lambda: Through(Flatten((3, 2, 5)), flat(ScaleShift(), (30,))), (3, 2, 5)),
    "half": (lambda: OnHalf(conv(ScaleShift(), (2, 3, 5))), (4, 3, 5)),
    "third scale": (lambda: at_scale(2, conv(ScaleShift(), (4, 3, 1))), (1, 12, 4)),
    "sigmoid": (Sigmoid, (5,)),
    "logit": (lambda: Compose(Sigmoid(), Logit(0.05)), (5,)),
    "inverse affine": (lambda: Inverse(flat(ScaleShift(), (5,))), (5,)),
    "composed": (
        lambda: Compose(flat(ScaleShift(), (5,)), actnorm((5,)), flat(Additive(), (5,), 1)),
        (5,),
    ),
}

SHAPES = ((2,), (5,), (1, 5, 7), (3, 6, 6), (1, 16, 4), (2, 17, 3))
"""Of these the last two are convolved by RealNVP and Glow: one at several scales, one is too odd to be."""
SETTINGS = (
    (NICE, {"base": "logistic"}),
    (NICE, {"base": "normal"}),
    (RealNVP, {}),
    (Glow, {"steps": 3, "base": "mixture"}),
)


every_transform = pytest.mark.parametrize("name", TRANSFORMS)
every_model = pytest.mark.parametrize(("cls", "settings"), SETTINGS, ids=str)
precise = pytest.mark.parametrize(
    ("dtype", "error"), [(torch.float64, 1e-10), (torch.float32, 1e-4)], ids=str
)
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


@every_transform
def test_log_determinant_of_a_transform_is_autograds(name):
    make, shape = TRANSFORMS[name]
    f, x, context = perturbed(make().double()), normal(3, *shape), normal(3, CONTEXT, seed=2)
    _, log_det = f(x, context)
    for i in range(3):
        expected = slogdet(lambda v, i=i: f(v[None], context[i : i + 1])[0], x[i])
        assert abs(log_det[i] - expected) < 1e-8


@every_transform
@precise
def test_inverse_undoes_a_transform_both_ways(name, dtype, error):
    make, shape = TRANSFORMS[name]
    f, x, context = perturbed(make().to(dtype)), normal(8, *shape, dtype=dtype), normal(8, CONTEXT).to(dtype)
    z, _ = f(x, context)
    assert (f.inverse(z, context) - x).abs().max() < error
    z = f(normal(8, *shape, seed=3, dtype=dtype), context.flip(0))[0]  # another z it can reach
    assert (f(f.inverse(z, context), context)[0] - z).abs().max() < error


@every_model
@every_shape
def test_a_models_log_prob_is_its_base_and_autograds_log_determinant(cls, settings, shape):
    x = normal(1, *shape)
    for classes, y in ((CLASSES, torch.tensor([1])), (0, None)):
        m = model(cls, shape, classes, **settings).double()
        volume = slogdet(lambda v, m=m, y=y: m.encode(v[None], y), x[0])
        found = m.log_prob(x, y)
        assert found.kind == "exact"
        assert abs(found.nats - m.flow.base.log_prob(m.encode(x, y)) - volume) < 1e-8


@every_model
@every_shape
@precise
def test_decode_undoes_encode(cls, settings, shape, dtype, error):
    m, y = model(cls, shape, **settings).to(dtype), torch.tensor([0, 1, 2, 3])
    x = normal(4, *shape, dtype=dtype)
    z = m.encode(x, y)
    assert z.shape == (4, math.prod(shape))
    assert (m.decode(z, y) - x).abs().max() < error


@every_model
@every_shape
def test_a_trajectory_begins_at_the_code_of_its_sample(cls, settings, shape):
    m, y = model(cls, shape, **settings), torch.tensor([0, 1, 2, 3])
    states = list(m.trajectory(4, y, generator=torch.Generator().manual_seed(0)))
    assert all(state.shape == (4, *shape) for state in states)
    assert (m.encode(states[-1], y) - states[0].flatten(1)).abs().max() < 1e-3  # float32, twelve couplings


@every_shape
def test_couplings_of_nice_preserve_volume_exactly(shape):
    """Only the diagonal scale has a log-determinant, and that is the same everywhere."""
    m, x, y = model(NICE, shape), normal(6, *shape, dtype=torch.float32), torch.tensor([0, 1, 2, 3, 0, 1])
    *couplings, scale = m.flow.transform.parts
    context, moved = m.flow.context(y, 6), 0.0
    for block in couplings:
        z, log_det = block(x, context)
        assert torch.equal(log_det, torch.zeros(6))
        moved = max(moved, float((z - x).detach().abs().max()))
    assert moved > 0.01
    assert torch.equal(scale(x, context)[1], scale.s.sum().expand(6))


@every_model
def test_two_dimensional_densities_integrate_to_one(cls, settings):
    """Midpoint rule on [-40, 40]^2; the logistic base's tail beyond it holds about 1e-6."""
    m = model(cls, (2,), classes=0, **settings).requires_grad_(False)
    h = 0.06
    line = torch.arange(-40 + h / 2, 40, h)
    total = 0.0
    for row in line.split(100):
        total += float(m.log_prob(torch.cartesian_prod(row, line)).nats.double().exp().sum() * h * h)
    assert abs(total - 1) < 1e-3


@pytest.mark.parametrize(
    ("shape", "parameter", "over"),
    [((5,), (5,), [0]), ((1, 5, 7), (1, 5, 7), [0]), ((3, 6, 6), (3, 1, 1), [0, 2, 3])],
    ids=str,
)
def test_actnorm_starts_where_its_outputs_are_standardised(shape, parameter, over):
    x = 3 * normal(200, *shape) * torch.linspace(0.1, 2, shape[0]).view(-1, *[1] * (len(shape) - 1)) + 7
    f = actnorm(parameter).double()
    z = f.initialize(x)
    assert torch.equal(z, f(x)[0])
    assert z.mean(over).abs().max() < 1e-10
    assert (z.std(over, correction=0) - 1).abs().max() < 1e-10


def test_actnorm_starts_finite_on_a_constant_column():
    f = actnorm((2,))
    z = f.initialize(torch.stack([torch.full((50,), 3.0), normal(50).float()], 1))
    assert z.isfinite().all()
    assert torch.equal(z[:, 0], torch.zeros(50))


def test_realnvp_starts_as_the_gaussian_with_the_datas_diagonal():
    """Couplings start as the identity, so only the data-dependent standardisation is left."""
    x = normal(300, 5) * torch.tensor([0.2, 1, 3, 10, 0.5]) + torch.arange(5)
    m = RealNVP(Space("real", (5,)), width=16).double().eval()
    with torch.no_grad():
        m.initialize(Batch(x))
    expected = torch.distributions.Normal(x.mean(0), x.std(0, correction=0)).log_prob(x).sum(1)
    assert (m.log_prob(x).nats - expected).abs().max() < 1e-8


@every_model
def test_the_loss_is_the_mean_of_minus_log_prob(cls, settings):
    m = model(cls, (5,), unlabelled=0.0, **settings)
    x, y = normal(6, 5).float(), torch.tensor([0, 1, 2, 0, 1, 2])
    loss = m.loss(Batch(x, y), Progress(0, 1)).total
    assert torch.equal(loss, -m.log_prob(x, y).nats.mean())


@every_model
@every_shape
def test_classes_have_densities_of_their_own(cls, settings, shape):
    m, x = model(cls, shape, **settings).requires_grad_(False), normal(1, *shape).float()
    nats = [float(m.log_prob(x, torch.tensor([c])).nats) for c in range(CLASSES + 1)]
    assert len(set(nats)) == CLASSES + 1
    # no label is the null condition; a lone row and a row of indices may differ in the last bits
    assert float(m.log_prob(x).nats) == pytest.approx(nats[CLASSES], rel=1e-5)


def test_log_scales_stay_bounded_far_from_the_data():
    f = perturbed(half(ScaleShift(1.5), upper=True), scale=1.0)
    _, log_det = f(1e6 * normal(50, 5, dtype=torch.float32), normal(50, CONTEXT).float())
    assert log_det.abs().max() <= 1.5 * 3 + 1e-5  # three of the five dimensions move


@every_shape
def test_every_pair_of_masks_moves_every_dimension_once(shape):
    for a, b in mask_pairs(shape, 6):
        assert a.shape == b.shape == shape
        assert torch.equal(a + b, torch.ones(shape))
        assert set(a.unique().tolist()) == {0.0, 1.0}


def test_row_and_column_masks_are_channel_masks_of_the_squeezed_image():
    for parity in (0, 1):
        channels = halves((4, 3, 4), parity)
        assert torch.equal(Squeeze().inverse(channels[None])[0], stripes((1, 6, 8), parity, 1))
        channels = stripes((4, 3, 4), parity, 0)
        assert torch.equal(Squeeze().inverse(channels[None])[0], stripes((1, 6, 8), parity, 2))
