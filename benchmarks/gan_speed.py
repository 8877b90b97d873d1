"""A step of `dcgan` beside the textbook's, the same layers in the same turns: their time over ours.

    python benchmarks/gan_speed.py --pairs 9

The textbook is the popular tutorial: the critic on real images, on generated ones, then the generator through the
critic, binary cross-entropy of logits, Adam (fused) for each. Ours gives a player's loss the gradients of that player
alone, so that the generator's turn computes none of the critic's. Interleaved turns: both in float32, both with factors
of products rounded to bfloat16, and ours rounded beside the textbook as it is printed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from ledger import record
from timing import take_turns
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from pangen.families.adversarial.dcgan import DCGAN
from pangen.recipes import Training
from pangen.space import Batch, Space
from pangen.training.loop import State, train_step

NOISE, WIDTH = 100, 64


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for mine, its in (("full", "full"), ("bfloat16", "bfloat16"), ("bfloat16", "full")):
        torch.manual_seed(0)
        began = time.perf_counter()
        ratios, a, b = take_turns(ours(mine, args.batch), textbook(its, args.batch), args.pairs)
        record(
            "gan_speed", ratios, model="dcgan", precision=mine, textbook=its, batch=args.batch, shape=[3, 64, 64],
            median=round(statistics.median(ratios), 3), ours_ms=round(1000 * a), theirs_ms=round(1000 * b),
            metric="the textbook's time over ours, one value a pair", seconds=time.perf_counter() - began,
        )  # fmt: skip
        who = "Pangen" if a < b else "the textbook"
        print(f"{mine} beside {its}: {who} is faster, {1000 * a:.0f} and {1000 * b:.0f} ms a step.")


def ours(precision: str, batch: int) -> Callable[[], object]:
    settings = Training(batch=batch, lr=2e-4, betas=(0.5, 0.999), clip=None, ema=0.0)
    state = State.start(DCGAN(Space("real", (3, 64, 64), levels=256), precision=precision).train(), settings)
    x = 2 * torch.rand(batch, 3, 64, 64) - 1
    return lambda: train_step(state, Batch(x), settings)


def textbook(precision: str, batch: int) -> Callable[[], object]:
    def up(a: int, b: int, *how: int) -> list[nn.Module]:
        return [nn.ConvTranspose2d(a, b, 4, *how, bias=False), nn.BatchNorm2d(b), nn.ReLU(True)]

    def down(a: int, b: int) -> list[nn.Module]:
        return [nn.Conv2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.LeakyReLU(0.2, True)]

    w, x = WIDTH, 2 * torch.rand(batch, 3, 64, 64) - 1
    G = nn.Sequential(
        *up(NOISE, 8 * w, 1, 0), *up(8 * w, 4 * w, 2, 1), *up(4 * w, 2 * w, 2, 1), *up(2 * w, w, 2, 1),
        nn.ConvTranspose2d(w, 3, 4, 2, 1, bias=False), nn.Tanh(),
    )  # fmt: skip
    D = nn.Sequential(
        nn.Conv2d(3, w, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, True), *down(w, 2 * w), *down(2 * w, 4 * w),
        *down(4 * w, 8 * w), nn.Conv2d(8 * w, 1, 4, 1, 0, bias=False), nn.Flatten(0),
    )  # fmt: skip
    of_G, of_D = (torch.optim.Adam(net.parameters(), 2e-4, (0.5, 0.999), fused=True) for net in (G, D))
    one, zero = torch.ones(batch), torch.zeros(batch)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            of_D.zero_grad()
            real = bce(D(x).float(), one)
        real.backward()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            fake = G(torch.randn(batch, NOISE, 1, 1))
            generated = bce(D(fake.detach()).float(), zero)
        generated.backward()
        of_D.step()
        of_G.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            loss = bce(D(fake).float(), one)
        loss.backward()
        of_G.step()

    return step


if __name__ == "__main__":
    main()
