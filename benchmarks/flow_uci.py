"""Neural spline flows on tables: ours against zuko's, of the same size, with the same batches and optimiser.

    pip install -c constraints.txt -e '.[peers]'
    PANGEN_DATA=... OMP_NUM_THREADS=1 python benchmarks/flow_uci.py --seeds 3 --steps 2500

Both are autoregressive, with three layers of splines of 8 bins and networks of two hidden layers of 64 units.
Ours has besides a standardisation at its start and learnt linear maps between its layers, as its family has them.
Columns of few values get noise as wide as the least step between two, drawn once, because no density over them is
bounded. The weights kept are those that score best on the validation split, looked at ten times.
The start of our weights and linear maps was chosen on the data sets' own splits; the splits here are drawn anew.
zuko's are its defaults.
"""

from __future__ import annotations

import argparse
import copy
import os
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from ledger import record
from torch import Tensor, nn

import pangen
from pangen.families.flow.nsf import NSF
from pangen.space import Batch, Space

WIDTH, DEPTH, BINS, LAYERS, BATCH, RATE, CHECKS = 64, 2, 8, 3, 512, 2e-3, 10
FEW = 1000
"""Values of a column that is dequantised."""


def splits(name: str) -> list[Tensor]:
    """Train, validation and test, 80, 10 and 10 % by chance, each column with mean 0 and standard deviation 1 in train."""
    data, generator = pangen.load_data(name), torch.Generator().manual_seed(1)
    x = torch.cat([data.split(s).x.double() for s in ("train", "validation", "test")])
    for column in x.T:
        values = column.unique()
        if len(values) < FEW:
            column += values.diff().min() * torch.rand(len(x), generator=generator, dtype=torch.float64)
    x, tenth = x[torch.randperm(len(x), generator=generator)], len(x) // 10
    parts = x.split([len(x) - 2 * tenth, tenth, tenth])
    mean, std = parts[0].mean(0), parts[0].std(0)
    return [((part - mean) / std).float() for part in parts]


class Ours(nn.Module):
    def __init__(self, train: Tensor) -> None:
        super().__init__()
        space = Space("real", train.shape[1:])
        self.model = NSF(
            space, width=WIDTH, kind="autoregressive", blocks=LAYERS, depth=DEPTH, bins=BINS, tails=5.0
        )
        with torch.no_grad():
            self.model.initialize(Batch(train[:512]))

    def forward(self, x: Tensor) -> Tensor:
        return self.model.log_prob(x).nats


class Zuko(nn.Module):
    def __init__(self, train: Tensor) -> None:
        super().__init__()
        import zuko

        self.flow = zuko.flows.NSF(
            train.shape[1], transforms=LAYERS, bins=BINS, hidden_features=(WIDTH,) * DEPTH
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.flow().log_prob(x)


def nats(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([model(part) for part in x.split(500)]).double()


def train(model: nn.Module, parts: list[Tensor], steps: int, seed: int) -> tuple[Tensor, float]:
    """log p of the test split under the best weights, and seconds a step."""
    optimizer = torch.optim.Adam(model.parameters(), RATE, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    order, best, weights, spent = torch.Generator().manual_seed(seed), -float("inf"), None, 0.0
    for step in range(steps):
        x = parts[0][torch.randint(len(parts[0]), (BATCH,), generator=order)]
        began = time.perf_counter()
        optimizer.zero_grad()
        (-model(x).mean()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        spent += time.perf_counter() - began
        schedule.step()
        if (step + 1) % (steps // CHECKS) == 0:
            score = float(nats(model, parts[1]).mean())
            if score > best:
                best, weights = score, copy.deepcopy(model.state_dict())
    model.load_state_dict(weights)
    return nats(model, parts[2]), spent / steps


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", nargs="+", default=[f"uci-{name}" for name in ("protein", "kin40k", "bike", "pol")]
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2500)
    args = parser.parse_args()
    for name in args.data:
        parts, began = splits(name), time.perf_counter()
        worse, errors, ours, theirs, speed = [], [], [], [], []
        for seed in range(args.seeds):
            found = []
            for kind in (Ours, Zuko):
                torch.manual_seed(seed)
                found.append(train(kind(parts[0]), parts, args.steps, seed))
            (a, our_time), (b, their_time) = found
            worse.append(float((b - a).mean()))
            errors.append(round(float((b - a).std() / len(a) ** 0.5), 5))
            ours.append(round(float(-a.mean()), 5))
            theirs.append(round(float(-b.mean()), 5))
            speed.append(round(their_time / our_time, 3))
            print(
                f"{name} seed {seed}: ours {ours[-1]:.4f}, zuko {theirs[-1]:.4f} nat, {speed[-1]:.2f} times its speed",
                flush=True,
            )
        record(
            "flow_uci", worse, data=name, steps=args.steps, ours=ours, zuko=theirs, standard_errors=errors, speed=speed,
            metric="NLL of ours less that of zuko, nats of the standardised test split", seconds=time.perf_counter() - began,
        )  # fmt: skip


if __name__ == "__main__":
    main()
