"""Optimizers and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from pangen.recipes.recipe import Training
from pangen.space import Progress
from pangen.training.sharded import is_spread


def make_optimizers(
    players: Mapping[str, list[nn.Parameter]], settings: Training
) -> dict[str, torch.optim.Optimizer]:
    """One optimizer for each player."""
    common: dict[str, Any] = {"lr": settings.lr, "weight_decay": settings.weight_decay}

    def make(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        kinds = ([w for w in parameters if is_spread(w) == spread] for spread in (True, False))
        groups = [{"params": alike} for alike in kinds if alike]  # a fused step takes only one kind
        if settings.optimizer == "sgd":  # whose fused step knows no spread weights
            fused = not any(map(is_spread, parameters))
            return torch.optim.SGD(groups, momentum=settings.betas[0], fused=fused, **common)
        return torch.optim.AdamW(groups, betas=settings.betas, fused=True, **common)

    return {name: make(parameters) for name, parameters in players.items()}


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
