"""`vae` beside pythae's VAE: the same 784-400-20 perceptrons, batches drawn beforehand.

Ours is the step of `pangen fit` whole, the moving average of the weights among it. Theirs is what the inner loop of
pythae's trainer does: the loss, the backward pass, Adam with its default settings, and the loss as a number.
(`pip install --no-deps`: what pythae itself asks for includes a copy of a standard module.)
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import count

import torch
from torch import Tensor, nn

from pangen.families.latent.vae import VAE
from pangen.recipes import Training
from pangen.space import Batch, Space
from peers.pair import BOTH, FULL, OURS, Package, Pair, Side, parameters, trained

HIDDEN, LATENT = 400, 20
PYTHAE = Package("pythae", "pythae", "pip install --no-deps pythae==0.1.2")


def pairs() -> Iterator[Pair]:
    for size in (64, 128, 1000):
        for precision, its in ((FULL, False), (OURS, False), (BOTH, True)):
            yield Pair(
                "vae", "training", PYTHAE, partial(ours, size, precision), partial(theirs, size, its),
                precision, {"batch": size},
            )  # fmt: skip


def batches(size: int) -> list[Tensor]:
    return [(torch.rand(size, 1, 28, 28) < 0.13).float() for _ in range(8)]


def ours(size: int, precision: str) -> Side:
    rounds = "full" if precision == FULL else "bfloat16"
    model = VAE(
        Space("binary", (1, 28, 28), levels=2), latent=LATENT, width=HIDDEN, network="mlp", precision=rounds
    )
    settings = Training(**{**VAE.training_defaults, "steps": 10**6})
    return trained(model, [Batch(x) for x in batches(size)], settings)


def theirs(size: int, rounds: bool) -> Side:
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
            return ModelOutput(embedding=self.mean(h).float(), log_covariance=self.log_variance(h).float())

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(LATENT, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 784))

        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=self.layers(z).float().sigmoid().view(-1, 1, 28, 28))

    config = models.VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENT, reconstruction_loss="bce")
    model = models.VAE(config, encoder=Encoder(), decoder=Decoder()).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    turn, data = count(), batches(size)

    def step() -> float:
        x = data[next(turn) % len(data)]
        with torch.autocast("cpu", torch.bfloat16, enabled=rounds):
            loss = model({"data": x}).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return Side(step, parameters(model))
