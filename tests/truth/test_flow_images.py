"""Flows of images: bases, scales, learnt rotations, temperature, conditions, and the noise on grey levels."""

import math

import pytest
import torch
from flow_checks import CLASSES, model, normal, perturbed, slogdet
from torch import Tensor

from pangen.codecs.images import Dequantise, Grid
from pangen.errors import PangenError
from pangen.families.flow.flow import FlowModel
from pangen.families.flow.glow import Glow
from pangen.families.flow.nice import NICE
from pangen.families.flow.realnvp import RealNVP
from pangen.networks.bijections import (
    Dequantiser,
    Flow,
    Invertible1x1,
    Logit,
    ScaleShift,
    Sigmoid,
    Squeeze,
    Transform,
    at_scale,
    checkerboard,
    flat_pair,
    halvings,
    make_base,
    scaled_shape,
)
from pangen.networks.labels import hide
from pangen.networks.roles import Condition
from pangen.space import Batch, Progress, Space

FLOWS = (NICE, RealNVP, Glow)
every_flow = pytest.mark.parametrize("cls", FLOWS, ids=lambda cls: cls.__name__)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -- bases -------------------------------------------------------------------------------------------


def mixture_1d():
    """Two Gaussians of weights 1/4 and 3/4, and their distribution function."""
    base = make_base("mixture", (1,))
    for name, value in {
        "logits": torch.tensor([1.0, 3.0]).log(), "means": torch.tensor([[-2.0], [1.0]]),
        "log_deviations": torch.tensor([[0.5], [2.0]]).log(),
    }.items():  # fmt: skip
        setattr(base, name, torch.nn.Parameter(value.double()))
    normals = [torch.distributions.Normal(-2.0, 0.5), torch.distributions.Normal(1.0, 2.0)]
    return base, lambda z: 0.25 * normals[0].cdf(z) + 0.75 * normals[1].cdf(z)


BASES = {
    "normal": (lambda: (make_base("normal", (1,)), torch.special.ndtr), (-40, 40), 1.0),
    "logistic": (lambda: (make_base("logistic", (1,)), torch.sigmoid), (-40, 40), math.pi**2 / 3),
    "uniform": (lambda: (make_base("uniform", (1,)), lambda z: z), (0, 1), 1 / 3),
    "mixture": (mixture_1d, (-40, 40), 0.25 * (0.25 + 4) + 0.75 * (4 + 1)),
}


@pytest.mark.parametrize("name", BASES)
def test_a_base_is_normalised_and_its_draws_follow_it(name):
    make, ends, second_moment = BASES[name]
    base, distribution = make()
    base.requires_grad_(False)
    z = torch.linspace(*ends, 80001, dtype=torch.float64)[:, None]
    p = base.log_prob(z).exp()
    assert abs(torch.trapezoid(p, z[:, 0]) - 1) < 1e-9
    assert abs(torch.trapezoid(p * z[:, 0] ** 2, z[:, 0]) - second_moment) < 1e-6
    n = 20000
    draws = base.sample(n, seeded()).double()[:, 0].sort().values
    # Kolmogorov and Smirnov: a true hypothesis passes 1.95 / sqrt(n) once in a thousand
    assert (distribution(draws) - (torch.arange(n) + 0.5) / n).abs().max() < 1.95 / math.sqrt(n)


@pytest.mark.parametrize("name", ["normal", "logistic", "uniform"])
def test_dimensions_of_a_base_are_independent(name):
    z = normal(5, 2, 3).sigmoid()
    together = make_base(name, (2, 3)).log_prob(z)
    one = sum(make_base(name, (1,)).log_prob(column[:, None]) for column in z.flatten(1).unbind(1))
    assert torch.allclose(together, one, atol=1e-12)


def test_a_mixture_in_many_dimensions_is_torchs():
    base, z = perturbed(make_base("mixture", (2, 3))).double(), normal(7, 2, 3)
    parts = torch.distributions.Independent(
        torch.distributions.Normal(base.means, base.log_deviations.exp()), 1
    )
    weights = torch.distributions.Categorical(logits=base.logits)
    expected = torch.distributions.MixtureSameFamily(weights, parts).log_prob(z.flatten(1))
    assert torch.allclose(base.log_prob(z), expected, atol=1e-12)


@pytest.mark.parametrize("name", ["normal", "logistic"])
def test_the_temperature_multiplies_the_scale_of_z(name):
    base = make_base(name, (3,))
    hot, cold = base.sample(9, seeded()), base.sample(9, seeded(), 0.25)
    assert torch.equal(cold, 0.25 * hot)  # a power of two multiplies exactly


def test_the_temperature_of_a_mixture_is_its_components():
    base, _ = mixture_1d()
    assert set(base.requires_grad_(False).sample(50, seeded(), 0.0).flatten().tolist()) == {-2.0, 1.0}


def test_a_uniform_base_makes_the_density_of_a_logistic_one_and_codes_in_the_unit_cube():
    flows = [model(RealNVP, (5,), base=base).double() for base in ("uniform", "logistic")]
    x, y = normal(6, 5), torch.arange(6) % CLASSES
    nats = [m.log_prob(x, y).nats for m in flows]
    assert torch.allclose(*nats, atol=1e-10)
    z = flows[0].encode(x, y)
    assert z.min() > 0
    assert z.max() < 1
    assert (flows[0].decode(z, y) - x).abs().max() < 1e-8


@every_flow
def test_a_temperature_is_a_setting_of_the_sampler(cls):
    m = model(cls, (5,))
    y = torch.zeros(8, dtype=torch.long)
    first, *_, plain = m.trajectory(8, y, generator=seeded())
    cool, *_ = m.trajectory(8, y, generator=seeded(), temperature=0.5)
    assert torch.equal(cool, 0.5 * first)
    *_, mode = m.trajectory(8, y, generator=seeded(), temperature=0.0)
    assert torch.allclose(mode, m.decode(torch.zeros(8, 5), y), atol=1e-6)
    assert not torch.equal(mode, plain)
    with pytest.raises(PangenError, match="temperature of -1"):
        next(m.trajectory(8, y, generator=seeded(), temperature=-1.0))
    uniform = model(cls, (5,), base="uniform")
    with pytest.raises(PangenError, match="uniform base has no temperature"):
        next(uniform.trajectory(8, y, generator=seeded(), temperature=0.5))


# -- channels and scales -----------------------------------------------------------------------------


def test_the_1x1_convolution_starts_as_a_rotation_and_is_pl_u_s():
    """Orthogonal, so it preserves volume; and moved, its determinant is that of the matrix it multiplies by."""
    f = Invertible1x1(6).double()

    def matrix() -> Tensor:
        return f(torch.eye(6, dtype=torch.float64))[0].T.detach()

    assert (matrix() @ matrix().T - torch.eye(6)).abs().max() < 1e-6  # factors are kept in float32
    assert f.log_s.sum().abs() < 1e-6
    perturbed(f, 0.5)
    assert abs(torch.linalg.slogdet(matrix()).logabsdet - f.log_s.sum()) < 1e-12
    x = normal(2, 6, 3, 4)
    assert torch.allclose(f(x)[0], torch.einsum("ij,bjhw->bihw", matrix(), x), atol=1e-12)
    assert torch.allclose(f(x)[1], 12 * f.log_s.sum().expand(2))
    f.s.data += 1e9
    assert f.log_s.max() <= f.bound


def test_squeezed_channels_of_a_pixel_stay_together():
    x = torch.arange(24.0).view(1, 2, 2, 6)
    z, log_det = Squeeze()(x)
    assert z.shape == (1, 8, 1, 3)
    assert torch.equal(z[0, :2, 0, 1], x[0, :, 0, 2])
    assert torch.equal(log_det, torch.zeros(1))


class Counted(Transform):
    """Doubles: each dimension that goes through has a log-determinant of log 2."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return 2 * x, torch.full((len(x),), math.log(2) * x[0].numel())

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return z / 2


@pytest.mark.parametrize(("shape", "scales"), [((1, 28, 28), 3), ((3, 32, 32), 4), ((2, 8, 4), 3)], ids=str)
def test_volumes_of_scales_add_up_and_what_left_stays(shape, scales):
    """Of D dimensions D / 2^s reach scale s: each is doubled once for every scale it reaches."""
    D, z, total = math.prod(shape), torch.ones(2, *shape), torch.zeros(2)
    for scale in range(scales):
        assert math.prod(scaled_shape(shape, scale)) == D // 2**scale
        before = z
        z, log_det = at_scale(scale, Counted())(z)
        left = before == z
        assert int(left[0].sum()) == D - D // 2**scale
        assert torch.allclose(log_det, torch.tensor(math.log(2) * D / 2**scale))
        total = total + log_det
    assert torch.allclose(total, z.log().flatten(1).sum(1), rtol=1e-5)
    counts = {2.0 ** (s + 1): D // 2 ** (s + 1) for s in range(scales)} | {
        2.0**scales: D // 2 ** (scales - 1)
    }
    assert {float(v): int((z[0] == v).sum()) for v in z.unique()} == counts


def test_images_are_halved_while_both_sides_are_even():
    assert [halvings((1, *size), 3) for size in ((28, 28), (32, 32), (32, 20), (17, 16), (64, 64))] == [
        2,
        3,
        2,
        0,
        3,
    ]


def test_a_glow_scale_leaves_half_the_dimensions_to_z_as_they_are():
    """The second scale moves what stayed, and no entry of what left."""
    m, x = model(Glow, (3, 16, 16), steps=2), normal(2, 3, 16, 16).float()
    first, second, *_ = m.flow.transform.parts
    assert len(m.flow.transform.parts) == 3
    context = m.flow.context(torch.tensor([0, 1]), 2)
    h, _ = first(x, context)
    z, _ = second(h, context)
    stayed, left = zip(*(Squeeze()(t)[0].chunk(2, 1) for t in (h, z)), strict=True)
    assert torch.equal(*left)
    assert (stayed[0] - stayed[1]).abs().min() > 0


def test_glow_predicts_what_leaves_from_what_stays():
    """Without its learned prior, the last coupling of a scale, Glow has fewer parameters and no other z."""
    with_, without = (model(Glow, (1, 16, 4), steps=1, learned_prior=p) for p in (True, False))
    blocks = [m.flow.transform.parts[0].inner.parts for m in (with_, without)]
    assert len(blocks[0]) == len(blocks[1]) + 1
    assert sum(p.numel() for p in with_.parameters()) > sum(p.numel() for p in without.parameters())


@every_flow
@pytest.mark.parametrize("shape", [(1, 16, 4), (2, 17, 3), (1, 5, 7)], ids=str)
def test_data_dependent_starts_are_finite_and_standardise(cls, shape):
    m = cls(Space("real", shape), width=16).eval()
    x = 5 * normal(64, *shape).float() + 3
    with torch.no_grad():
        m.initialize(Batch(x))
        z = m.encode(x)
    assert z.isfinite().all()
    assert abs(float(z.mean())) < 0.1
    assert 0.9 < float(z.std()) < 1.1


# -- conditions ----------------------------------------------------------------------------------------


def test_a_flow_is_told_a_vector_as_it_is_told_a_class():
    space = Space("real", (4,), condition=Space("real", (3,)))
    pair = flat_pair(ScaleShift(), checkerboard((4,), 0), 8, context=6)
    f = perturbed(Flow(space, [pair], 6)).double()
    x, y = normal(3, 4), normal(3, 3, seed=2)
    for i in range(3):
        one = y[i : i + 1]
        expected = f.base.log_prob(f.encode(x[i : i + 1], one)) + slogdet(
            lambda v, one=one: f.encode(v[None], one), x[i]
        )
        assert abs(f.log_prob(x, y)[i] - expected) < 1e-8
    assert (f.decode(f.encode(x, y), y) - x).abs().max() < 1e-10
    assert (f.log_prob(x, y) - f.log_prob(x, y + 1)).abs().min() > 1e-6
    assert torch.allclose(f.log_prob(x, torch.full_like(y, torch.nan)), f.log_prob(x))


def test_the_null_of_a_vector_has_a_gradient_and_leaves_others_alone():
    condition = Condition(Space("real", (4,), condition=Space("real", (3,))), 6)
    y = normal(4, 3).float()
    y[1] = torch.nan
    out = condition(y, 4)
    assert torch.equal(out[1], condition(None, 1)[0])
    out.sum().backward()
    assert all(p.grad.isfinite().all() for p in condition.parameters())
    assert torch.equal(out[[0, 2, 3]], condition(y[[0, 2, 3]], 3))


def test_hidden_vectors_are_null_and_others_untouched():
    space = Space("real", (4,), condition=Space("real", (3,)))
    y = normal(1000, 3)
    hidden = hide(y, space, 0.3)
    gone = hidden.isnan().all(1)
    assert torch.equal(hidden[~gone], y[~gone])
    assert not hidden[~gone].isnan().any()
    assert abs(float(gone.double().mean()) - 0.3) < 0.05  # 3.4 standard errors


@every_flow
def test_a_flow_model_of_vectors_given_vectors_trains(cls):
    m = cls(Space("real", (4,), condition=Space("real", (3,))), width=16)
    batch = Batch(normal(32, 4).float(), normal(32, 3, seed=2).float())
    m.initialize(batch)
    m.loss(batch, Progress(0, 1)).total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in m.parameters())


# -- grey levels ---------------------------------------------------------------------------------------


class Still(FlowModel):
    """No block at all: z is x, and the logistic base of a logit is the uniform law of its pixel."""

    def __init__(self, space: Space, base: str = "logistic", **settings) -> None:
        super().__init__(space, [], width=16, base=base, unlabelled=0.0, **settings)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_a_uniform_model_costs_exactly_the_bits_of_the_levels(levels):
    """Logistic after an alpha-free logit is uniform over levels, whatever the noise, and so is each bound."""
    raw = torch.randint(levels, (6, 1, 4, 4), generator=seeded(), dtype=torch.uint8)
    codec = Dequantise(shape=(1, 4, 4), levels=levels, alpha=0.0)
    x, volume = codec.encode(raw, generator=seeded(1))
    nats = Still(codec.space).log_prob(x.double()).nats + volume.double()
    assert torch.allclose(-nats / (16 * math.log(2)), torch.tensor(math.log2(levels)).double(), atol=2e-4)
    grid = Grid(shape=(1, 4, 4), levels=levels)
    m = Still(grid.space)
    m.dequantiser.logit.alpha = 0.0
    found = m.log_prob(grid.encode(raw).x.double(), generator=seeded(1))
    assert found.kind == "lower bound"
    assert torch.allclose(
        -found.nats / (16 * math.log(2)), torch.tensor(math.log2(levels)).double(), atol=1e-6
    )


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_uniform_noise_on_a_grid_is_the_codec_that_dequantises(levels):
    """The same model, x and noise give the same likelihood behind either codec."""
    raw = torch.randint(levels, (6, 1, 5, 7), generator=seeded(), dtype=torch.uint8)
    grid, codec = Grid(shape=(1, 5, 7), levels=levels), Dequantise(shape=(1, 5, 7), levels=levels)
    inside = model(RealNVP, (1, 5, 7), levels=levels, dequantisation="uniform", classes=0)
    outside = model(RealNVP, (1, 5, 7), classes=0)
    outside.load_state_dict(inside.state_dict())
    x, volume = codec.encode(raw, generator=seeded(3))
    expected = outside.log_prob(x).nats + volume
    found = inside.log_prob(grid.encode(raw).x, generator=seeded(3))
    assert torch.allclose(found.nats, expected, rtol=1e-5)


@pytest.mark.parametrize("shape", [(1, 5, 7), (1, 16, 4)], ids=str)
def test_learnt_noise_starts_uniform_and_its_density_is_autograds(shape):
    space = Space("real", shape, levels=5)
    x = torch.randint(5, (2, *shape), generator=seeded()) / 2 - 1.0
    plain, learnt = (Dequantiser(space, kind, 32).double() for kind in ("uniform", "variational"))
    a, b = plain(x.double(), seeded()), learnt(x.double(), seeded())
    assert all(torch.allclose(*pair, atol=1e-9) for pair in zip(a, b, strict=True))
    perturbed(learnt)
    u = normal(2, *shape).sigmoid()
    found = learnt.q(u, x.double())
    expected = slogdet(lambda v: learnt.q(v[None], x[:1].double())[0], u[0])
    assert abs(found[1][0] - expected) < 1e-8
    assert found[0].min() > 0
    assert found[0].max() < 1
    assert (found[0] - learnt.q(u, -x.double())[0]).abs().max() > 1e-3  # it looks at x


def test_the_bound_of_learnt_noise_is_below_the_truth_and_its_weights_average_to_it():
    """Two pixels of two levels: log P by quadrature of the flow over the level's cell."""
    torch.manual_seed(0)
    space = Space("real", (1, 1, 2), levels=2)
    m = perturbed(RealNVP(space, width=16, dropout=0.0)).double().requires_grad_(False)
    x = torch.tensor([-1.0, 1.0]).double().view(1, 1, 1, 2)
    n = 400
    u = (torch.arange(n) + 0.5) / n
    cells = torch.cartesian_prod(u, u).double().view(-1, 1, 1, 2)
    v, log_det = m.dequantiser.logit((m.dequantiser._level(x) + cells) / 2)
    truth = float((m.flow.log_prob(v) + log_det - 2 * math.log(2)).logsumexp(0) - 2 * math.log(n))
    draws = m.log_prob(x.expand(20000, 1, 1, 2), generator=seeded()).nats
    bound, error = float(draws.mean()), float(draws.std()) / math.sqrt(20000)
    assert bound < truth + 4 * error
    # and importance weights of the bound's own terms average to the truth: q is a density
    weights = draws.logsumexp(0) - math.log(20000)
    spread = float((draws - weights).exp().std()) / math.sqrt(20000)
    assert abs(float(weights) - truth) < 4 * spread + 1e-3


def test_learning_the_noise_raises_the_bound():
    """A still model of white pixels on 2 levels: q moves its noise to where the model is dense."""
    torch.manual_seed(0)
    space = Space("real", (1, 2, 2), levels=2)
    m = Still(space, "normal", dequantisation="variational")  # not uniform over a cell
    x = torch.ones(64, 1, 2, 2)
    before = m.log_prob(x, generator=seeded()).nats.mean().detach()
    optimizer = torch.optim.Adam(m.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        m.loss(Batch(x), Progress(0, 1)).total.backward()
        optimizer.step()
    assert m.log_prob(x, generator=seeded()).nats.mean() > before + 0.01


@every_flow
def test_behind_a_grid_samples_and_states_are_on_it_and_codes_are_the_middles(cls):
    m = model(cls, (1, 5, 7), levels=5)
    y = torch.tensor([0, 1, 2])
    for state in m.trajectory(3, y, generator=seeded()):
        assert state.shape == (3, 1, 5, 7)
        assert set(state.unique().tolist()) <= {-1.0, -0.5, 0.0, 0.5, 1.0}
    x = torch.randint(5, (3, 1, 5, 7), generator=seeded()) / 2 - 1.0
    assert torch.equal(m.decode(m.encode(x, y), y), x)


def test_sigmoid_undoes_logit():
    u = normal(5, 3).sigmoid()
    z, up = Logit()(u)
    back, down = Sigmoid()(z)
    assert torch.allclose(back, u, atol=1e-12)
    assert torch.allclose(up, -down, atol=1e-12)
