"""From seconds to steps."""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from pangen.codecs import Codec
from pangen.data.batches import Batches
from pangen.recipes.recipe import Recipe, Training
from pangen.rng import seed_global
from pangen.space import Progress
from pangen.training.loop import start_state, train_step
from pangen.training.selection import validation_score


def measure(
    recipe: Recipe, codec: Codec, train: Batches, validation: Batches, device: torch.device
) -> Training:
    """Turn a budget in seconds into a number of steps, by timing the first ones on a copy.

    The copy is thrown away: a run with `--budget` is the run with `--steps` of what was measured.
    """
    settings, budget = recipe.training, recipe.training.budget
    assert budget is not None
    began = time.perf_counter()
    state = start_state(recipe, codec, train, device)
    warm, timed, spent = 3, 0, 0.0
    while timed < 5 or (spent < 0.04 * budget and timed < 200):
        tick = time.perf_counter()
        seed_global(device, "step", recipe.seed, state.step)
        train_step(state, train[state.step], settings)
        if state.step > warm:
            timed, spent = timed + 1, spent + time.perf_counter() - tick
        if time.perf_counter() - began > budget:
            break
    tick = time.perf_counter()
    validation_score(state.judged, validation, Progress(state.step, settings.steps))
    validating = time.perf_counter() - tick
    validations = max(1, min(settings.validations, int(0.15 * budget / max(validating, 1e-6))))
    left = budget - (time.perf_counter() - began) - validations * validating
    steps = max(int(left * timed / spent) if spent else 1, 1)
    return replace(settings, steps=steps, validations=min(validations, steps))
