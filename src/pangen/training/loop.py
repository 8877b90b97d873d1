"""The one training loop: every family's algorithm, a line at a time."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pangen.codecs import Codec
from pangen.data.batches import Batches
from pangen.errors import DivergedError
from pangen.model import GenerativeModel
from pangen.recipes.recipe import Recipe, Training, build_model
from pangen.rng import seed_global
from pangen.space import Batch, Progress
from pangen.training.averages import Powers, average_weights, follow, start_powers
from pangen.training.optimizers import make_optimizers, rate
from pangen.training.teacher import teach

START = 512
"""Examples for a data-dependent start."""


@dataclass
class Best:
    """The weights that have scored best on the validation split so far."""

    score: float = math.inf
    step: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class State:
    """All that training changes: enough, with the recipe, to go on exactly where it stopped."""

    model: GenerativeModel
    optimizers: dict[str, torch.optim.Optimizer]
    average: GenerativeModel | None
    """The moving average of the model, where the recipe has one."""
    powers: Powers = field(default_factory=dict)
    """The averages that snapshots are taken of, where the recipe asks for some."""
    step: int = 0
    seconds: float = 0.0
    saving: float = 0.0
    """Of these, what checkpoints took."""
    best: Best = field(default_factory=Best)
    scores: list[tuple[int, float]] = field(default_factory=list)
    """The step and the score of each validation."""
    measure: str = ""
    """What the scores are."""
    watched: list[dict[str, float]] = field(default_factory=list)
    """What each validation saw of players who learn from each other."""

    @classmethod
    def start(cls, model: GenerativeModel, settings: Training) -> State:
        average = copy.deepcopy(model).eval().requires_grad_(False) if settings.ema else None
        powers = start_powers(model) if settings.snapshots else {}
        return cls(model, make_optimizers(model.players(), settings), average, powers)

    @property
    def judged(self) -> GenerativeModel:
        """The model that validation scores: the average if there is one."""
        return self.average or self.model


def start_state(recipe: Recipe, codec: Codec, train: Batches, device: torch.device) -> State:
    """A model as its recipe makes it, with its data-dependent start."""
    model = build_model(recipe, codec.space).to(device).train()
    seed_global(device, "start", recipe.seed)
    with torch.no_grad():
        model.initialize(train.first(START))
        teach(model, codec, recipe.dtype)
    return State.start(model, recipe.training)


def train_step(state: State, batch: Batch, settings: Training) -> dict[str, float]:
    """One step of every player; returns losses and their terms for the log.

    Micro-batches are generators advanced in lockstep: each yields, is backpropagated and freed,
    then the player moves once.
    """
    model, progress = state.model, Progress(state.step, settings.steps)
    players = model.players()
    log: dict[str, float] = {}
    turns = [model.steps(part, progress) for part in _split(batch, settings.accumulate)]
    while True:
        player = None
        for i, turn in enumerate(turns):
            following = next(turn, None)
            if following is None:
                continue
            player, loss = following
            if i == 0:
                state.optimizers[player].zero_grad(set_to_none=True)
                _record(log, player, loss, state.step)
            # nobody else receives a gradient: there is nothing to freeze, detach or toggle
            (loss.total / len(turns)).backward(inputs=players[player])
        if player is None:
            break
        if settings.clip is not None:
            norm = float(nn.utils.clip_grad_norm_(players[player], settings.clip, foreach=True))
            if not math.isfinite(norm):
                raise DivergedError(f"the gradient of the {player} became {norm} at step {state.step}")
        for group in state.optimizers[player].param_groups:
            group["lr"] = model.paces.get(player, 1.0) * rate(progress, settings)
        state.optimizers[player].step()
    model.after_step(progress)
    if state.average is not None:
        average_weights(state.average, model, settings.ema, state.step)
    state.step += 1
    follow(state.powers, model, state.step)
    return log


def _split(batch: Batch, pieces: int) -> list[Batch]:
    if pieces == 1:
        return [batch]
    ys: Any = [None] * pieces if batch.y is None else batch.y.chunk(pieces)
    return [Batch(x, y) for x, y in zip(batch.x.chunk(pieces), ys, strict=False)]


def _record(log: dict[str, float], player: str, loss: Any, step: int) -> None:
    value = float(loss.total.detach())
    if not math.isfinite(value):
        raise DivergedError(f"the loss of the {player} became {value} at step {step}")
    log[player] = value
    log |= {f"{player}/{name}": float(term.detach()) for name, term in loss.terms.items()}
