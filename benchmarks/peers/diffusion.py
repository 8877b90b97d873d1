"""`ddpm` beside diffusers' and the textbook's U-Net of equal parameters, and `flow-matching` beside flow_matching.

Grey images 28 x 28 and colour images 32 x 32, 64 to a batch. A step draws levels and noise, predicts the noise by
squared error, clips the gradient's norm and takes Adam's step (fused). The textbook stands for
denoising-diffusion-pytorch, which needs torchvision. Channels of theirs are those whose number of parameters is nearest
to ours. The networks are not alike: ours has one block at each size where theirs have two, and more channels; none has
attention. Samples are 16 images by 10 steps of DDIM. In the plane both sides train the same perceptrons.
Theirs hands a network the time of every point, as its examples do; ours tells it once what is the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from pangen.families.diffusion.ddpm import DDPM
from pangen.families.diffusion.flow_matching import FlowMatching
from pangen.recipes import Training
from pangen.space import Batch, Space
from peers.pair import BOTH, FULL, OURS, TEXTBOOK, Pair, Side, on_the_index, parameters, trained
from peers.unet import Textbook

SHAPES = {"28 x 28 grey": (1, 28, 28), "32 x 32 colour": (3, 32, 32)}
SETTINGS = Training(lr=2e-4, betas=(0.9, 0.999), clip=1.0, ema=0.0)
BATCH, WIDTH, DRAWN, STEPS, POINTS = 64, 512, 16, 10, 256
DIFFUSERS, FLOW_MATCHING = on_the_index("diffusers"), on_the_index("flow_matching")
Make = Callable[[], nn.Module]


def pairs() -> Iterator[Pair]:
    for what, shape in SHAPES.items():
        for peer, kind in ((DIFFUSERS, "diffusers"), (TEXTBOOK, "textbook")):
            for precision, mine, its in (
                (FULL, "full", False),
                (OURS, "bfloat16", False),
                (BOTH, "bfloat16", True),
            ):
                ours, theirs = partial(our_training, shape, mine), partial(their_training, kind, shape, its)
                yield Pair("ddpm", "training", peer, ours, theirs, precision, {"images": what})
        ours, theirs = partial(our_sampling, shape), partial(their_sampling, shape)
        yield Pair("ddpm", "sampling", DIFFUSERS, ours, theirs, FULL, {"images": what, "steps": STEPS})
    for work, ours, theirs in (
        ("training", our_plane, their_plane), ("sampling", our_points, their_points),
    ):  # fmt: skip
        yield Pair("flow-matching", work, FLOW_MATCHING, ours, theirs, FULL, {"points": POINTS})


def ddpm(shape: tuple[int, ...], precision: str) -> DDPM:
    return DDPM(Space("real", shape, levels=256), width=WIDTH, target="eps", precision=precision)


def our_training(shape: tuple[int, ...], precision: str) -> Side:
    x = 2 * torch.rand(BATCH, *shape) - 1
    return trained(ddpm(shape, precision), [Batch(x)], SETTINGS)


def their_training(kind: str, shape: tuple[int, ...], rounds: bool) -> Side:
    """As both libraries' tutorials have it: a linear schedule of 1000 steps, the noise by squared error."""
    net, x = nearest(kind, shape)().train(), 2 * torch.rand(BATCH, *shape) - 1
    keep = (1 - torch.linspace(1e-4, 0.02, 1000)).cumprod(0)
    adam = torch.optim.Adam(net.parameters(), SETTINGS.lr, SETTINGS.betas, fused=True)

    def step() -> Tensor:
        t, e = torch.randint(1000, (len(x),), device=x.device), torch.randn_like(x)
        a = keep[t].view(-1, 1, 1, 1)
        adam.zero_grad()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=rounds):
            found = net(a.sqrt() * x + (1 - a).sqrt() * e, t)
        loss = mse_loss(getattr(found, "sample", found).float(), e)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), SETTINGS.clip)
        adam.step()
        return loss.detach()

    return Side(step, parameters(net))


def our_sampling(shape: tuple[int, ...]) -> Side:
    model = ddpm(shape, "full").eval().requires_grad_(False)
    model.chunk = DRAWN
    return Side(lambda: model.sample(DRAWN, sampler="ddim", steps=STEPS), parameters(model))


def their_sampling(shape: tuple[int, ...]) -> Side:
    from diffusers import DDIMScheduler

    net, scheduler = nearest("diffusers", shape)().eval().requires_grad_(False), DDIMScheduler()
    scheduler.set_timesteps(STEPS)

    @torch.no_grad()
    def draw() -> Tensor:  # the loop of its DDIMPipeline, which would make pictures of them as well
        x = torch.randn(DRAWN, *shape)
        for t in scheduler.timesteps:
            x = scheduler.step(net(x, t).sample, t, x).prev_sample
        return x

    return Side(draw, parameters(net))


@cache
def nearest(kind: str, shape: tuple[int, ...]) -> Make:
    """That of its networks whose number of parameters is nearest to ours."""
    make = {"diffusers": of_diffusers, "textbook": of_the_textbook}[kind]
    with torch.device("meta"):  # counts weights and makes none
        ours = parameters(ddpm(shape, "full"))
        counts = {partial(make, shape, widths): parameters(make(shape, widths)) for widths in channels(8)}
    return min(counts, key=lambda candidate: abs(counts[candidate] - ours))


def channels(step: int) -> Iterator[tuple[int, int, int]]:
    """At three sizes: the coarser ones twice and from two to four times as wide."""
    for c in range(step, 97, step):
        for last in range(2 * c, 4 * c + 1, step):
            yield c, 2 * c, last


def of_diffusers(shape: tuple[int, ...], widths: tuple[int, int, int]) -> nn.Module:
    """`UNet2DModel` of convolutions, two blocks at each of three sizes."""
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=shape[1], in_channels=shape[0], out_channels=shape[0], block_out_channels=widths,
        layers_per_block=2, norm_num_groups=8, add_attention=False,
        down_block_types=("DownBlock2D",) * 3, up_block_types=("UpBlock2D",) * 3,
    )  # fmt: skip


def of_the_textbook(shape: tuple[int, ...], widths: tuple[int, int, int]) -> nn.Module:
    return Textbook(shape[0], widths)


PLANE = Training(lr=1e-3, clip=None, ema=0.0)


def plane() -> tuple[FlowMatching, Tensor]:
    x = torch.randn(POINTS, 2) @ torch.tensor([[1.0, 0.8], [0.0, 0.6]]) + 1
    model = FlowMatching(Space("real", (2,)))
    model.initialize(Batch(x))
    return model, x


def our_plane() -> Side:
    model, x = plane()
    return trained(model, [Batch(x)], PLANE)


class Velocity(nn.Module):
    """The network of ours, called as theirs is: v(x, t)."""

    def __init__(self) -> None:
        super().__init__()
        self.net = plane()[0].net.net

    def forward(self, x: Tensor, t: Tensor, **_: Any) -> Tensor:
        return self.net(x, t.expand(len(x)), None)


def their_plane() -> Side:
    from flow_matching.path import AffineProbPath
    from flow_matching.path.scheduler import CondOTScheduler

    (_, x), v, path = plane(), Velocity().train(), AffineProbPath(scheduler=CondOTScheduler())
    adam = torch.optim.AdamW(v.parameters(), PLANE.lr, fused=True)

    def step() -> float:
        found = path.sample(t=torch.rand(len(x)), x_0=torch.randn_like(x), x_1=x)
        loss = mse_loss(v(found.x_t, found.t), found.dx_t)
        adam.zero_grad()
        loss.backward()
        adam.step()
        return loss.item()

    return Side(step, parameters(v))


def our_points() -> Side:
    model = plane()[0].eval().requires_grad_(False)
    model.chunk = POINTS
    return Side(lambda: model.sample(POINTS, sampler="euler", steps=2 * STEPS), parameters(model))


def their_points() -> Side:
    from flow_matching.solver import ODESolver

    v = Velocity().eval().requires_grad_(False)
    solver = ODESolver(velocity_model=v)
    size = 1 / (2 * STEPS)
    return Side(
        lambda: solver.sample(x_init=torch.randn(POINTS, 2), method="euler", step_size=size), parameters(v)
    )
