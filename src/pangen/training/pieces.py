"""The pieces of a batch, wherever they are computed, become one step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from pangen import parallel
from pangen.data.batches import Piece
from pangen.errors import DivergedError
from pangen.space import Loss
from pangen.training.sharded import is_spread


class Turn:
    """A piece of a batch on its way through a model's steps."""

    def __init__(self, piece: Piece, steps: Iterator[tuple[str, Loss]]) -> None:
        self.piece, self.steps = piece, steps

    def next(self) -> tuple[str, Loss] | None:
        if self.piece.noise is None:
            return next(self.steps, None)
        with self.piece.noise:
            return next(self.steps, None)


class Told:
    """A player's loss and its terms, added up over pieces."""

    def __init__(self) -> None:
        self.values: dict[str, Tensor] = {}

    def add(self, loss: Loss, share: float) -> None:
        for name, value in (("", loss.total), *loss.terms.items()):
            value = value.detach()
            if share != 1:
                value = share * value + self.values.get(name, 0.0)
            self.values[name] = value

    def into(self, log: dict[str, float], player: str, step: int) -> None:
        """Write them into a log; raise where the loss is not finite."""
        for name, value in self.values.items():
            log[f"{player}/{name}" if name else player] = float(value)
        if not math.isfinite(log[player]):
            raise DivergedError(f"the loss of the {player} became {log[player]} at step {step}")


def add_up(weights: Sequence[nn.Parameter], told: Told) -> None:
    """Gradients and losses of all processes; a weight that nobody's loss depends on stays without a gradient.

    Of weights that are spread the gradients are added up on the way back already.
    """
    if not parallel.together():
        return
    weights = [w for w in weights if not is_spread(w)]
    seen = torch.tensor([float(w.grad is not None) for w in weights])
    values = torch.stack([value.float() for value in told.values.values()])
    gradients = []
    for w in weights:
        if w.grad is None:
            w.grad = torch.zeros_like(w)
        gradients.append(w.grad)
    parallel.add_up([*gradients, values, seen])
    told.values = dict(zip(told.values, values.unbind(), strict=True))
    for w, count in zip(weights, seen.tolist(), strict=True):
        if not count:
            w.grad = None


def level(model: nn.Module) -> None:
    """Running means of what training sees become those of all processes; the modules name them."""
    if not parallel.together():
        return
    means = [getattr(m, name) for m in model.modules() for name in running(m)]
    if means:
        parallel.add_up(means)
        torch._foreach_div_(means, parallel.size())


def running(module: nn.Module) -> Sequence[str]:
    """Names of a module's own buffers that are running means."""
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return ("running_mean", "running_var") if module.track_running_stats else ()
    return getattr(module, "running", ())
