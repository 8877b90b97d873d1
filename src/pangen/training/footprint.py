"""What a training will hold in memory, from a trial on part of a batch; and which batch fits where that is too much."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from pangen import parallel
from pangen.data.batches import Batches, pieces_of
from pangen.errors import PangenError
from pangen.memory import free_memory, gibibytes, is_exhausted
from pangen.model import GenerativeModel
from pangen.recipes.recipe import Training
from pangen.space import Batch, Progress
from pangen.training.recompute import blocks, recompute

PART, FEWEST = 8, 4
"""The trial takes one example of so many of a batch, and not fewer than these."""


@dataclass(frozen=True)
class Footprint:
    """Bytes that are held for certain; what computing takes for a moment comes on top."""

    fixed: int
    """Weights, their gradients, moments, averages and best copy."""
    example: float
    """What a loss keeps of one example until its gradient is found."""

    def need(self, batch: float) -> float:
        """In all, for so many examples at once."""
        return self.fixed + self.example * batch

    def examples(self, free: int) -> int:
        """How many at once need no more than what is free; at most."""
        return max(int((free - self.fixed) / self.example), 0) if self.example else 0


def footprint(model: GenerativeModel, train: Batches, settings: Training) -> Footprint:
    """Of a training of `model`, which is not changed by it but for its buffers and gradients."""
    size = min(max(train.size // PART, FEWEST), train.size)
    kept = _Kept(model)
    with saved_tensors_hooks(kept.pack, lambda held: held.x):
        next(model.steps(train.take(torch.arange(size)), Progress(0, settings.steps)))
    return Footprint(fixed(model, settings), kept.most / size)


def fixed(model: GenerativeModel, settings: Training) -> int:
    """Bytes of weights, gradients, moments and copies, which no batch changes."""
    state = _bytes(model.state_dict().values())
    weights = _bytes(p for player in model.players().values() for p in player)
    moments = 2 if settings.optimizer == "adamw" else 1
    spread = parallel.size() if settings.shard else 1
    copies = 2 + bool(settings.ema) + 2 * bool(settings.snapshots)
    held = copies * state + (1 + moments) * weights
    return held if spread == 1 else held // spread + state  # and for a validation whole ones


class _Kept:
    """Counts what is kept for gradients at one time: a loss may find some on its way, and let go what they needed."""

    def __init__(self, model: GenerativeModel) -> None:
        self.own = {_place(x) for x in (*model.parameters(), *model.buffers())}
        self.holders: Counter[int] = Counter()
        self.now = self.most = 0

    def pack(self, x: Tensor) -> _Held:
        return _Held(x.detach(), self)


class _Held:
    """A tensor that is kept, counted as long as it is."""

    def __init__(self, x: Tensor, kept: _Kept) -> None:
        self.x, self.kept, self.place = x, kept, _place(x)
        if self.place not in kept.own:
            kept.now += 0 if kept.holders[self.place] else x.untyped_storage().nbytes()
            kept.holders[self.place] += 1
            kept.most = max(kept.most, kept.now)

    def __del__(self) -> None:
        if self.place not in self.kept.own:
            self.kept.holders[self.place] -= 1
            self.kept.now -= 0 if self.kept.holders[self.place] else self.x.untyped_storage().nbytes()


def check_footprint(model: GenerativeModel, train: Batches, settings: Training) -> None:
    """Raise where a training cannot fit into the memory that is free, and say what could."""
    free = free_memory(model.device)
    if free is None:
        return
    held = fixed(model, settings)
    found = footprint(model, train, settings) if held <= free else Footprint(held, 0.0)
    at_once = -(-train.size // pieces_of(train.size, settings.accumulate))
    if found.need(at_once) <= free:
        return
    need = (
        f"training needs {gibibytes(found.need(at_once))} at least, {gibibytes(found.fixed)} of them for weights, "
        f"gradients and averages, and {gibibytes(free)} are free"
    )
    fits, kept = found.examples(free), 0
    if found.example and _could_recompute(model, settings):
        recompute(model)  # which will not be trained
        kept = footprint(model, train, settings).examples(free)
    raise PangenError(f"{need}; {_advice(train.size, at_once, fits, kept)}.")


def ran_out(
    model: GenerativeModel, batch: Batch, progress: Progress, settings: Training, at_once: int
) -> PangenError:
    """The error for memory that ended at a step, though the estimate saw no harm; the training of `model` is over.

    `at_once` of the batch's examples were too many.
    """
    fits, kept = batch_that_fits(model, batch, progress, at_once // 2), 0
    if _could_recompute(model, settings):
        recompute(model)
        kept = batch_that_fits(model, batch, progress, at_once)
    advice = _advice(len(batch.x), at_once, fits, kept)
    return PangenError(f"memory ran out at step {progress.step} with {at_once} examples at once; {advice}.")


def batch_that_fits(model: GenerativeModel, batch: Batch, progress: Progress, most: int) -> int:
    """The largest of `most`, its half, its quarter ... of a batch's examples whose gradients can be found; or 0."""
    size, players = most, model.players()
    while size > 1:
        part = Batch(batch.x[:size], None if batch.y is None else batch.y[:size])
        try:
            for player, loss in model.steps(part, progress):
                torch.autograd.grad(loss.total, players[player], allow_unused=True)
        except (MemoryError, RuntimeError) as error:
            if not is_exhausted(error):
                raise
            size //= 2
        else:
            return size
    return 0


def _could_recompute(model: GenerativeModel, settings: Training) -> bool:
    return not settings.recompute and next(blocks(model), None) is not None


def _advice(size: int, at_once: int, fits: int, kept: int) -> str:
    """What to set where `at_once` of a batch are too many and `fits` are not, nor `kept` with blocks computed again."""
    found = []
    if fits:
        pieces = -(-size // fits)
        found.append(
            f"{fits} examples at once fit: set training.accumulate to {pieces}, or training.batch to {fits}"
        )
    if kept > fits:
        found.append(f"with training.recompute set to true {min(kept, at_once)} examples at once fit")
    return "; ".join(found) or "take a smaller model (--model...)"


def _place(x: Tensor) -> int:
    return x.untyped_storage().data_ptr()


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(x.numel() * x.element_size() for x in tensors)
