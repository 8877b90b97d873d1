"""The one training loop: every family's algorithm, a line at a time."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from pangen import parallel
from pangen.codecs import Codec
from pangen.data.batches import Batches, Piece
from pangen.errors import DivergedError, PangenError
from pangen.model import GenerativeModel
from pangen.networks.rounding import needs_scale
from pangen.recipes.recipe import Recipe, Training, build_model
from pangen.rng import seed_global
from pangen.space import Progress
from pangen.training.averages import Follower, Powers, follow, start_powers
from pangen.training.compiled import Compiled, called
from pangen.training.optimizers import make_optimizers, rate
from pangen.training.pieces import Told, Turn, add_up, level
from pangen.training.recompute import recompute
from pangen.training.scale import Scale
from pangen.training.sharded import clip, is_spread, spread, whole
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
    scales: dict[str, Scale] = field(default_factory=dict)
    """Of the loss of each player, where gradients go back through float16."""
    seed: int = 0
    build: Callable[[], GenerativeModel] | None = None
    """Makes another such model, where the processes hold parts of this one."""
    compiled: AbstractContextManager[None] = field(default_factory=nullcontext)
    """Within it the model's networks are compiled, where they are at all."""

    def __post_init__(self) -> None:
        self.players = self.model.players()
        ours = [w for player in self.players.values() for w in player]
        self.alone = len(self.players) == 1 and len(ours) == sum(
            w.requires_grad for w in self.model.parameters()
        )
        """Whether every gradient is that of the only player."""
        self.follower = None if self.average is None else Follower(self.average, self.model)
        if needs_scale(self.model):
            self.scales = {player: Scale() for player in self.players}

    @classmethod
    def start(
        cls,
        model: GenerativeModel,
        settings: Training,
        seed: int = 0,
        build: Callable[[], GenerativeModel] | None = None,
    ) -> State:
        average = copy.deepcopy(model).eval().requires_grad_(False) if settings.ema else None
        if build is not None and parallel.together():
            for each in filter(None, (model, average)):
                spread(each)
        powers = start_powers(model) if settings.snapshots else {}
        return cls(model, make_optimizers(model.players(), settings), average, powers, seed=seed, build=build)

    def scale(self, player: str) -> float:
        """What the player's loss is multiplied by before it goes back."""
        return self.scales[player].value if self.scales else 1.0

    @property
    def judged(self) -> GenerativeModel:
        """The model that validation scores: the average if there is one."""
        return self.average or self.model

    def whole(self, model: GenerativeModel) -> GenerativeModel:
        """One of the two with all its weights: itself, or a copy where processes hold parts of it, which ask together."""
        if self.build is None or not parallel.together():
            return model
        copied = self.build().train(model.training)
        copied.load_state_dict(whole(model.state_dict()))
        return copied

    def kept(self, scored: GenerativeModel) -> dict[str, Tensor]:
        """What this process holds of the judged model, and what is not spread of the whole one that was scored."""
        now = scored.state_dict()
        held = self.judged.state_dict().items()
        return {k: (x if is_spread(x) else now[k]).detach().clone() for k, x in held}


def start_state(recipe: Recipe, codec: Codec, train: Batches, device: torch.device) -> State:
    """A model as its recipe makes it, with its data-dependent start."""
    model = build_model(recipe, codec.space).to(device).train()
    seed_global(device, "start", recipe.seed)
    with torch.no_grad():
        model.initialize(train.first(START))
        teach(model, codec, recipe.dtype)
    if recipe.training.recompute:
        recompute(model)
    build = partial(_another, recipe, codec, device) if recipe.training.shard else None
    state = State.start(model, recipe.training, recipe.seed, build)
    if recipe.training.compile == "on":
        pieces = train.pieces(0, recipe.training.accumulate)
        calls = called(model, [piece.batch for piece in pieces], Progress(0, recipe.training.steps))
        if not calls:
            raise PangenError(
                f"no network is called by a step of {recipe.model['name']}, and none can be compiled: leave out training.compile."
            )
        state.compiled = Compiled(model, calls)
    return state


def _another(recipe: Recipe, codec: Codec, device: torch.device) -> GenerativeModel:
    return build_model(recipe, codec.space).to(device)


def train_step(state: State, pieces: Sequence[Piece], settings: Training) -> dict[str, float]:
    """One step of every player; returns losses and their terms for the log, means over the batch.

    `pieces` are this process's of the batch. They are generators advanced in lockstep: each yields, is
    backpropagated and freed; what all processes found is added up; then the player moves once.
    """
    model, progress = state.model, Progress(state.step, settings.steps)
    log: dict[str, float] = {}
    turns = [Turn(piece, model.steps(piece.batch, progress)) for piece in pieces]
    for weights in state.players.values():  # before anything is computed, which then has their room
        clear(weights)
    while True:
        player, told = None, Told()
        for turn in turns:
            with state.compiled:
                following = turn.next()
            if following is None:
                continue
            player, loss = following
            if turn is turns[0]:
                clear(state.players[player])
            told.add(loss, turn.piece.share)
            factor = turn.piece.share * state.scale(player)
            total = loss.total if factor == 1 else factor * loss.total
            # nobody else receives a gradient: there is nothing to freeze, detach or toggle
            total.backward(inputs=None if state.alone else state.players[player])
        if player is None:
            break
        add_up(state.players[player], told)
        told.into(log, player, state.step)
        _move(state, player, progress, settings)
        if state.scales:
            scale = state.scales[player]
            log |= {f"{player}/scale": scale.value, f"{player}/skipped": scale.skipped}
    if pieces[0].noise is not None:  # the same in all processes, whichever pieces were theirs
        seed_global(model.device, "after", state.seed, state.step)
    model.after_step(progress)
    level(model)
    if state.follower is not None:
        state.follower.follow(settings.ema, state.step)
    state.step += 1
    if state.powers:
        follow(state.powers, model, state.step)
    return log


def clear(weights: Iterable[nn.Parameter]) -> None:
    """Of the last step's gradients."""
    for w in weights:
        w.grad = None


def _move(state: State, player: str, progress: Progress, settings: Training) -> None:
    """One player by its gradients, unless these have overflowed."""
    weights, scale = state.players[player], state.scales.get(player)
    if scale is not None:
        scale.undo(weights)
    if scale is not None or settings.clip is not None:
        norm = clip(weights, settings.clip or math.inf)
        if not math.isfinite(norm):
            if scale is None:
                raise DivergedError(f"the gradient of the {player} became {norm} at step {state.step}")
            scale.shrink(player, state.step, settings.steps - 1)
            return
    for group in state.optimizers[player].param_groups:
        group["lr"] = state.model.paces.get(player, 1.0) * rate(progress, settings)
    state.optimizers[player].step()
    if scale is not None:
        scale.grow()
