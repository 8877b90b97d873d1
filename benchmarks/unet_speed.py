"""A training step of our U-Net beside those of diffusers and of the textbook, of equal parameters: their time over ours.

    python benchmarks/unet_speed.py --pairs 9

Grey images 28 x 28 and colour images 32 x 32, 64 to a batch, sides taking turns. A step draws levels and noise, predicts
the noise by squared error, clips the gradient's norm and takes Adam's step (fused). Theirs are `UNet2DModel` of diffusers,
if it is installed, and a textbook's U-Net after Ho et al. 2020, without attention, which ours has not either; it stands
for denoising-diffusion-pytorch, which needs torchvision and cannot be installed here. Channels of theirs are those whose
number of parameters is nearest to ours; none may be off by more than 5 %. Ours is `ddpm` as it is trained, in float32
beside theirs in float32, and with factors of products rounded to bfloat16 beside theirs so rounded and beside theirs in
float32. The networks are not alike: ours has one block at each size where theirs have two, and more channels.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from ledger import record
from timing import take_turns
from torch import Tensor, nn
from torch.nn.functional import interpolate, mse_loss, silu

from pangen.families.diffusion.ddpm import DDPM
from pangen.recipes import Training
from pangen.space import Batch, Space
from pangen.training.loop import State, train_step

SHAPES = ((1, 28, 28), (3, 32, 32))
SETTINGS = Training(lr=2e-4, betas=(0.9, 0.999), clip=1.0, ema=0.0)
OFF = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--width", type=int, default=512, help="of ours: 16 for each channel at full size")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for shape in SHAPES:
        size = parameters(DDPM(Space("real", shape, levels=256), width=args.width).net.net)
        for name, candidates in (("diffusers", of_diffusers(shape)), ("textbook", of_the_textbook(shape))):
            if candidates is None:
                print(f"{name} is not installed and was left out; `pip install diffusers` brings it.")
                continue
            with torch.device("meta"):  # counts weights and makes none
                counts = {make: parameters(make()) for make in candidates}
            theirs = min(counts, key=lambda make: abs(counts[make] - size))
            off = counts[theirs] / size - 1
            if abs(off) > OFF:
                raise SystemExit(f"{name} has {off:+.1%} of our {size} parameters: take another --width.")
            for mine, its in (("full", "full"), ("bfloat16", "bfloat16"), ("bfloat16", "full")):
                compare(name, theirs, shape, mine, its, size, off, args)


def compare(
    name: str,
    theirs: Callable[[], nn.Module],
    shape: tuple[int, ...],
    mine: str,
    its: str,
    size: int,
    off: float,
    args: argparse.Namespace,
) -> None:
    torch.manual_seed(0)
    began = time.perf_counter()
    x = 2 * torch.rand(args.batch, *shape) - 1
    ratios, a, b = take_turns(our_step(x, args.width, mine), their_step(x, theirs(), its), args.pairs)
    record(
        "unet_speed", ratios, model="ddpm", precision=mine, other=name, its=its, batch=args.batch,
        shape=list(shape), parameters=size, off=round(off, 4), median=round(statistics.median(ratios), 3),
        ours_ms=round(1000 * a), theirs_ms=round(1000 * b),
        metric="the other's time over ours, one value a pair", seconds=time.perf_counter() - began,
    )  # fmt: skip
    who = "Pangen" if a < b else name
    print(
        f"{mine} beside {name} in {its}, {shape}: {who} is faster, {1000 * a:.0f} and {1000 * b:.0f} ms a step."
    )


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def our_step(x: Tensor, width: int, precision: str) -> Callable[[], object]:
    space = Space("real", tuple(x.shape[1:]), levels=256)
    state = State.start(DDPM(space, width=width, target="eps", precision=precision).train(), SETTINGS)
    return lambda: train_step(state, Batch(x), SETTINGS)


def their_step(x: Tensor, net: nn.Module, precision: str) -> Callable[[], object]:
    """As both libraries' tutorials have it: a linear schedule of 1000 steps, the noise by squared error."""
    keep = (1 - torch.linspace(1e-4, 0.02, 1000)).cumprod(0)
    adam = torch.optim.Adam(net.train().parameters(), SETTINGS.lr, SETTINGS.betas, fused=True)

    def step() -> None:
        t, e = torch.randint(1000, (len(x),)), torch.randn_like(x)
        a = keep[t].view(-1, 1, 1, 1)
        adam.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            found = net(a.sqrt() * x + (1 - a).sqrt() * e, t)
        mse_loss(getattr(found, "sample", found).float(), e).backward()
        nn.utils.clip_grad_norm_(net.parameters(), SETTINGS.clip)
        adam.step()

    return step


def channels(step: int) -> Iterator[tuple[int, int, int]]:
    """At three sizes: the coarser ones twice and from two to four times as wide."""
    for c in range(step, 97, step):
        for last in range(2 * c, 4 * c + 1, step):
            yield c, 2 * c, last


def of_diffusers(shape: tuple[int, ...]) -> list[Callable[[], nn.Module]] | None:
    """`UNet2DModel` of convolutions, two blocks at each of three sizes."""
    try:
        from diffusers import UNet2DModel
    except ImportError:
        return None

    def make(widths: tuple[int, int, int]) -> Callable[[], nn.Module]:
        return lambda: UNet2DModel(
            sample_size=shape[1], in_channels=shape[0], out_channels=shape[0], block_out_channels=widths,
            layers_per_block=2, norm_num_groups=8, add_attention=False,
            down_block_types=("DownBlock2D",) * 3, up_block_types=("UpBlock2D",) * 3,
        )  # fmt: skip

    return [make(widths) for widths in channels(8)]


def of_the_textbook(shape: tuple[int, ...]) -> list[Callable[[], nn.Module]]:
    return [lambda widths=widths: Textbook(shape[0], widths) for widths in channels(8)]


class Residual(nn.Module):
    """Two convolutions of size 3, the time added between them."""

    def __init__(self, a: int, b: int, time: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, a), nn.Conv2d(a, b, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(8, b), nn.Conv2d(b, b, 3, padding=1)
        self.time, self.skip = nn.Linear(time, b), nn.Conv2d(a, b, 1) if a != b else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.conv1(silu(self.norm1(x))) + self.time(silu(time))[:, :, None, None]
        return self.skip(x) + self.conv2(silu(self.norm2(h)))


class Textbook(nn.Module):
    """Two blocks at each of three sizes on the way down, three on the way up, each with a skip (Ho et al. 2020)."""

    def __init__(self, colours: int, widths: tuple[int, int, int]) -> None:
        super().__init__()
        first, time = widths[0], 4 * widths[0]
        self.time = nn.Sequential(nn.Linear(first, time), nn.SiLU(), nn.Linear(time, time))
        self.stem = nn.Conv2d(colours, first, 3, padding=1)
        kept, at = [first], first
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for i, width in enumerate(widths):
            for _ in range(2):
                self.down.append(Residual(at, width, time))
                kept.append(at := width)
            if i < 2:
                self.down.append(nn.Conv2d(at, at, 3, stride=2, padding=1))
                kept.append(at)
        self.middle = nn.ModuleList(Residual(at, at, time) for _ in range(2))
        for i, width in reversed(list(enumerate(widths))):
            for _ in range(3):
                self.up.append(Residual(at + kept.pop(), width, time))
                at = width
            if i:
                self.up.append(nn.Conv2d(at, at, 3, padding=1))
        self.norm, self.head = nn.GroupNorm(8, at), nn.Conv2d(at, colours, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        half = self.stem.out_channels // 2
        angle = t[:, None] * 10_000.0 ** (-torch.arange(half) / half)
        time = self.time(torch.cat([angle.sin(), angle.cos()], 1))
        h = self.stem(x)
        kept = [h]
        for layer in self.down:
            h = layer(h, time) if isinstance(layer, Residual) else layer(h)
            kept.append(h)
        for layer in self.middle:
            h = layer(h, time)
        for layer in self.up:
            if isinstance(layer, Residual):
                h = layer(torch.cat([h, kept.pop()], 1), time)
            else:
                h = layer(interpolate(h, scale_factor=2.0))
        return self.head(silu(self.norm(h)))


if __name__ == "__main__":
    main()
