"""Optimizers and learning-rate schedules."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import compress
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pangen.recipes.recipe import Training
from pangen.space import Progress
from pangen.threads import threads
from pangen.training.sharded import is_spread

LARGE = 2**17
"""Numbers of a weight from which on a second thread pays for being woken, as measured."""


def make_optimizers(
    players: Mapping[str, list[nn.Parameter]], settings: Training
) -> dict[str, torch.optim.Optimizer]:
    """One optimizer for each player."""
    common: dict[str, Any] = {"lr": settings.lr, "weight_decay": settings.weight_decay}

    def make(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        kinds: dict[Any, list[nn.Parameter]] = defaultdict(list)  # a fused step takes only one
        for w in parameters:
            kinds[is_spread(w), w.dtype].append(w)
        groups = [{"params": alike} for alike in kinds.values()]
        if settings.optimizer == "sgd":  # whose fused step knows no spread weights
            fused = not any(map(is_spread, parameters))
            return SGD(groups, momentum=settings.betas[0], fused=fused, **common)
        return AdamW(groups, betas=settings.betas, **common)

    return {name: make(parameters) for name, parameters in players.items()}


class Fused(torch.optim.Optimizer):
    """Whose step wakes all threads for each weight, however small, and waits for them."""

    @cached_property
    def hands(self) -> int | None:
        """Threads that this is worth; None: all."""
        sizes = [w.numel() for group in self.param_groups for w in group["params"]]
        return 1 if sum(sizes) < LARGE * len(sizes) else None


class SGD(Fused, torch.optim.SGD):
    """torch's, by as many threads as it is worth."""

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move the weights that have a gradient."""
        with threads(self.hands):
            super().step()


class AdamW(Fused, torch.optim.AdamW):
    """torch's fused AdamW (Loshchilov and Hutter 2019), to the bit, in half the time and less where a network is small.

    There torch spends more on a count of steps for each weight and on its lists than on arithmetic. Here counts are
    places of one vector, and lists are made once. Weights of a group have one dtype and one device.
    """

    def __init__(self, groups: list[dict[str, Any]], **settings: Any) -> None:
        super().__init__(groups, fused=True, **settings)
        self.moments: dict[int, Moments] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.moments = {}  # not those of the state before

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move the weights that have a gradient."""
        for index, group in enumerate(self.param_groups):
            if index not in self.moments:
                self.moments[index] = Moments.of(group["params"], self.state)
            moments, gradients = self.moments[index], [w.grad for w in group["params"]]
            lists = [group["params"], gradients, moments.means, moments.squares, moments.each]
            if all(g is not None for g in gradients):
                moments.counts.add_(1)
            else:
                has = [g is not None for g in gradients]
                moments.counts.add_(torch.tensor(has, device=moments.counts.device))
                lists = [list(compress(those, has)) for those in lists]
            weights, gradients, means, squares, counts = lists
            beta1, beta2 = group["betas"]
            with threads(self.hands):
                torch._fused_adamw_(
                    weights, gradients, means, squares, [], counts, lr=group["lr"], beta1=beta1, beta2=beta2,
                    weight_decay=group["weight_decay"], eps=group["eps"], amsgrad=False, maximize=False,
                )  # fmt: skip

    step.hooked = True  # type: ignore[attr-defined]  # torch would wrap it for hooks, of which there are none


class Moments(NamedTuple):
    """What an optimizer holds of a group's weights, in their order."""

    means: list[Tensor]
    """Of their gradients."""
    squares: list[Tensor]
    """The mean squares of these."""
    counts: Tensor
    """How often each weight has moved."""
    each: list[Tensor]
    """Views of the counts."""

    @classmethod
    def of(cls, weights: Sequence[Tensor], state: dict[Tensor, dict[str, Tensor]]) -> Moments:
        """Of a state that torch's AdamW has as well; its counts become views of one vector."""
        for w in weights:
            if not state[w]:
                start = torch.zeros((), device=w.device), torch.zeros_like(w), torch.zeros_like(w)
                state[w] = dict(zip(("step", "exp_avg", "exp_avg_sq"), start, strict=True))
        held = [state[w] for w in weights]
        counts = torch.stack([own["step"] for own in held])
        each = list(counts)
        for own, count in zip(held, each, strict=True):
            own["step"] = count
        return cls([own["exp_avg"] for own in held], [own["exp_avg_sq"] for own in held], counts, each)


def rate(progress: Progress, settings: Training) -> float:
    """The learning rate of a step."""
    if progress.step < settings.warmup:
        return settings.lr * (progress.step + 1) / settings.warmup
    done = (progress.step - settings.warmup) / max(progress.total - settings.warmup, 1)
    match settings.schedule:
        case "linear":
            left = 1 - done
        case "cosine":
            left = (1 + math.cos(math.pi * done)) / 2
        case _:
            left = 1.0
    return settings.lr * (settings.final + (1 - settings.final) * left)
