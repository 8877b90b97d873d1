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
    fits = int((free - found.fixed) / found.example) if found.example else 0
    if fits < 1:
        raise PangenError(f"{need}; take a smaller model (--model...).")
    raise PangenError(f"{need}; {_pieces(train.size, fits)}.")


def batch_that_fits(model: GenerativeModel, batch: Batch, progress: Progress) -> int:
    """The largest half, quarter ... of a batch whose gradients can be found; 0 where none can."""
    size, players = len(batch.x) // 2, model.players()
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


def ran_out(step: int, batch: int, fits: int) -> PangenError:
    """The error for memory that ended at a step, though the estimate saw no harm."""
    remedy = _pieces(batch, fits) if fits else "take a smaller model (--model...)"
    return PangenError(f"memory ran out at step {step} with {batch} examples at once; {remedy}.")


def _pieces(batch: int, fits: int) -> str:
    return f"{fits} examples at once fit: set training.accumulate to {-(-batch // fits)}, or training.batch to {fits}"


def _place(x: Tensor) -> int:
    return x.untyped_storage().data_ptr()


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(x.numel() * x.element_size() for x in tensors)
