"""Networks of generators and critics: the classical layers, the unnormalised start, labels at the end, changed pictures."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pangen.errors import PangenError
from pangen.families.adversarial.dcgan import DCGAN
from pangen.families.adversarial.gan import GAN
from pangen.families.adversarial.r3gan import R3GAN
from pangen.networks.augment import FAR, Augment
from pangen.networks.critic import Projection
from pangen.networks.deconvolution import halvings, kernel
from pangen.networks.fourier import RandomFourier
from pangen.networks.unnormalised import Block, Resampled
from pangen.space import Batch, Progress, Space, class_space

COLOUR = Space("real", (3, 8, 8), levels=17)


def test_the_classical_list_of_layers():
    """100 -> 512 -> 256 -> 128 -> 64 -> 3 at 4, 8, 16, 32 and 64 pixels, and back; the popular number of weights."""
    gan = DCGAN(Space("real", (3, 64, 64), levels=256))
    up, down = gan.generator.layers, gan.discriminator.layers
    assert [layer.in_channels for layer in up] == [100, 512, 256, 128, 64]
    assert [layer.out_channels for layer in [*down, gan.discriminator.head]] == [64, 128, 256, 512, 1]
    assert {layer.kernel_size for layer in [*up, *down, gan.discriminator.head]} == {(4, 4)}
    assert [norm.num_features for norm in gan.generator.norms] == [512, 256, 128, 64]
    assert [norm.num_features for norm in gan.discriminator.norms] == [128, 256, 512]
    weights = [sum(p.numel() for p in net.parameters()) for net in (gan.generator, gan.discriminator)]
    assert weights == [3_576_704 + 3, 2_765_568]  # of the popular code, which has no bias in the last layer
    assert gan.generator.layers[1].weight.std().item() == pytest.approx(0.02, rel=0.01)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 33, 20), (1, 5, 7), (2, 4, 4), (1, 1, 9)])
@pytest.mark.parametrize("family", [DCGAN, R3GAN])
def test_images_of_any_size(family, shape):
    gan = family(Space("real", shape, levels=4), channels=32)
    x = gan.generate(gan.draw(3))
    assert x.shape == (3, *shape)
    assert gan.critic(x).shape == (3,)


def test_halving_and_its_transpose_meet():
    for side in range(2, 40):
        assert halvings((1, side, side))[-1][0] <= 4
        half, size = (side + 1) // 2, kernel((side, side))
        x = torch.zeros(1, 1, side, side)
        assert nn.functional.conv2d(x, torch.zeros(1, 1, *size), stride=2, padding=1).shape[2] == half
        back = nn.functional.conv_transpose2d(
            torch.zeros(1, 1, half, half), torch.zeros(1, 1, *size), stride=2, padding=1
        )
        assert back.shape[2] == side


def test_averages_of_batch_statistics_begin_with_data():
    """In evaluation a fresh model does what it does in training, but for chance."""
    gan = DCGAN(COLOUR, channels=16)
    with torch.no_grad():
        gan.initialize(Batch(torch.rand(256, 3, 8, 8)))
        z = gan.draw(256)
        spread = [gan.train(mode).generate(z).std(0).mean().item() for mode in (True, False)]
    assert spread[0] == pytest.approx(spread[1], rel=0.1)


def test_an_unnormalised_block_is_the_identity_at_first_and_keeps_sizes_near():
    torch.manual_seed(0)
    x, block = torch.randn(16, 32, 6, 6), Block(32, 4)
    assert torch.equal(block(x), x)
    first, second, _ = block.layers
    inside = nn.functional.leaky_relu(second(nn.functional.leaky_relu(first(x), 0.2)), 0.2)
    assert inside.square().mean().item() == pytest.approx(
        1 / 4, rel=0.35
    )  # depth^(-1/2) for each of two layers


def test_waves_have_the_frequencies_asked_for_in_any_dimension():
    """Angles of unit-variance x have standard deviation f sqrt(2), f in equal ratios."""
    torch.manual_seed(0)
    for dims in (2, 30):
        angles = torch.randn(20_000, dims) @ RandomFourier(dims, 300, 3.0, 30.0).A
        f = 3 * 10 ** torch.linspace(0, 1, 300)
        # by chance a wave of two dimensions is off by about a half; the mean over 300 of squares by 6 %
        assert (angles / f).square().mean().item() == pytest.approx(2.0, rel=0.2)
        assert (angles[:, 150:] / f[150:]).std().item() == pytest.approx(2**0.5, rel=0.2)


def test_resampling_keeps_a_constant_picture():
    torch.manual_seed(0)
    for side in ((3, 4), (12, 10)):
        found = Resampled(8, 8, side)(torch.full((1, 8, 6, 7), 2.5))
        assert found.shape == (1, 8, *side)
        assert torch.allclose(found, torch.tensor(2.5))


def test_a_projection_scores_the_match_of_label_and_features():
    """psi(h) + <v_y, h>; the null label has a vector too, and all start at zero."""
    space = Space("real", (3,), condition=class_space(4))
    head, h, y = Projection(space, 5), torch.randn(6, 5), torch.tensor([0, 1, 2, 3, 4, 4])
    assert torch.equal(head(h, y), head(h))
    nn.init.normal_(head.v.table.weight)
    expected = head.psi(h)[:, 0] + torch.einsum("nf,nf->n", head.v.table.weight[y], h)
    assert torch.allclose(head(h, y), expected, atol=1e-6)
    assert torch.equal(head(h, y)[4:], head(h)[4:])


def test_a_generator_knows_its_label_and_its_critic_asks_for_it():
    torch.manual_seed(0)
    space = Space("real", (3, 8, 8), levels=17, condition=class_space(4))
    for gan in (R3GAN(space, channels=16), DCGAN(space, channels=8), GAN(space, width=32, told="projection")):
        z = gan.draw(2).expand(2, -1)[:1].repeat(2, 1)
        a, b = gan.eval().generate(z, torch.tensor([0, 1]))
        assert not torch.allclose(a, b)
        for parameter in gan.discriminator.parameters():
            nn.init.normal_(parameter, std=0.1)
        x = torch.randn(1, 3, 8, 8).expand(2, -1, -1, -1)
        one, two = gan.critic(x, torch.tensor([0, 1]))
        assert one != two


def test_bits_of_rounded_training_leave_samples_exact():
    """bfloat16 is of training alone."""
    torch.manual_seed(0)
    gan = DCGAN(COLOUR, channels=16, precision="bfloat16")
    gan.initialize(Batch(torch.zeros(8, 3, 8, 8)))
    z = gan.draw(4)
    exact = gan.eval().generate(z)
    assert torch.equal(exact, gan.eval().generate(z))
    assert exact.dtype == gan.train().generate(z).dtype == torch.float32
    losses = dict(gan.steps(Batch(torch.rand(8, 3, 8, 8)), Progress(0, 1)))
    assert all(loss.total.dtype == torch.float32 for loss in losses.values())


# -- pictures changed -------------------------------------------------------------------------------


def test_augmentation_has_the_gradient_of_what_is_seen():
    torch.manual_seed(0)
    change = Augment(COLOUR, adaptive=False)
    x = torch.rand(200, 3, 8, 8, requires_grad=True)
    seen = change(x)
    assert seen.shape == x.shape
    (gradient,) = torch.autograd.grad(seen.sum(), x)
    unchanged = (seen == x).flatten(1).all(1)
    assert unchanged.double().mean().item() == pytest.approx(0.2**3, abs=0.03)  # none of three kinds
    covered = (seen == 0).all(1).flatten(1).double().mean(1)
    assert covered.max() <= 0.25  # a quarter of a picture at most
    assert torch.equal(gradient[unchanged], torch.ones_like(gradient[unchanged]))


def test_moves_are_whole_pixels_and_bits_stay_bits():
    torch.manual_seed(0)
    space = Space("binary", (1, 16, 16), levels=2)
    change, x = Augment(space, adaptive=False), torch.zeros(300, 1, 16, 16)
    x[:, 0, 8, 8] = 1
    moved = change._move(x)
    rows, columns = moved[:, 0].flatten(1).argmax(1) // 16, moved[:, 0].flatten(1).argmax(1) % 16
    assert moved.sum() == 300
    far = int(16 * FAR)
    assert set(rows.tolist()) == set(columns.tolist()) == set(range(8 - far, 8 + far + 1))
    assert set(change(x).unique().tolist()) <= {0.0, 0.5, 1.0}


def test_the_chance_rises_while_the_critic_is_too_sure_and_falls_again():
    change = Augment(COLOUR, adaptive=True)
    x, found = torch.rand(8, 3, 8, 8), []
    assert torch.equal(change(x), x)  # at first never
    for step in range(100):
        change.adapt(torch.full((64,), 3.0), Progress(step, 100))
        found.append(float(change.p))
    assert found[5] == 0 < found[20]  # the sign is a running mean
    assert found[-1] == pytest.approx(0.8)
    for step in range(100):
        change.adapt(torch.randn(64), Progress(step, 100))
    assert float(change.p) < 0.2


def test_vectors_have_nothing_to_augment():
    with pytest.raises(PangenError, match="augment"):
        GAN(Space("real", (3,)), augment="fixed")
