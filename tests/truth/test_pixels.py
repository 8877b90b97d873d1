"""Models of one pixel after another: what a pixel sees, probabilities that sum to 1, a cache that changes nothing."""

from __future__ import annotations

import itertools

import pytest
import torch
from einops import rearrange
from torch.nn.functional import pad

from pangen.errors import PangenError
from pangen.families.autoregressive.pixelcnn import PixelCNN
from pangen.families.autoregressive.pixelrnn import PixelRNN
from pangen.families.autoregressive.pixels import PixelModel
from pangen.networks.pixel import FIRST, GatedLayer, GatedStacks
from pangen.networks.pixel_recurrent import DiagonalBiLSTM, RecurrentLayers, RowLSTM, skew, unskew
from pangen.samplers.tokens import inverse_cdf
from pangen.space import Batch, Progress, Space, class_space

BINARY = Space("binary", (1, 2, 3), levels=2, condition=class_space(2))
LEVELS = Space("tokens", (1, 2, 2), levels=4, condition=class_space(2))
COLOURS = Space("tokens", (3, 1, 1), levels=5)
GRID = Space("real", (3, 1, 1), levels=6)
PAIR = Space("real", (2, 1, 2), levels=4)
SOFTMAX = (PAIR, {"observation": "categorical"})
SUMMED = [(space, {}) for space in (BINARY, LEVELS, COLOURS, GRID, PAIR)] + [SOFTMAX]
DRAWN = [
    (Space("binary", (1, 5, 4), levels=2, condition=class_space(3)), {}),
    (Space("tokens", (3, 4, 3), levels=5, condition=class_space(3)), {}),
    (Space("real", (2, 3, 4), levels=7, condition=class_space(3)), {}),
    (Space("real", (1, 3, 3), levels=7, condition=class_space(3)), {"observation": "categorical"}),
]

MODELS = {
    "pixelcnn": (PixelCNN, {}),
    "pixelrnn by rows": (PixelRNN, {"cell": "row"}),
    "pixelrnn by diagonals": (PixelRNN, {"cell": "diagonal"}),
}
each = pytest.mark.parametrize("name", MODELS)


@pytest.fixture(autouse=True)
def double():
    """Truths to more digits than float32 has."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def shaken(name: str, space: Space, **how) -> PixelModel:
    """Weights far enough from their start that every term counts, and no outcome is certain."""
    torch.manual_seed(1)
    family, settings = MODELS[name]
    model = family(space, **{"channels": 8, "depth": 2, **settings, **how})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return model.eval().requires_grad_(False)


def everything(model: PixelModel) -> torch.Tensor:
    """Every example of a small space."""
    states = itertools.product(range(model.space.levels), repeat=model.space.dims)
    return model.values[torch.tensor(list(states)).view(-1, *model.space.shape)]


def labels(space: Space, n: int) -> list[torch.Tensor | None]:
    return [None, *(torch.full((n,), y) for y in range(space.classes + 1 if space.classes else 0))]


@each
@pytest.mark.parametrize(("space", "how"), SUMMED)
def test_probabilities_sum_to_one(name, space, how):
    """Over all images, or over all colours of one pixel; in every class and without one."""
    model = shaken(name, space, **how)
    x = everything(model)
    for y in labels(space, len(x)):
        assert abs(float(model.log_prob(x, y).nats.exp().sum()) - 1) < 1e-6


@pytest.mark.parametrize("kernel", [3, 5])
def test_a_pixel_sees_all_before_it_within_reach_and_nothing_else(kernel):
    """Two rectangles, the rows above and the row to the left, by autograd: no blind spot, and no leak."""
    H, W, depth = 7, 13, 1
    reach = FIRST // 2 + depth * (kernel // 2)
    torch.manual_seed(0)
    stacks = GatedStacks(1, 8, depth, kernel, condition=0, dropout=0.0).eval()
    x = torch.randn(1, 1, H, W, requires_grad=True)
    out = stacks(x).sum((0, 1))
    rows, columns = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    for i, j in itertools.product(range(H), range(W)):
        (seen,) = torch.autograd.grad(out[i, j], x, retain_graph=True)
        above = (rows < i) & (rows >= i - reach) & ((columns - j).abs() <= reach)
        left = (rows == i) & (columns < j) & (columns >= j - reach)
        assert torch.equal(seen[0, 0] != 0, above | left)


@pytest.mark.parametrize("cell", ["row", "diagonal"])
def test_a_recurrent_pixel_sees_what_its_cell_promises(cell):
    """By rows a triangle that widens upwards beside what the first layer sees; by diagonals everything before."""
    H, W, half = 7, 11, FIRST // 2
    torch.manual_seed(0)
    layers = RecurrentLayers(1, 4, 1, cell, condition=0, dropout=0.0).eval()
    x = torch.randn(1, 1, H, W, requires_grad=True)
    out = layers(x).sum((0, 1))
    rows, columns = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    for i, j in itertools.product(range(H), range(W)):
        (seen,) = torch.autograd.grad(out[i, j], x, retain_graph=True)
        expected = (rows < i) | ((rows == i) & (columns < j))
        if cell == "row":
            expected = torch.zeros(H, W, dtype=torch.bool)
            for a in range(i + 1):  # a state reads its pixel and the one to the left, and three states above
                for b in range(max(j - (i - a) - 1, 0), min(j + (i - a), W) + 1):
                    expected[max(a - half, 0) : a, max(b - half, 0) : b + half + 1] = True
                    expected[a, max(b - half, 0) : b] = True
        assert torch.equal(seen[0, 0] != 0, expected)


@pytest.mark.parametrize("layer", [RowLSTM, DiagonalBiLSTM])
def test_a_layer_is_its_recursion(layer):
    """All rows or diagonals at once, against pixel after pixel by the equations."""
    torch.manual_seed(0)
    n, (B, H, W) = 3, (2, 4, 5)
    cell, x = layer(6, n), torch.randn(2, 4, 5, 6)
    zero = torch.zeros(B, n)

    def lstm(gates, c):
        o, f, i, g = gates.chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c

    def by_rows():
        h, c = {}, {}
        for i, j in itertools.product(range(H), range(W)):
            left = x[:, i, j - 1] if j else torch.zeros(B, 6)
            above = torch.cat([h.get((i - 1, k), zero) for k in (j - 1, j, j + 1)], 1)
            gates = cell.read(torch.cat([left, x[:, i, j]], 1)) + cell.pass_on(above)
            h[i, j], c[i, j] = lstm(gates, c.get((i - 1, j), zero))
        return h

    def by_diagonals(run, side):
        h, c = {}, {}
        for i, j in itertools.product(range(H), range(W)[::side]):
            near = torch.cat([h.get((i - 1, j), zero), h.get((i, j - side), zero)], 1)
            gates = cell.read(x[:, i, j]).chunk(2, 1)[run] + near @ cell.pass_on[run]
            h[i, j], c[i, j] = lstm(gates, c.get((i, j - side), zero))
        return h

    if layer is RowLSTM:
        expected = by_rows()
    else:
        left, right = by_diagonals(0, 1), by_diagonals(1, -1)
        expected = {(i, j): left[i, j] + right.get((i - 1, j), zero) for i, j in left}
    found = cell(x)
    for (i, j), h in expected.items():
        assert torch.allclose(found[:, i, j], h, atol=1e-12)


def test_skewing_moves_each_row_by_its_number():
    x = torch.arange(1.0, 13).view(3, 4, 1)
    skewed = skew(x)[..., 0]
    for i in range(3):
        assert torch.equal(skewed[i], torch.cat([torch.zeros(i), x[i, :, 0], torch.zeros(2 - i)]))
    assert torch.equal(unskew(skew(x), 4), x)


@pytest.mark.parametrize("name", ["pixelcnn", "pixelrnn by diagonals"])
@pytest.mark.parametrize("shape", [(1, 5, 6), (3, 3, 4)])
@pytest.mark.parametrize("kind", ["tokens", "real"])
def test_values_come_one_after_the_other(name, shape, kind):
    """Each conditional moves with every value before it, pixel by pixel and colour by colour, and no other."""
    model = shaken(name, Space(kind, shape, levels=4))
    torch.manual_seed(0)
    x = model.values[torch.randint(4, (1, *shape))]
    raw = rearrange(model.raw(x, None), "b n c h w -> b (h w c) n")
    order = torch.arange(model.space.dims).view(*shape[1:], shape[0]).permute(2, 0, 1)
    for place in range(model.space.dims):
        other = torch.where(order == place, model.values[(model.levels(x) + 1) % 4], x)
        moved = (rearrange(model.raw(other, None), "b n c h w -> b (h w c) n") != raw).any(-1)[0]
        assert not moved[: place + 1].any()
        assert moved[place + 1 :].all()


def test_padded_kernels_are_masked_kernels():
    """A layer is the square convolution under the masks of the paper, the vertical one shifted by a row at first."""
    torch.manual_seed(0)
    layer = GatedLayer(2, 4, 5, first=False, condition=0, dropout=0.0)
    x = torch.randn(3, 2, 6, 7)
    square = torch.zeros(8, 2, 5, 5)
    square[:, :, :3] = layer.vertical.weight
    mine = layer.vertical(pad(x, layer.above))
    masked = torch.nn.functional.conv2d(x, square, layer.vertical.bias, padding=2)
    assert torch.allclose(mine, masked, atol=1e-12)
    square = torch.zeros(8, 2, 5, 5)
    square[:, :, 2:3, :3] = layer.horizontal.weight
    mine = layer.horizontal(pad(x, layer.before))
    masked = torch.nn.functional.conv2d(x, square, layer.horizontal.bias, padding=2)
    assert torch.allclose(mine, masked, atol=1e-12)


@pytest.mark.parametrize(("space", "how"), DRAWN)
@pytest.mark.parametrize(
    ("name", "size"),
    [("pixelcnn", {"kernel": k}) for k in (1, 3, 5)] + [(name, {}) for name in list(MODELS)[1:]],
)
def test_log_prob_is_the_sum_of_the_cached_conditionals(name, size, space, how):
    model, n = shaken(name, space, **size, **how), 4
    torch.manual_seed(0)
    x, y = model.values[torch.randint(space.levels, (n, *space.shape))], torch.arange(n)
    tokens, cache, total = rearrange(model.levels(x), "b c h w -> b (h w c)"), None, torch.zeros(n)
    for t in range(space.dims):
        logits, cache = model.next_logits(tokens[:, :t], cache, y)
        assert logits.shape == (n, space.levels)
        total += logits.log_softmax(1).gather(1, tokens[:, t : t + 1])[:, 0]
    assert torch.allclose(total, model.log_prob(x, y).nats, atol=1e-9)
    _, cache = model.next_logits(tokens[:, :1], None, y)  # several at once, after one
    again, _ = model.next_logits(tokens[:, : space.dims - 1], cache, y)
    assert torch.allclose(again, logits, atol=1e-9)


@each
@pytest.mark.parametrize(("space", "how"), DRAWN)
def test_cached_samples_are_naive_samples(name, space, how):
    """The whole network again for each value, with the same noise, draws the same images."""
    model, n = shaken(name, space, **how), 6
    C, _, W = space.shape
    y = torch.arange(n) % (space.classes + 1)
    mine = list(model.trajectory(n, y, generator=torch.Generator().manual_seed(3)))[-1]
    u = torch.rand(space.dims, n, generator=torch.Generator().manual_seed(3))
    x = model.values[torch.zeros(n, *space.shape, dtype=torch.long)]
    for t in range(space.dims):
        (i, j), c = divmod(t // C, W), t % C
        # the distribution of one value, from that of all
        logits = model.logits(model.raw(x, y)[:, :, c, i, j])
        x[:, c, i, j] = model.values[inverse_cdf(logits, u[t])]
    assert torch.equal(mine, x)
    assert mine.dtype == (torch.int64 if space.kind == "tokens" else torch.float64)


@each
def test_samples_follow_the_model(name):
    """Frequencies of all 256 images against their probabilities: a chi-square test."""
    model, n = shaken(name, LEVELS), 4096
    model.chunk = 2048
    drawn = model.sample(n, torch.full((n,), 1), seed=0).flatten(1)
    seen = torch.bincount((drawn * 4 ** torch.arange(3, -1, -1)).sum(1), minlength=256)
    expected = n * model.log_prob(everything(model), torch.full((256,), 1)).nats.exp()
    kept = expected > 5
    degrees = kept.sum()
    assert degrees > 20
    # four standard deviations
    assert ((seen - expected) ** 2 / expected)[kept].sum() < degrees + 4 * (2 * degrees) ** 0.5


@each
@pytest.mark.parametrize("space", [BINARY, LEVELS])
def test_classes_differ_and_no_class_is_the_null(name, space):
    model = shaken(name, space)
    x = everything(model)
    a, b, null = (model.log_prob(x, torch.full((len(x),), y)).nats for y in range(3))
    assert not torch.allclose(a, b, atol=0.1)
    assert torch.equal(model.log_prob(x).nats, null)
    cached = [
        model.next_logits(torch.zeros(1, 0, dtype=torch.long), None, y)[0] for y in (None, torch.tensor([2]))
    ]
    assert torch.equal(*cached)


def test_logits_start_at_the_frequencies_of_the_data():
    """Of each position; raw numbers that are no logits start at zero."""
    model = PixelCNN(LEVELS, channels=4, depth=0)
    x = torch.zeros(10_000, 1, 2, 2, dtype=torch.long)
    x[:2_500, 0, 0, 1] = 3
    model.initialize(Batch(x))
    p = model.bias.softmax(0)
    assert torch.allclose(p[3, 0, 0, 1], torch.tensor(0.25), atol=1e-3)  # 4 pseudo-counts in 10,000
    assert torch.allclose(p[0, 0, 0, 0], torch.tensor(1.0), atol=1e-3)
    grid = PixelCNN(PAIR, channels=4, depth=0)
    grid.initialize(Batch(torch.zeros(5, *PAIR.shape)))
    assert not grid.bias.any()


@each
def test_training_hides_some_classes(name):
    x, y = torch.zeros(16, 1, 2, 2, dtype=torch.long), torch.zeros(16, dtype=torch.long)
    model = shaken(name, LEVELS, unlabelled=1.0, dropout=0.0).train()
    loss = float(model.loss(Batch(x, y), Progress(0, 1)).total) * LEVELS.dims
    assert abs(loss + float(model.log_prob(x).nats.mean())) < 1e-9


@each
def test_rounded_products_are_for_training_alone(name):
    x = torch.zeros(2, *BINARY.shape)
    full, rounded = (shaken(name, BINARY, precision=p, dropout=0.0) for p in ("full", "bfloat16"))
    assert torch.equal(full.log_prob(x).nats, rounded.log_prob(x).nats)
    a, b = (m.float().train().log_prob(x.float()).nats for m in (full, rounded))
    assert not torch.equal(a, b)
    assert torch.allclose(a, b, rtol=0.02)  # bfloat16 keeps 8 bits


def test_an_even_kernel_is_refused():
    with pytest.raises(PangenError, match="no middle"):
        PixelCNN(LEVELS, kernel=4)
