"""Flows beside those of zuko, normflows and nflows: the same transforms, hidden layers and batches.

Every network has three hidden layers of 64 units, or, in normflows and nflows, a first layer and one residual block,
which has as many weights; steps are Adam's (fused). `realnvp` takes odd and even entries in turn with halves, as
Pangen's does, `affine coupling` halves alone, as the peers do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from pangen.networks.autoregressive import Autoregressive, MaskedMLP, alternating
from pangen.networks.bijections import (
    Affine,
    Flow,
    ScaleShift,
    Transform,
    flat_coupling,
    flat_pair,
    mask_pairs,
)
from pangen.networks.splines import Spline
from pangen.space import Space
from peers.pair import FULL, Pair, Side, on_the_index, parameters

WIDTH, DEPTH, BINS, BATCH, SAMPLES = 64, 3, 8, 256, 1000
LAYERS = {"maf": 5, "nsf": 3, "nsf coupling": 4, "affine coupling": 6, "realnvp": 6}
COLUMNS = (2, 16)


def pairs() -> Iterator[Pair]:
    for columns in COLUMNS:
        for name in LAYERS:
            for package, make in (("zuko", Zuko), ("normflows", NormFlows), ("nflows", NFlows)):
                for work in ("training", "log_prob", "sampling"):
                    ours, theirs = (partial(side, made, name, columns, work) for made in (Ours, make))
                    facts = {"columns": columns}
                    # masks, of ones and zeros here, are weights that a peer counts or leaves out
                    yield Pair(name, work, on_the_index(package), ours, theirs, FULL, facts, apart=0.5)


def examples(columns: int) -> Tensor:
    """Dependent columns, off the middle."""
    return 0.6 * torch.randn(BATCH, columns) + torch.randn(BATCH, 1) + 0.5


def side(make: Callable[[str, int], nn.Module], name: str, columns: int, work: str) -> Side:
    model, x = make(name, columns), examples(columns)
    if work == "training":
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

        def step() -> Tensor:
            optimizer.zero_grad()
            loss = -model.log_prob(x).mean()
            loss.backward()
            optimizer.step()
            return loss.detach()

        return Side(step, parameters(model))
    model.requires_grad_(False)
    if work == "log_prob":
        return Side(torch.no_grad()(lambda: model.log_prob(x)), parameters(model))
    return Side(torch.no_grad()(lambda: model.sample(SAMPLES)), parameters(model))


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
                blocks.append(Autoregressive(map_, MaskedMLP(ranks, map_.k, WIDTH, DEPTH)))
        self.flow = Flow(Space("real", (dims,)), blocks, 0)

    def log_prob(self, x: Tensor) -> Tensor:
        return self.flow.log_prob(x)

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

    def log_prob(self, x: Tensor) -> Tensor:
        return self.flow().log_prob(x)

    def sample(self, n: int) -> Tensor:
        return self.flow().sample((n,))


class NormFlows(nn.Module):
    def __init__(self, name: str, dims: int) -> None:
        super().__init__()
        import normflows as nf

        flows: list[nn.Module] = []
        spline = {"num_bins": BINS, "tail_bound": 5.0}
        for i in range(LAYERS[name]):
            match name:
                case "maf":
                    made = nf.flows.MaskedAffineAutoregressive(dims, WIDTH, num_blocks=1)
                    flows += [nf.flows.Reverse(made)]  # as it is, it samples in one pass
                case "nsf":
                    flows += [nf.flows.AutoregressiveRationalQuadraticSpline(dims, 1, WIDTH, **spline)]
                case "nsf coupling":
                    flows += [
                        nf.flows.CoupledRationalQuadraticSpline(
                            dims, 1, WIDTH, reverse_mask=i % 2 == 1, **spline
                        )
                    ]
                case _:
                    half = dims // 2
                    net = nf.nets.MLP([dims - half, *[WIDTH] * DEPTH, 2 * half], init_zeros=True)
                    flows += [nf.flows.AffineCouplingBlock(net)]
            if name != "nsf coupling":
                flows += [nf.flows.Permute(dims, mode="swap")]
        self.flow = nf.NormalizingFlow(nf.distributions.DiagGaussian(dims, trainable=False), flows)

    def log_prob(self, x: Tensor) -> Tensor:
        return self.flow.log_prob(x)

    def sample(self, n: int) -> Tensor:
        return self.flow.sample(n)[0]


class NFlows(nn.Module):
    def __init__(self, name: str, dims: int) -> None:
        super().__init__()
        from nflows.distributions.normal import StandardNormal
        from nflows.flows.base import Flow as Their
        from nflows.nn.nets import ResidualNet
        from nflows.transforms import autoregressive, coupling
        from nflows.transforms.base import CompositeTransform
        from nflows.transforms.permutations import ReversePermutation

        def net(inputs: int, outputs: int) -> nn.Module:
            return ResidualNet(inputs, outputs, WIDTH, num_blocks=1)

        layers: list[nn.Module] = []
        spline = {"num_bins": BINS, "tails": "linear", "tail_bound": 5.0}
        for i in range(LAYERS[name]):
            mask = (torch.arange(dims) < dims // 2) ^ (i % 2 == 1)
            match name:
                case "maf":
                    layers += [autoregressive.MaskedAffineAutoregressiveTransform(dims, WIDTH, num_blocks=1)]
                case "nsf":
                    layers += [
                        autoregressive.MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
                            features=dims, hidden_features=WIDTH, num_blocks=1, **spline
                        )
                    ]
                case "nsf coupling":
                    layers += [
                        coupling.PiecewiseRationalQuadraticCouplingTransform(mask.int(), net, **spline)
                    ]
                case _:
                    layers += [coupling.AffineCouplingTransform(mask.int(), net)]
            if name in ("maf", "nsf"):
                layers += [ReversePermutation(dims)]
        self.flow = Their(CompositeTransform(layers), StandardNormal([dims]))

    def log_prob(self, x: Tensor) -> Tensor:
        return self.flow.log_prob(x)

    def sample(self, n: int) -> Tensor:
        return self.flow.sample(n)
