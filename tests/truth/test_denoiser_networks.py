"""Networks of denoisers: Transformers over patches, U-Nets of one side and two, and the settings that choose them."""

import pytest
import torch

from pangen.errors import PangenError
from pangen.families.consistency.consistency import Consistency
from pangen.families.diffusion.ddpm import DDPM
from pangen.families.diffusion.edm import EDM
from pangen.families.diffusion.flow_matching import FlowMatching
from pangen.families.diffusion.score import Score
from pangen.families.diffusion.vdm import VDM
from pangen.networks.conv import UNet
from pangen.networks.dit import DiT, DiTBlock, modulated, places
from pangen.networks.mlp import ResidualMLP
from pangen.networks.patches import Patches, patch_for
from pangen.networks.roles import Architecture, Denoiser
from pangen.space import Batch, Progress, Space, class_space

SHAPES = [(1, 8, 8), (3, 17, 30), (2, 5, 1), (1, 31), (2, 1001), (7,), (70,)]
"""Square, odd and long images, rows of an odd length, vectors."""
GAUSSIAN = [DDPM, EDM, Score, FlowMatching, VDM]


def shaken(net: torch.nn.Module) -> torch.nn.Module:
    """In float64 and with no weight at zero, as after training."""
    torch.manual_seed(0)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return net.double().eval()


def told(n: int, width: int = 16) -> torch.Tensor:
    return torch.randn(n, width, dtype=torch.float64)


# -- patches ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("patch", [1, 2, 3])
def test_patches_hold_every_number_once_and_come_back(shape, patch):
    cut, x = Patches(shape, patch), 1 + torch.rand(2, *shape)
    found = cut(x)
    assert found.shape == (2, cut.size, *cut.grid)
    assert torch.equal(found[found != 0].sort().values, x.flatten().sort().values)  # the others fill up
    assert torch.equal(cut.inverse(found), x)


def test_a_place_holds_its_patch():
    x = torch.arange(70.0).view(1, 2, 7, 5)
    assert torch.equal(Patches((2, 7, 5), 2)(x)[0, :, 1, 0].view(2, 2, 2), x[0, :, 2:4, :2])
    row = torch.arange(10.0).view(1, 2, 5)
    assert Patches((2, 5), 2)(row)[0, :, 2].tolist() == [4, 0, 9, 0]


def test_patches_are_the_smallest_that_leave_few_places():
    shapes = ((1, 8, 8), (1, 28, 28), (3, 32, 32), (1, 8000), (64,))
    assert [patch_for(shape, 64) for shape in shapes] == [1, 4, 4, 125, 1]
    with pytest.raises(PangenError, match="give at most 7"):
        Patches((1, 7, 5), 8)


# -- the diffusion Transformer ----------------------------------------------------------------------


def test_blocks_start_as_the_identity():
    """adaLN-Zero, Peebles and Xie 2023, Section 3.2: whatever the condition; the output starts at zero."""
    h = torch.randn(3, 5, 16)
    assert torch.equal(DiTBlock(16, 2, 16)(h, torch.randn(3, 16)), h)
    net, x = DiT((5,), 2, 2, 16, 3, condition=16), torch.randn(3, 2, 5)
    assert not net(x, torch.randn(3, 16)).any()
    net.head.reset_parameters()  # what is left is a linear map of each patch and its place
    tokens = net.embed(x.mT) + net.places
    assert torch.allclose(net(x, torch.randn(3, 16)), net.head(modulated(tokens, 0.0, 0.0)).mT, atol=1e-6)


def test_a_block_is_the_formula_of_the_paper():
    """h + gate attention(norm(h) (1 + scale) + shift), then the same of the MLP; six parts of one linear map."""
    block = shaken(DiTBlock(16, 2, 16))
    h, c = torch.randn(3, 5, 16, dtype=torch.float64), told(3)
    parts = (block.told.weight @ c.T + block.told.bias[:, None]).T.view(3, 6, 1, 16).unbind(1)

    def norm(h):
        return (h - h.mean(2, keepdim=True)) / (h.var(2, correction=0, keepdim=True) + 1e-5).sqrt()

    h1 = h + parts[2] * block.attention(norm(h) * (1 + parts[1]) + parts[0])
    inner = torch.nn.functional.gelu(block.widen(norm(h1) * (1 + parts[4]) + parts[3]))
    assert torch.allclose(block(h, c), h1 + parts[5] * block.narrow(inner), atol=1e-12)


def test_places_are_told_apart_by_their_coordinates_alone():
    """Tokens that change places with their positions change places in the output; no two positions are one."""
    net, x, c = shaken(DiT((3, 4), 2, 2, 16, 2, condition=16)), torch.randn(2, 2, 3, 4).double(), told(2)
    order, found = torch.randperm(12), net(x, c).flatten(2)
    moved = x.flatten(2)[:, :, order].view(2, 2, 3, 4)
    assert not torch.allclose(net(moved, c).flatten(2), found[:, :, order], atol=1e-6)
    net.places = net.places[order]
    assert torch.allclose(net(moved, c).flatten(2), found[:, :, order], atol=1e-12)
    for grid, width in (((3, 4), 16), ((9,), 7), ((5, 1), 9)):
        found = places(grid, width)
        assert found.shape == (torch.tensor(grid).prod(), width)
        assert len(found.unique(dim=0)) == len(found)


def test_every_patch_looks_at_every_patch():
    """By automatic differentiation: each output depends on each input, across the padding of odd sizes too."""
    net = shaken(Denoiser(Space("real", (2, 5, 3)), Architecture(16, "dit", patch=2, depth=1)))
    x, level = torch.randn(1, 2, 5, 3, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: net(x, level), x).view(30, 30)
    assert jacobian.shape == (30, 30)
    assert (jacobian != 0).all()


def test_width_slows_weights_and_changes_nothing_else():
    """Yang et al. 2021: a step that moves all weights alike moves a wide block no more than a narrow one."""
    moved, size = [], []
    for width in (128, 512):
        torch.manual_seed(0)
        block, h, c = DiTBlock(width, 4, width), torch.randn(8, 5, width), torch.randn(8, width)
        with torch.no_grad():
            block.told.bias[2 * width : 3 * width] = 1.0  # the gate of attention is open
            before = block(h, c) - h
            for layer in (block.attention.qkv, block.attention.project):
                layer.weight += 1e-3 * layer.weight.sign()
            moved.append(float((block(h, c) - h - before).square().mean().sqrt()))
        size.append(float(before.square().mean().sqrt()))
    assert size[1] == pytest.approx(size[0], rel=0.1)
    assert moved[1] < 1.1 * moved[0]


# -- any size ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["auto", "dit"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_denoiser_keeps_any_shape_and_mixes_no_rows(shape, network):
    net = shaken(Denoiser(Space("real", shape), Architecture(16, network, depth=1)))
    x, level = torch.randn(3, *shape, dtype=torch.float64), torch.rand(3, dtype=torch.float64)
    found = net(x, level)
    assert found.shape == x.shape
    alone = torch.cat([net(x[i : i + 1], level[i : i + 1]) for i in range(3)])
    assert torch.allclose(alone, found, atol=1e-9)
    others = net(torch.cat([x[:1], x[1:].flip(0)]), torch.cat([level[:1], level[1:].flip(0)]))
    assert torch.equal(others[:1], found[:1])  # to the last bit


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("network", ["auto", "dit"])
@pytest.mark.parametrize("shape", [(7,), (1, 8, 8), (3, 17, 30), (2, 1001)], ids=str)
def test_a_level_of_all_is_told_once(shape, network, classes):
    """It gives what the same number for each example gives, by a network that has read it once."""
    space = Space("real", shape, condition=class_space(classes) if classes else None)
    model = FlowMatching(space, width=16, network=network)
    model.net = shaken(model.net)
    x, y = torch.randn(3, *shape, dtype=torch.float64), torch.tensor([0, 2, 3]) if classes else None
    sigma, read = torch.tensor(0.7, dtype=torch.float64), []
    model.net.net.level.register_forward_pre_hook(lambda _, args: read.append(len(args[0])))
    torch.testing.assert_close(model.denoise(x, sigma.expand(3), y), model.denoise(x, sigma.repeat(3), y))
    assert read == [1, 3]


def test_what_a_space_suggests():
    def kind(shape, **how):
        net = Denoiser(Space("real", shape), Architecture(32, **how))
        return type(net.net), net.patches.grid if net.patches else None

    assert kind((7,)) == kind((1, 8, 8)) == kind((1, 15)) == (ResidualMLP, None)
    assert kind((1, 28, 28)) == (UNet, (28, 28))
    assert kind((1, 1000)) == (UNet, (1000,))
    assert kind((2, 8000)) == (UNet, (1000,))  # eight samples are one place
    assert kind((1, 28, 28), patch=2) == (UNet, (14, 14))
    assert kind((1, 28, 28), network="dit") == (DiT, (6, 6))
    assert kind((7,), network="dit") == (DiT, (4,))
    with pytest.raises(PangenError, match=r"model\.network = dit"):
        kind((7,), patch=2)


def test_depth_counts_blocks():
    def size(depth, **how):
        net = Denoiser(Space("real", (1, 20)), Architecture(32, depth=depth, **how)).net
        return sum(p.numel() for p in net.parameters())

    for network, usual in (("auto", 1), ("dit", 6)):
        assert size(0, network=network) == size(usual, network=network)
        assert (
            size(3, network=network) - size(2, network=network)
            == size(2, network=network) - size(1, network=network)
            > 0
        )


def test_a_u_net_of_one_side_is_one_of_two_sides_along_rows():
    """Of images one pixel high, with kernels that see their row alone, the same numbers come out."""
    one, two = (shaken(UNet(sides, 1, 1, 4, condition=16)) for sides in ((5,), (1, 5)))
    with torch.no_grad():
        for a, b in zip(one.parameters(), two.parameters(), strict=True):
            b.zero_()
            b.copy_(a) if a.shape == b.shape else b[:, :, b.shape[2] // 2].copy_(a)
    x, c = torch.randn(2, 1, 5, dtype=torch.float64), told(2)
    assert torch.allclose(one(x, c), two(x[:, :, None], c)[:, :, 0], atol=1e-12)


# -- in models --------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [*GAUSSIAN, Consistency])
def test_settings_reach_the_network_of_every_model(family):
    model = family(Space("real", (1, 6, 6)), width=16, network="dit", patch=3, depth=2, precision="bfloat16")
    assert model.net.architecture == Architecture(16, "dit", 3, 2, "bfloat16")
    assert len(model.net.net.net.blocks) == 2
    x = torch.randn(4, 1, 6, 6)
    model.initialize(Batch(x))
    assert model.train().loss(Batch(x), Progress(0, 2)).total.dtype == torch.float32


def test_only_training_rounds():
    """bfloat16 keeps 8 bits of a factor: training sees it, and nothing else does."""
    models = []
    for precision in ("full", "bfloat16"):
        torch.manual_seed(0)
        models.append(EDM(Space("real", (1, 20)), width=64, precision=precision))
        torch.nn.init.normal_(models[-1].net.net.net.head.weight, std=0.1)
    x, sigma = torch.randn(4, 1, 20), torch.rand(4)
    for model in models:
        model.eval()
    assert torch.equal(*(model.net.estimate(x, sigma) for model in models))
    for model in models:
        model.train()
    full, rounded = (model.net.estimate(x, sigma) for model in models)
    assert not torch.equal(full, rounded)
    assert torch.allclose(full, rounded, atol=0.05)


def test_a_student_has_its_teachers_network():
    space = Space("real", (1, 6, 6), condition=class_space(2))
    teacher = EDM(space, width=16, network="dit", patch=2, depth=1)
    torch.nn.init.normal_(teacher.net.net.net.head.weight)
    like = Consistency.like(teacher)
    assert like == {"width": 16, "network": "dit", "patch": 2, "depth": 1, "target": "v"}
    student = Consistency(space, method="tune", teacher="a run", **like)
    student.learn_from(teacher)
    x, sigma, y = torch.randn(3, 1, 6, 6), torch.rand(3), torch.tensor([0, 1, 2])
    assert torch.equal(student.net.net(x, sigma, y), teacher.net.net(x, sigma, y))
    other = Consistency(
        space, method="tune", teacher="a run", **{**like, "depth": 2, "network": "auto", "patch": 0}
    )
    with pytest.raises(
        PangenError, match=r"take model.network = dit and model.patch = 2 and model.depth = 1\."
    ):
        other.learn_from(teacher)
