"""`dcgan` beside the textbook's: the same layers, 32 colour images of 64 x 64, a step of both players.

The textbook is the popular tutorial: the critic on real images, on generated ones, then the generator through the
critic, binary cross-entropy of logits, Adam (fused) for each. Ours gives a player's loss the gradients of that player
alone, so that the generator's turn computes none of the critic's.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from pangen.families.adversarial.dcgan import DCGAN
from pangen.recipes import Training
from pangen.space import Batch, Space
from peers.pair import BOTH, FULL, OURS, TEXTBOOK, Pair, Side, parameters, trained

NOISE, WIDTH, BATCH, SIDE = 100, 64, 32, 64


def pairs() -> Iterator[Pair]:
    for precision, mine, its in ((FULL, "full", False), (OURS, "bfloat16", False), (BOTH, "bfloat16", True)):
        yield Pair(
            "dcgan", "training", TEXTBOOK, partial(ours, mine), partial(textbook, its), precision,
            {"batch": BATCH}, falls=False,
        )  # fmt: skip


def images() -> Tensor:
    return 2 * torch.rand(BATCH, 3, SIDE, SIDE) - 1


def ours(precision: str) -> Side:
    settings = Training(batch=BATCH, lr=2e-4, betas=(0.5, 0.999), clip=None, ema=0.0)
    model = DCGAN(Space("real", (3, SIDE, SIDE), levels=256), precision=precision)
    return trained(model, [Batch(images())], settings)


def textbook(rounds: bool) -> Side:
    def up(a: int, b: int, *how: int) -> list[nn.Module]:
        return [nn.ConvTranspose2d(a, b, 4, *how, bias=False), nn.BatchNorm2d(b), nn.ReLU(True)]

    def down(a: int, b: int) -> list[nn.Module]:
        return [nn.Conv2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.LeakyReLU(0.2, True)]

    w, x = WIDTH, images()
    G = nn.Sequential(
        *up(NOISE, 8 * w, 1, 0), *up(8 * w, 4 * w, 2, 1), *up(4 * w, 2 * w, 2, 1), *up(2 * w, w, 2, 1),
        nn.ConvTranspose2d(w, 3, 4, 2, 1, bias=False), nn.Tanh(),
    )  # fmt: skip
    D = nn.Sequential(
        nn.Conv2d(3, w, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, True), *down(w, 2 * w), *down(2 * w, 4 * w),
        *down(4 * w, 8 * w), nn.Conv2d(8 * w, 1, 4, 1, 0, bias=False), nn.Flatten(0),
    )  # fmt: skip
    of_G, of_D = (torch.optim.Adam(net.parameters(), 2e-4, (0.5, 0.999), fused=True) for net in (G, D))
    one, zero = torch.ones(BATCH), torch.zeros(BATCH)

    def step() -> Tensor:
        of_D.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=rounds):
            real = bce(D(x).float(), one)
        real.backward()
        with torch.autocast("cpu", torch.bfloat16, enabled=rounds):
            fake = G(torch.randn(BATCH, NOISE, 1, 1))
            generated = bce(D(fake.detach()).float(), zero)
        generated.backward()
        of_D.step()
        of_G.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=rounds):
            loss = bce(D(fake).float(), one)
        loss.backward()
        of_G.step()
        return (real + generated).detach()

    return Side(step, parameters(G, D))
