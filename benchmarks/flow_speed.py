"""Training steps and samples a second of flows against zuko and normflows: the same model, data and optimiser.

    pip install -c constraints.txt -e '.[peers]'
    OMP_NUM_THREADS=1 python benchmarks/flow_speed.py --dims 2 16 --rounds 20

All three libraries take turns in one process, in a new order each round; a result is the mean over rounds of
their time over ours. Every network has three hidden layers of 64 units, or, in normflows, a first layer and one
residual block, which has as many weights. `realnvp` takes odd and even entries
in turn with halves, `affine coupling` halves alone, as the peers do. `iaf` is ours over our `maf`: what learning in sequence costs.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections.abc import Callable, Iterator
from functools import partial

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from ledger import record
from torch import Tensor, nn

from pangen.networks.autoregressive import Autoregressive, MaskedMLP, alternating
from pangen.networks.bijections import (
    Affine,
    Flow,
    Inverse,
    ScaleShift,
    Transform,
    flat_coupling,
    flat_pair,
    mask_pairs,
)
from pangen.networks.splines import Spline
from pangen.space import Space

WIDTH, DEPTH, BINS, BATCH, SAMPLES = 64, 3, 8, 256, 1000
LAYERS = {"maf": 5, "nsf": 3, "nsf coupling": 4, "affine coupling": 6, "realnvp": 6, "iaf": 5}


class Ours(nn.Module):
    """The transforms that the families of these names are made of."""

    def __init__(self, name: str, dims: int) -> None:
        super().__init__()
        spline = Spline(BINS)
        blocks: list[Transform] = []
        if name == "realnvp":
            masks = mask_pairs((dims,), LAYERS[name] // 2)
            blocks = [flat_pair(ScaleShift(), b, WIDTH, DEPTH) for b, _ in masks]
        for i, ranks in enumerate(alternating(dims, 0 if blocks else LAYERS[name])):
            if name.endswith("coupling"):
                map_ = spline if name == "nsf coupling" else Affine()
                blocks.append(flat_coupling(map_, dims, dims // 2, i % 2 == 0, WIDTH, DEPTH))
            else:
                map_ = spline if name == "nsf" else Affine()
                block = Autoregressive(map_, MaskedMLP(ranks, map_.k, WIDTH, DEPTH))
                blocks.append(Inverse(block) if name == "iaf" else block)
        self.flow = Flow(Space("real", (dims,)), blocks, 0)

    def loss(self, x: Tensor) -> Tensor:
        return -self.flow.log_prob(x).mean()

    def sample(self, n: int) -> Tensor:
        *_, x = self.flow.states(n, None, torch.Generator())
        return x


class Zuko(nn.Module):
    def __init__(self, name: str, dims: int) -> None:
        super().__init__()
        import zuko

        shared = {"transforms": LAYERS[name], "hidden_features": (WIDTH,) * DEPTH}
        match name:
            case "maf":
                self.flow = zuko.flows.MAF(dims, **shared)
            case "nsf":
                self.flow = zuko.flows.NSF(dims, bins=BINS, **shared)
            case "nsf coupling":
                univariate = partial(zuko.transforms.MonotonicRQSTransform, bound=5.0)
                shapes = [(BINS,), (BINS,), (BINS - 1,)]
                self.flow = zuko.flows.NICE(dims, univariate=univariate, shapes=shapes, **shared)
            case _:
                self.flow = zuko.flows.NICE(dims, **shared)

    def loss(self, x: Tensor) -> Tensor:
        return -self.flow().log_prob(x).mean()

    def sample(self, n: int) -> Tensor:
        return self.flow().sample((n,))


class NormFlows(nn.Module):
    def __init__(self, name: str, dims: int) -> None:
        super().__init__()
        import normflows as nf

        flows: list[nn.Module] = []
        for i in range(LAYERS[name]):
            match name:
                case "maf":
                    made = nf.flows.MaskedAffineAutoregressive(dims, WIDTH, num_blocks=1)
                    flows += [nf.flows.Reverse(made)]  # as it is, it samples in one pass
                case "nsf":
                    flows += [
                        nf.flows.AutoregressiveRationalQuadraticSpline(
                            dims, 1, WIDTH, num_bins=BINS, tail_bound=5.0
                        )
                    ]
                case "nsf coupling":
                    flows += [
                        nf.flows.CoupledRationalQuadraticSpline(
                            dims, 1, WIDTH, num_bins=BINS, tail_bound=5.0, reverse_mask=i % 2 == 1
                        )
                    ]
                case _:
                    half = dims // 2
                    net = nf.nets.MLP([dims - half, *[WIDTH] * DEPTH, 2 * half], init_zeros=True)
                    flows += [nf.flows.AffineCouplingBlock(net)]
            if name != "nsf coupling":
                flows += [nf.flows.Permute(dims, mode="swap")]
        self.flow = nf.NormalizingFlow(nf.distributions.DiagGaussian(dims, trainable=False), flows)

    def loss(self, x: Tensor) -> Tensor:
        return self.flow.forward_kld(x)

    def sample(self, n: int) -> Tensor:
        return self.flow.sample(n)[0]


def trainer(model: nn.Module, x: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        model.loss(x).backward()
        optimizer.step()

    return step


def seconds(work: Callable[[], object], at_least: float) -> float:
    """The least time of one call among a few, which other programs disturb least."""
    best, spent = float("inf"), 0.0
    while spent < at_least:
        began = time.perf_counter()
        work()
        took = time.perf_counter() - began
        best, spent = min(best, took), spent + took
    return best


def rounds(tasks: dict[str, Callable[[], object]], count: int, at_least: float) -> Iterator[dict[str, float]]:
    for work in tasks.values():
        seconds(work, at_least)
    for _ in range(count):
        order = random.sample(list(tasks), len(tasks))
        yield {name: seconds(tasks[name], at_least) for name in order}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dims", type=int, nargs="+", default=[2, 16])
    parser.add_argument("--models", nargs="+", choices=LAYERS, default=list(LAYERS))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--at-least", type=float, default=0.1, help="seconds of one library's turn")
    args = parser.parse_args()
    random.seed(0)
    for dims in args.dims:
        x = torch.randn(BATCH, dims)
        for name in args.models:
            torch.manual_seed(0)
            peers = {"pangen maf": Ours("maf", dims)} if name == "iaf" else {
                "zuko": Zuko(name, dims), "normflows": NormFlows(name, dims)
            }  # fmt: skip
            models = {"pangen": Ours(name, dims), **peers}
            tasks = {
                "training step": {k: trainer(m, x) for k, m in models.items()},
                f"{SAMPLES} samples": {k: (lambda m=m: m.sample(SAMPLES)) for k, m in models.items()},
            }
            for what, works in tasks.items():
                began = time.perf_counter()
                with torch.set_grad_enabled(what == "training step"):
                    times = list(rounds(works, args.rounds, args.at_least))
                for peer in peers:
                    ours, theirs = (sorted(t[k] for t in times)[len(times) // 2] for k in ("pangen", peer))
                    record(
                        "flow_speed", [t[peer] / t["pangen"] for t in times], model=name, dims=dims, of=what, peer=peer,
                        ours_ms=round(1e3 * ours, 3), theirs_ms=round(1e3 * theirs, 3),
                        metric="their time over ours, one value a round", seconds=time.perf_counter() - began,
                    )  # fmt: skip


if __name__ == "__main__":
    main()
