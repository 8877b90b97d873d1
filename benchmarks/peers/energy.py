"""`rbm` beside scikit-learn's BernoulliRBM, and Langevin chains beside torchebm's.

The machines are 784-500, learn by persistent contrastive divergence with batches and chains of 100, and a piece of
work is an epoch; ours keeps the moving average of the weights. Their loss is that of one Gibbs step's reconstruction.
Chains follow the gradient of the same network with the same step.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from pangen.data.batches import Piece
from pangen.families.energy.rbm import RBM
from pangen.model import last
from pangen.recipes import Training
from pangen.samplers.langevin import Langevin
from pangen.space import Batch, Space
from pangen.training.loop import State, train_step
from peers.pair import FULL, OURS, Pair, Side, on_the_index, parameters

BATCH, WIDTH, EXAMPLES = 100, 500, 2000
CHAINS, STEPS, STEP = 256, 50, 0.01
SKLEARN, TORCHEBM = on_the_index("scikit-learn", "sklearn"), on_the_index("torchebm")


def pairs() -> Iterator[Pair]:
    for precision in (FULL, OURS):
        yield Pair("rbm", "training", SKLEARN, partial(ours, precision), theirs, precision, {"batch": BATCH})
    chains = {"chains": CHAINS, "steps": STEPS}
    yield Pair("langevin", "sampling", TORCHEBM, our_chains, their_chains, FULL, chains)


def examples() -> Tensor:
    """Ten patterns, of which a twentieth of the pixels is turned over."""
    patterns = torch.rand(10, 1, 28, 28) < 0.2
    chosen = patterns[torch.randint(10, (EXAMPLES,))]
    return (chosen ^ (torch.rand(chosen.shape) < 0.05)).float()


def ours(precision: str) -> Side:
    x = examples()
    rounds = "full" if precision == FULL else "bfloat16"
    model = RBM(Space("binary", (1, 28, 28), 2), width=WIDTH, chains=BATCH, precision=rounds)
    model.initialize(Batch(x))
    settings = Training(**{**RBM.training_defaults, "steps": 10**6, "batch": BATCH})
    state = State.start(model.train(), settings)

    def epoch() -> None:
        for part in x.split(BATCH):
            train_step(state, [Piece(Batch(part))], settings)

    return Side(epoch, parameters(model), lambda: reconstruction(x.flatten(1), model.W, model.b, model.c))


def theirs() -> Side:
    from sklearn import config_context
    from sklearn.neural_network import BernoulliRBM

    x = examples().flatten(1)
    machine = BernoulliRBM(n_components=WIDTH, batch_size=BATCH, learning_rate=0.1, random_state=0)
    parts = [part.numpy() for part in x.split(BATCH)]
    machine.partial_fit(parts[0])

    def epoch() -> None:
        with config_context(assume_finite=True):
            for part in parts:
                machine.partial_fit(part)

    def loss() -> float:
        found = machine.components_.T, machine.intercept_visible_, machine.intercept_hidden_
        return reconstruction(x, *(torch.as_tensor(a).float() for a in found))

    return Side(epoch, machine.components_.size + 784 + WIDTH, loss)


@torch.no_grad()
def reconstruction(v: Tensor, W: Tensor, b: Tensor, c: Tensor) -> float:
    """Squared error of a pixel after a step to the hidden units' means and back."""
    return float((((v @ W + c).sigmoid() @ W.T + b).sigmoid() - v).square().mean())


def energy() -> nn.Sequential:
    """-log p(x) of a point in the plane, up to a constant, `(B, 1)`."""
    return nn.Sequential(nn.Linear(2, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 1))


class Tilted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = energy()

    def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.net(x)[:, 0]


def our_chains() -> Side:
    model, start = Tilted().requires_grad_(False), torch.randn(CHAINS, 2)

    def run() -> Tensor:
        states = Langevin(STEP, STEPS)(model, start, generator=torch.Generator().manual_seed(0))
        return last(state.x for state in states)

    return Side(run, parameters(model))


def their_chains() -> Side:
    from torchebm.core import BaseModel
    from torchebm.samplers import LangevinDynamics

    class Energy(BaseModel):
        def __init__(self) -> None:
            super().__init__()
            self.net = energy()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)[:, 0]

    model, start = Energy().requires_grad_(False), torch.randn(CHAINS, 2)
    sampler = LangevinDynamics(model, step_size=STEP)
    return Side(lambda: sampler.sample(x=start, n_steps=STEPS), parameters(model))
