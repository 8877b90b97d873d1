"""From seconds to steps."""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from pangen import parallel
from pangen.codecs import Codec
from pangen.data.batches import Batches
from pangen.errors import DivergedError
from pangen.recipes.recipe import Recipe, Training
from pangen.space import Progress
from pangen.training.loop import State, start_state, train_step
from pangen.training.selection import validation_score
from pangen.training.trial import WORTHWHILE, Choice, choose, somewhere

SHARE = 0.15
"""Of the budget, for validation."""
FEWEST = 4
"""Validations of a training, at least."""


def measure(
    recipe: Recipe, codec: Codec, train: Batches, validation: Batches, device: torch.device
) -> tuple[Training, Choice | None]:
    """Turn a budget in seconds into a number of steps, by timing some on a copy.

    They are spread over the whole training, whose phases may cost differently. The copy is thrown
    away: a run with `--budget` is the run with `--steps` of what was measured. Whether networks are compiled
    is decided then, too; the choice is None where there was none to be made.
    """
    settings, budget = recipe.training, recipe.training.budget or 0.0
    began = time.perf_counter()
    state = start_state(recipe, codec, train, device)
    warm, tried, timed, spent = 3, 0, 0, 0.0

    def enough() -> bool:
        looked = timed >= 5 and (spent >= 0.04 * budget or timed >= 200)
        return looked or (tried > 0 and time.perf_counter() - began > budget)

    while not parallel.agreed(enough()):
        state.step = somewhere(tried, settings)
        tick = time.perf_counter()
        try:
            train_step(state, train.pieces(state.step, settings.accumulate), settings)
        except DivergedError:  # the training itself will say so
            break
        tried += 1
        if tried > warm:
            timed, spent = timed + 1, spent + time.perf_counter() - tick
    settings, validating = _affordable(state, train, validation, settings)
    choice = None
    if settings.compile == "auto":
        if budget >= WORTHWHILE and timed and not settings.shard:
            choice = choose(state, train, settings, budget - (time.perf_counter() - began) - validating)
            if choice.compiled and choice.times:
                spent *= choice.times.compiled_step / choice.times.step
        settings = replace(settings, compile="on" if choice and choice.compiled else "off")
    left = budget - (time.perf_counter() - began) - validating
    steps = max(int(left * timed / spent) if spent else tried + 1, 1)
    settings = replace(settings, steps=steps, validations=min(settings.validations, steps))
    return parallel.agreed(settings), choice


def _affordable(
    state: State, train: Batches, validation: Batches, settings: Training
) -> tuple[Training, float]:
    """Settings that say how often to validate and on how many examples, and the seconds that takes: a share of the budget.

    Rarer validations come first; only when four are too many does each see fewer examples.
    """
    seconds = {}
    for examples in (16, 64):
        tick = time.perf_counter()
        validation_score(
            state.whole(state.judged), train, validation, Progress(state.step, settings.steps), examples
        )
        seconds[examples] = time.perf_counter() - tick
    each = max(seconds[64] - seconds[16], 0.0) / 48
    fixed = max(seconds[16] - 16 * each, 0.0)
    share, examples = (
        SHARE * (settings.budget or 0.0),
        min(settings.validation_examples, len(validation.split)),
    )
    often = min(int(share / max(fixed + examples * each, 1e-6)), settings.validations)
    if often < FEWEST:
        often, affordable = FEWEST, int((share / FEWEST - fixed) / max(each, 1e-9))
        examples = min(max(affordable, 16), examples)
    validating = often * (fixed + examples * each)
    return replace(settings, validations=often, validation_examples=examples), validating
