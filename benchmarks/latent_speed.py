"""Training steps of `vae` against pythae's VAE: the same 784-400-20 perceptrons, data, batch and machine.

    pip install --no-deps pythae==0.1.2
    OMP_NUM_THREADS=1 python benchmarks/latent_speed.py --rounds 20

(What pythae itself asks for includes `dataclasses`, a copy of a standard module; nothing of it is needed here.)

Both take turns in one process, in a new order each round; a result is the mean over rounds of their time over
ours. Ours is the step of `pangen fit` whole: its loss and the terms for the log, the backward pass, AdamW, and the moving
average of the weights; at full precision, and with the products rounded to bfloat16. Theirs is what the inner loop of pythae's trainer does: the loss, the backward pass, Adam
with its default settings and the loss as a number. Batches are drawn beforehand.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from ledger import record
from torch import Tensor, nn

from pangen.families.latent.latent import Precision
from pangen.families.latent.vae import VAE
from pangen.recipes import Training
from pangen.space import Batch, Space
from pangen.training.loop import State, train_step

SPACE, HIDDEN, LATENT = Space("binary", (1, 28, 28), levels=2), 400, 20


def ours(batches: list[Tensor], precision: Precision) -> Callable[[], object]:
    model = VAE(SPACE, latent=LATENT, width=HIDDEN, network="mlp", precision=precision)
    settings = Training(**{**VAE.training_defaults, "steps": 10**6})
    state = State.start(model.train(), settings)
    return lambda: train_step(state, Batch(batches[state.step % len(batches)]), settings)


def theirs(batches: list[Tensor]) -> Callable[[], object]:
    from pythae import models
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(784, HIDDEN), nn.ReLU())
            self.mean, self.log_variance = nn.Linear(HIDDEN, LATENT), nn.Linear(HIDDEN, LATENT)

        def forward(self, x: Tensor) -> ModelOutput:
            h = self.hidden(x)
            return ModelOutput(embedding=self.mean(h), log_covariance=self.log_variance(h))

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(
                nn.Linear(LATENT, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 784), nn.Sigmoid()
            )

        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=self.layers(z).view(-1, 1, 28, 28))

    config = models.VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENT, reconstruction_loss="bce")
    model = models.VAE(config, encoder=Encoder(), decoder=Decoder()).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    turn = iter(range(10**9))

    def step() -> float:
        loss = model({"data": batches[next(turn) % len(batches)]}).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def seconds(work: Callable[[], object], at_least: float) -> float:
    """The median time of one call among those that fit into a turn."""
    took: list[float] = []
    while sum(took) < at_least:
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 128, 1000])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--at-least", type=float, default=0.3, help="seconds of one library's turn")
    args = parser.parse_args()
    random.seed(0)
    for size in args.batches:
        began = time.perf_counter()
        torch.manual_seed(0)
        batches = [(torch.rand(size, 1, 28, 28) < 0.13).float() for _ in range(8)]
        works = {
            "full": ours(batches, "full"), "bfloat16": ours(batches, "bfloat16"), "pythae": theirs(batches)
        }  # fmt: skip
        for work in works.values():
            seconds(work, args.at_least)
        times = []
        for _ in range(args.rounds):
            order = random.sample(list(works), len(works))
            times.append({name: seconds(works[name], args.at_least) for name in order})
        middle = {name: round(1e3 * statistics.median(t[name] for t in times), 3) for name in works}
        for precision in ("full", "bfloat16"):
            record(
                "latent_speed", [t["pythae"] / t[precision] for t in times], model="vae 784-400-20", batch=size,
                precision=precision, peer="pythae 0.1.2", ours_ms=middle[precision], theirs_ms=middle["pythae"],
                metric="their time over ours, one value a round", seconds=time.perf_counter() - began,
            )  # fmt: skip


if __name__ == "__main__":
    main()
