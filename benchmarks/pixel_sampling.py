"""Samples of 28 x 28 pixels with the cache and without: the same images, and how much sooner.

    python benchmarks/pixel_sampling.py --images 16 --pairs 7

Both draw with the same noise, taking turns; without the cache the whole network runs again for every pixel. So
many naive samples take minutes: of each pair the naive one is timed on `--pixels` pixels spread over the image, and
all of it is drawn once, to see that the images are equal.
"""

from __future__ import annotations

import argparse
import os
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from ledger import record

from pangen.families.autoregressive.pixelcnn import PixelCNN
from pangen.families.autoregressive.pixelrnn import PixelRNN
from pangen.families.autoregressive.pixels import PixelModel
from pangen.samplers.tokens import inverse_cdf
from pangen.space import Space

SIDE = 28
SPACE = Space("binary", (1, SIDE, SIDE), levels=2)
MODELS = {"pixelcnn": lambda: PixelCNN(SPACE), "pixelrnn": lambda: PixelRNN(SPACE)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--pixels", type=int, default=28)
    args = parser.parse_args()
    for name in args.models:
        torch.manual_seed(0)
        model = MODELS[name]().eval().requires_grad_(False)
        with torch.no_grad():
            for parameter in model.parameters():  # so that pixels depend on one another
                parameter.add_(0.05 * torch.randn_like(parameter))
        began, ratios = time.perf_counter(), []
        fast, seconds = cached(model, args.images)
        whole = naive(model, args.images, range(SIDE * SIDE))
        same = torch.equal(fast, whole)
        for _ in range(args.pairs):
            seconds = cached(model, args.images)[1]
            tick = time.perf_counter()
            naive(model, args.images, range(0, SIDE * SIDE, SIDE * SIDE // args.pixels))
            ratios.append((time.perf_counter() - tick) * SIDE * SIDE / args.pixels / seconds)
        record(
            "pixel_sampling", ratios, model=name, images=args.images, same_images=same, cached_seconds=round(seconds, 3),
            metric="naive seconds over cached seconds, one value a pair", seconds=time.perf_counter() - began,
        )  # fmt: skip


def cached(model: PixelModel, n: int) -> tuple[torch.Tensor, float]:
    model.chunk = n
    tick = time.perf_counter()
    return model.sample(n, seed=0), time.perf_counter() - tick


def naive(model: PixelModel, n: int, pixels: range) -> torch.Tensor:
    """The whole network for each of these pixels."""
    from pangen.rng import chunks

    ((_, _, noise),) = chunks(n, n, "cpu", "sample", 0)
    u = torch.rand(SIDE * SIDE, n, generator=noise)
    x = torch.zeros(n, 1, SIDE, SIDE)
    with torch.no_grad():
        for t in pixels:
            i, j = divmod(t, SIDE)
            logits = model.logits(model.raw(x, None)[:, :, 0, i, j])
            x[:, 0, i, j] = inverse_cdf(logits, u[t]).float()
    return x


if __name__ == "__main__":
    main()
