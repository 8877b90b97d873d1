"""What a comparison consists of: two sides that do the same work."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Literal, NamedTuple

from torch import nn

from pangen.data.batches import Piece
from pangen.model import GenerativeModel
from pangen.recipes import Training
from pangen.space import Batch
from pangen.training.loop import State, train_step

FULL, BOTH, OURS = "float32", "bfloat16 on both sides", "bfloat16 beside float32"
"""What products are computed in; weights are float32 throughout."""


class Side(NamedTuple):
    """One side of a comparison."""

    work: Callable[[], Any]
    """One piece of it: a training step, which returns its loss, or what is drawn or computed."""
    parameters: int
    loss: Callable[[], float] | None = None
    """Of a training whose steps do not return it."""
    times: int = 1
    """How often all of the work holds what `work` does."""


@dataclass(frozen=True)
class Package:
    """What a peer is installed by."""

    name: str
    module: str
    install: str

    @property
    def missing(self) -> bool:
        return importlib.util.find_spec(self.module) is None

    def __str__(self) -> str:
        return f"{self.name} {version(self.name)}"


def on_the_index(name: str, module: str = "") -> Package:
    return Package(name, module or name.replace("-", "_"), f"pip install {name}")


TEXTBOOK = "the textbook"


@dataclass(frozen=True, eq=False)
class Pair:
    """The same work done by Pangen and by a peer: one that is installed, or code that textbooks print."""

    model: str
    work: Literal["training", "sampling", "log_prob", "decoding"]
    peer: Package | str
    ours: Callable[[], Side]
    theirs: Callable[[], Side]
    precision: str = FULL
    facts: Mapping[str, Any] = field(default_factory=dict)
    apart: float = 0.05
    """By which share numbers of parameters may differ."""
    falls: bool = True
    """Whether training makes the loss smaller; a game's need not."""

    @property
    def name(self) -> str:
        facts = (f"{k} {v}" for k, v in self.facts.items())
        return ", ".join([f"{self.model} {self.work}", *facts, self.precision, f"beside {self.of}"])

    @property
    def of(self) -> str:
        return self.peer if isinstance(self.peer, str) else self.peer.name


def parameters(*nets: nn.Module) -> int:
    return sum(p.numel() for net in nets for p in net.parameters())


def trained(model: GenerativeModel, batches: list[Batch], settings: Training) -> Side:
    """The training step of `pangen fit`, its numbers for the log among it."""
    state = State.start(model.train(), settings)

    def step() -> float:
        return next(iter(train_step(state, [Piece(batches[state.step % len(batches)])], settings).values()))

    return Side(step, sum(p.numel() for own in model.players().values() for p in own))
