"""Flows over vectors: splines against autograd and quadrature, causality, and zuko as an oracle."""

import math
from functools import partial

import pytest
import torch
from flow_checks import CLASSES, normal, perturbed, slogdet
from torch import Tensor, nn

from pangen.families.flow.iaf import IAF
from pangen.families.flow.maf import MAF
from pangen.families.flow.nsf import NSF
from pangen.networks.autoregressive import Autoregressive, MaskedMLP, alternating
from pangen.networks.bijections import Affine, Inverse, Transform, flat_coupling
from pangen.networks.splines import Spline
from pangen.space import Batch, Progress, Space, class_space

CONTEXT = 4
SPLINE = Spline(bins=6, bound=3.0)


def knots(raw: Tensor, spline: Spline) -> tuple[Tensor, Tensor, Tensor]:
    """x, y and derivatives of all knots `(K + 1, N)`, as the paper has them."""
    K, B, least = spline.bins, spline.bound, spline.least
    sizes = 2 * B * (least / K + (1 - least) * raw[: 2 * K].unflatten(0, (2, K)).softmax(1))
    x, y = nn.functional.pad(sizes.cumsum(1), (0, 0, 1, 0)) - B
    inner = nn.functional.softplus(raw[2 * K :] + math.log(math.expm1(1 - least))) + least
    return x, y, nn.functional.pad(inner, (0, 0, 1, 1), value=1.0)


# -- splines -----------------------------------------------------------------------------------------


def test_a_spline_goes_through_its_knots_with_their_derivatives():
    raw = normal(SPLINE.k, 5)
    for x, y, d in zip(*knots(raw, SPLINE), strict=True):
        z, log_slope = SPLINE.forward(x, raw)
        assert (z - y).abs().max() < 1e-12
        assert (log_slope - d.log()).abs().max() < 1e-9
        back, back_slope = SPLINE.inverse(y, raw)
        assert (back - x).abs().max() < 1e-12
        assert (back_slope + d.log()).abs().max() < 1e-9


def test_a_spline_is_equation_4_within_a_bin():
    raw = normal(SPLINE.k, 200)
    x_k, y_k, d = knots(raw, SPLINE)
    b, xi = torch.arange(200) % SPLINE.bins, torch.linspace(0.01, 0.99, 200, dtype=torch.float64)
    (x0, x1), (y0, y1), (d0, d1) = ((t[b, range(200)], t[b + 1, range(200)]) for t in (x_k, y_k, d))
    s = (y1 - y0) / (x1 - x0)
    over = (y1 - y0) * (s * xi**2 + d0 * xi * (1 - xi))
    expected = y0 + over / (s + (d1 + d0 - 2 * s) * xi * (1 - xi))
    assert (SPLINE.forward(x0 + xi * (x1 - x0), raw)[0] - expected).abs().max() < 1e-12


def test_a_spline_rises_and_has_neither_jump_nor_kink():
    """Just before and after each knot, the ends of the tails among them, value and slope agree."""
    raw, step = normal(SPLINE.k, 5), 1e-8
    for x in knots(raw, SPLINE)[0]:
        (before, slope_before), (after, slope_after) = (SPLINE.forward(x + e, raw) for e in (-step, step))
        assert (after - before - step * (slope_before.exp() + slope_after.exp())).abs().max() < 1e-12
        assert (after > before).all()
        assert (slope_after - slope_before).abs().max() < 1e-4  # a curve of 5000 at most
    line = torch.linspace(-4, 4, 2001, dtype=torch.float64)
    z, log_slope = SPLINE.forward(line[:, None].expand(-1, 5).contiguous(), raw[:, None].repeat(1, 2001, 1))
    assert (z.diff(dim=0) > 0).all()
    outside = line.abs() >= SPLINE.bound
    assert torch.equal(z[outside], line[outside, None].expand(-1, 5))
    assert not log_slope[outside].any()


def test_zeros_give_the_identity():
    x = normal(100) * 3
    z, log_slope = SPLINE.forward(x, torch.zeros(SPLINE.k, 100, dtype=torch.float64))
    assert (z - x).abs().max() < 1e-12
    assert log_slope.abs().max() < 1e-12


def test_a_splines_gradients_are_numerical_ones_to_the_second_order():
    x, raw = 2 * normal(4), normal(SPLINE.k, 4, seed=2)  # tails included
    inputs = (x.requires_grad_(), raw.requires_grad_())
    assert torch.autograd.gradcheck(SPLINE.forward, inputs)
    assert torch.autograd.gradgradcheck(SPLINE.forward, inputs)
    assert torch.autograd.gradcheck(SPLINE.inverse, inputs)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=str)
@pytest.mark.parametrize("scale", [1, 10, 1e4])
def test_a_spline_is_safe_where_its_numbers_are_wild(scale, dtype, error):
    """Bins as narrow and slopes as small as they come: all finite, and z survives the way back."""
    spline, raw, x = Spline(), (scale * normal(23, 500)).to(dtype), (2 * normal(500, seed=2)).to(dtype)
    raw.requires_grad_()
    z, log_slope = spline.forward(x.requires_grad_(), raw)
    back, _ = spline.inverse(z.detach(), raw)
    assert back.isfinite().all()
    assert log_slope.isfinite().all()
    gradients = torch.autograd.grad((z + log_slope).sum(), (x, raw))
    assert all(g.isfinite().all() for g in gradients)
    again, slope = spline.forward(back, raw)
    # where the map is steep, a rounding of x is that much of z
    assert ((again - z) / slope.exp().clamp(min=1)).abs().max() < error


# -- transforms --------------------------------------------------------------------------------------


def masked(map_, ranks=(2, 0, 3, 1, 4), context: int = CONTEXT) -> Transform:
    return Autoregressive(map_, MaskedMLP(torch.tensor(ranks), map_.k, 32, context=context))


TRANSFORMS = {
    "affine": partial(masked, Affine()),
    "spline": partial(masked, SPLINE),
    "inverse affine": lambda: Inverse(masked(Affine())),
    "affine coupling": lambda: flat_coupling(Affine(), 5, 2, True, 16, context=CONTEXT),
    "spline coupling": lambda: flat_coupling(SPLINE, 5, 2, False, 16, context=CONTEXT),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_log_determinant_and_inverse_of_a_transform(name):
    f, x, context = perturbed(TRANSFORMS[name]().double()), 2 * normal(6, 5), normal(6, CONTEXT, seed=2)
    z, log_det = f(x, context)
    assert (f.inverse(z, context) - x).abs().max() < 1e-10
    for i in range(3):
        c = context[i : i + 1]
        assert abs(slogdet(lambda v, c=c: f(v[None], c)[0], x[i]) - log_det[i]) < 1e-8
    f, x, context = f.float(), x.float(), context.float()
    assert (f.inverse(f(x, context)[0], context) - x).abs().max() < 1e-4


@pytest.mark.parametrize("map_", [Affine(), SPLINE], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("context", [0, CONTEXT])
def test_dimensions_depend_on_those_of_smaller_rank_alone(map_, context):
    """The Jacobian is triangular in rank order, and below the diagonal nothing is missing."""
    ranks = (2, 0, 3, 1, 4)
    f = perturbed(masked(map_, ranks, context).double(), 1.0)
    c = normal(1, context, seed=2) if context else None
    jacobian = torch.autograd.functional.jacobian(lambda v: f(v[None], c)[0][0], 0.3 * normal(5))
    order = torch.tensor(ranks).argsort()
    sorted_ = jacobian[order][:, order]
    assert not sorted_.triu(1).any()
    assert (sorted_.tril() != 0).sum() == 15


def test_the_way_back_one_by_one_has_the_gradient_of_the_whole():
    """d z / d weights of the inverse, as training in sequence needs it, against numerical ones."""
    f = perturbed(Autoregressive(Affine(), MaskedMLP(torch.arange(3), 2, 6)).double())
    z, weight = normal(2, 3), f.net.enter.weight

    way = Inverse(f)
    total = way(z)[0].square().sum()
    (gradient,) = torch.autograd.grad(total, weight)
    h = 1e-6
    for index in [(0, 0), (4, 1)]:
        with torch.no_grad():
            weight[index] += h
            up = way(z)[0].square().sum()
            weight[index] -= 2 * h
            down = way(z)[0].square().sum()
            weight[index] += h
        assert abs((up - down) / (2 * h) - gradient[index]) < 1e-7


# -- models ------------------------------------------------------------------------------------------

MODELS = (
    (MAF, {}),
    (IAF, {}),
    (NSF, {"kind": "coupling", "bins": 4}),
    (NSF, {"kind": "autoregressive", "bins": 4}),
)
every_model = pytest.mark.parametrize(("cls", "settings"), MODELS, ids=str)


def model(cls: type, shape: tuple[int, ...], classes: int = CLASSES, scale: float = 0.3, **settings):
    torch.manual_seed(0)
    space = Space("real", shape, condition=class_space(classes) if classes else None)
    return perturbed(cls(space, width=16, blocks=2, **settings), scale)


@every_model
@pytest.mark.parametrize("shape", [(1,), (2,), (5,), (1, 3, 4)], ids=str)
def test_log_prob_is_the_bases_and_autograds_log_determinant(cls, settings, shape):
    m, y, x = model(cls, shape, **settings).double(), torch.tensor([1]), normal(1, *shape)
    z = m.encode(x, y)
    base = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum()
    assert abs(m.log_prob(x, y).nats - base - slogdet(lambda v: m.encode(v[None], y), x[0])) < 1e-8
    assert (m.decode(z, y) - x).abs().max() < 1e-10
    m, x = m.float(), normal(6, *shape).float()
    assert (m.decode(m.encode(x, y.expand(6)), y.expand(6)) - x).abs().max() < 1e-4


def plane(m: nn.Module) -> float:
    """The integral of the density by the midpoint rule on [-24, 24]^2, beyond which there is next to nothing."""
    h, total = 0.1, 0.0
    line = torch.arange(-24 + h / 2, 20, h)
    with torch.no_grad():
        for row in line.split(200):
            total += float(m.log_prob(torch.cartesian_prod(row, line)).nats.double().exp().sum() * h * h)
    return total


@every_model
def test_densities_integrate_to_one_before_and_after_training(cls, settings):
    m = model(cls, (2,), classes=0, scale=0.2, **settings)
    assert abs(plane(m) - 1) < 1e-3
    x = normal(256, 2).float() * torch.tensor([1.0, 0.4]) + torch.tensor([0.0, 0.5])
    x[:, 1] += x[:, 0] ** 2 / 2
    optimizer, before = torch.optim.Adam(m.parameters(), 3e-3), float(m.log_prob(x).nats.detach().mean())
    for _ in range(20):
        optimizer.zero_grad()
        m.loss(Batch(x), Progress(0, 1)).total.backward()
        optimizer.step()
    assert float(m.log_prob(x).nats.mean().detach()) > before + 0.1
    assert abs(plane(m) - 1) < 1e-3


@every_model
def test_what_is_far_from_the_data_stays_finite(cls, settings):
    m = model(cls, (3,), classes=0, scale=1.0, **settings)
    far = torch.tensor([1.0, 10.0, 1e2, 1e3, 1e4])[:, None, None]
    x = (
        (far * normal(20, 3, seed=3).sign() * torch.tensor([1.0, 0.3, 1.0]))
        .view(-1, 3)
        .float()
        .requires_grad_()
    )
    nats = m.log_prob(x).nats
    assert nats.isfinite().all()
    assert torch.autograd.grad(nats.sum(), x)[0].isfinite().all()
    assert m.decode(x.detach()).isfinite().all()


@pytest.mark.parametrize("name", ["maf", "nsf"])
def test_zuko_gives_the_same_log_prob_with_the_same_weights(name):
    """Its transforms and base on our networks, whose numbers are put into its parametrisation."""
    zuko = pytest.importorskip("zuko")
    dims, spline = 4, Spline(bins=5, least=1e-3)
    map_ = Affine() if name == "maf" else spline
    layers = [Autoregressive(map_, MaskedMLP(r, map_.k, 16)) for r in alternating(dims, 3)]
    layers = [perturbed(layer.double(), 0.5) for layer in layers]
    x, log_det = normal(50, dims), 0.0

    def univariate(*raw: Tensor):
        if name == "maf":
            mu, alpha = raw[0], 3.0 * torch.tanh(raw[1] / 3.0)
            # soft clipping a / (1 + |a / log slope|) is undone by a / (1 - |a / log slope|)
            a = -alpha / (1 - (alpha / math.log(1e-3)).abs())
            return zuko.transforms.MonotonicAffineTransform(-mu * torch.exp(-alpha), a)
        flat = torch.cat(raw, -1)
        x_k, y_k, d = (
            t.view(-1, *flat.shape[:-1]).movedim(0, -1) for t in knots(flat.flatten(0, -2).T, spline)
        )
        sizes = [t.diff(dim=-1).log() for t in (x_k, y_k)]
        sizes = [t - (t.amax(-1, True) + t.amin(-1, True)) / 2 for t in sizes]
        w, h = (t / (1 - (2 * t / math.log(1e-6)).abs()) for t in sizes)
        d = d[..., 1:-1].log()
        d = d / (1 - (d / math.log(1e-6)).abs())
        return zuko.transforms.MonotonicRQSTransform(w, h, d, bound=spline.bound, slope=1e-6)

    shapes = [(), ()] if name == "maf" else [(5,), (5,), (4,)]
    theirs = zuko.flows.MAF(dims, transforms=3, univariate=univariate, shapes=shapes).double()
    for i, layer in enumerate(layers):
        net = layer.net
        weights = [net.enter, *net.hidden, net.leave]
        sequence: list[nn.Module] = []
        for masked_ in weights:
            linear = nn.Linear(*masked_.weight.shape[::-1]).double()
            linear.weight.data, linear.bias.data = masked_.weight.data * masked_.mask[0], masked_.bias.data
            if masked_ is net.leave:  # ours has a dimension's numbers first, theirs last
                turned = torch.arange(dims * map_.k).view(map_.k, dims).T.flatten()
                linear.weight.data, linear.bias.data = linear.weight.data[turned], linear.bias.data[turned]
            sequence += [linear, nn.ReLU()]
        theirs.transform.transforms[i].hyper = nn.Sequential(*sequence[:-1])
        theirs.transform.transforms[i].univariate = univariate
    z = x
    for layer in layers:
        z, more = layer(z)
        log_det = log_det + more
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1) + log_det
    assert (theirs().log_prob(x) - expected).abs().max() < 1e-9
