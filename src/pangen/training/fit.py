"""From a recipe and its data to a run."""

from __future__ import annotations

import json
import os
import platform
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

import pangen
from pangen.capabilities import HasClosedForm
from pangen.codecs import Codec
from pangen.data.batches import Batches
from pangen.data.dataset import Data
from pangen.errors import PangenError
from pangen.files import make_folder, write_json, write_tensors
from pangen.model import GenerativeModel
from pangen.recipes.recipe import Recipe, build_model
from pangen.registry import get
from pangen.rng import generator, seed_global
from pangen.run import CARD, CHECKPOINT, CODEC, METRICS, RECIPE, WEIGHTS, Run
from pangen.space import Progress
from pangen.training.checkpoint import load_checkpoint, save_checkpoint
from pangen.training.loop import Best, State, train_step
from pangen.training.selection import validation_score

START = 512
"""Examples for a data-dependent start."""
CHECKPOINT_SECONDS = 30.0


@dataclass(frozen=True)
class Event:
    """What a progress bar is told: steps done and in all, and the latest numbers."""

    step: int
    total: int
    seconds: float
    numbers: dict[str, float]


Report = Callable[[Event], None]


def fit_recipe(
    recipe: Recipe,
    data: Data,
    codec: Codec,
    *,
    path: Path | None = None,
    device: torch.device | str = "cpu",
    resume: bool = False,
    report: Report = lambda event: None,
) -> Run:
    """Train, and keep the weights that are best on the validation split.

    With a `path` the run is a folder, usable at any moment: Ctrl-C ends the training and keeps
    what is best so far. Raises `PangenError` when a loss is not finite, keeping the last good
    weights as well.
    """
    if path is not None:
        make_folder(path)
        write_json(path / CODEC, codec.to_json())
    device = torch.device(device)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):  # the caller's random state is left alone
        if "closed_form" in get(recipe.model["name"]).capabilities:
            return _fit_closed_form(recipe, data, codec, path, device)
        return _fit_by_steps(recipe, data, codec, path, device, resume, report)


def _fit_closed_form(
    recipe: Recipe, data: Data, codec: Codec, path: Path | None, device: torch.device
) -> Run:
    began = time.perf_counter()
    seed_global(device, "fit", recipe.seed)
    model = build_model(recipe, codec.space)
    assert isinstance(model, HasClosedForm)
    train, validation = (
        Batches(split, codec, 1, recipe.seed, "cpu").all() for split in (data.train, data.validation)
    )
    found = model.fit_exactly(train, validation)
    recipe = replace(
        recipe, model={**recipe.model, **found}, training=replace(recipe.training, steps=1, budget=None)
    )
    card = _card(recipe, model, "complete", seconds=time.perf_counter() - began, steps=0, device=device)
    run = Run(recipe, codec, model.to(device).eval(), card)
    return run.save(path) if path else run


def _fit_by_steps(
    recipe: Recipe,
    data: Data,
    codec: Codec,
    path: Path | None,
    device: torch.device,
    resume: bool,
    report: Report,
) -> Run:
    train = Batches(data.train, codec, recipe.training.batch, recipe.seed, device)
    validation = Batches(data.validation, codec, recipe.training.batch, recipe.seed, device)
    if recipe.training.budget and not resume:
        recipe = replace(recipe, training=measure(recipe, codec, train, validation, device))
    settings = recipe.training
    state = _start(recipe, codec, train, device)
    if resume and path and (path / CHECKPOINT).exists():
        load_checkpoint(path / CHECKPOINT, state)
    if path:
        write_json(path / RECIPE, recipe.to_json())
    log = _Log(path, resume)
    checks = {round(settings.steps * (i + 1) / settings.validations) for i in range(settings.validations)}
    began, saved = time.perf_counter() - state.seconds, time.perf_counter()
    outcome, failure = "complete", None

    def card(outcome: str) -> dict[str, Any]:
        return _card(
            recipe,
            state.judged,
            outcome,
            seconds=state.seconds,
            steps=state.step,
            device=device,
            best=state.best,
        )

    def save(outcome: str) -> None:
        if path is None:
            return
        write_tensors(path / WEIGHTS, state.best.weights or state.judged.state_dict())
        save_checkpoint(path / CHECKPOINT, state)
        write_json(path / CARD, card(outcome))

    try:
        with _stoppable() as stop:
            while state.step < settings.steps and not stop.is_set():
                seed_global(device, "step", recipe.seed, state.step)
                numbers = train_step(state, train[state.step], settings)
                state.seconds = time.perf_counter() - began
                if state.step in checks:
                    numbers |= _validate(state, validation, settings.steps)
                    if path and time.perf_counter() - saved > CHECKPOINT_SECONDS:
                        save("running")
                        saved = time.perf_counter()
                log.write(state.step, settings.steps, state.seconds, numbers)
                report(Event(state.step, settings.steps, state.seconds, numbers))
            if state.step < settings.steps:
                outcome = "interrupted"
    except PangenError as error:
        outcome, failure = "failed", error
    if failure is None and not state.best.weights:
        _validate(state, validation, settings.steps)
    model = _best_model(state, recipe, codec, device)
    state.seconds = time.perf_counter() - began
    save(outcome)
    if failure is not None:
        raise failure
    return Run(recipe, codec, model.requires_grad_(False).eval(), card(outcome), path)


def _best_model(state: State, recipe: Recipe, codec: Codec, device: torch.device) -> GenerativeModel:
    """The model with the best weights, thoroughly calibrated."""
    model = build_model(recipe, codec.space).to(device).eval()
    model.load_state_dict(state.best.weights or state.judged.state_dict())
    model.calibrate(generator(device, "calibrate"))
    if state.best.weights:
        state.best.weights = {k: v.detach().clone() for k, v in model.state_dict().items()}
    return model


def _start(recipe: Recipe, codec: Codec, train: Batches, device: torch.device) -> State:
    model = build_model(recipe, codec.space).to(device).train()
    seed_global(device, "start", recipe.seed)
    with torch.no_grad():
        model.initialize(train.first(START))
    return State.start(model, recipe.training)


def _validate(state: State, validation: Batches, total: int) -> dict[str, float]:
    name, score = validation_score(state.judged, validation, Progress(state.step, total))
    if score < state.best.score or not state.best.weights:
        weights = {k: v.detach().clone() for k, v in state.judged.state_dict().items()}
        state.best = Best(score, state.step, weights)
    return {f"validation {name}": score}


def measure(recipe: Recipe, codec: Codec, train: Batches, validation: Batches, device: torch.device) -> Any:
    """Turn a budget in seconds into a number of steps, by timing the first ones on a copy.

    The copy is thrown away: a run with `--budget` is the run with `--steps` of what was measured.
    """
    settings, budget = recipe.training, recipe.training.budget
    assert budget is not None
    began = time.perf_counter()
    state = _start(recipe, codec, train, device)
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


class _stoppable:  # noqa: N801 - reads as a verb
    """Ctrl-C or SIGTERM sets an event that the loop reads between two steps; a second one ends at once."""

    def __enter__(self) -> threading.Event:
        event = threading.Event()
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():  # only there can handlers be set

            def stop(number: int, frame: Any) -> None:
                event.set()
                self.__exit__()

            self._before = {n: signal.signal(n, stop) for n in (signal.SIGINT, signal.SIGTERM)}
        return event

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class _Log:
    """`metrics.jsonl`: about 200 training rows a run, and every validation."""

    def __init__(self, path: Path | None, resume: bool) -> None:
        self._file = path / METRICS if path else None
        if self._file and not resume:
            self._file.write_text("")

    def write(self, step: int, total: int, seconds: float, numbers: dict[str, float]) -> None:
        chosen = step % max(total // 200, 1) == 0 or any(k.startswith("validation") for k in numbers)
        if self._file and chosen:
            row = {"step": step, "seconds": round(seconds, 3), **numbers}
            with open(self._file, "a") as file:
                file.write(json.dumps(row) + "\n")


def _card(
    recipe: Recipe,
    model: GenerativeModel,
    state: str,
    *,
    seconds: float,
    steps: int,
    device: torch.device,
    best: Best | None = None,
) -> dict[str, Any]:
    entry = get(recipe.model["name"])
    return {
        "state": state,
        "model": entry.name,
        "family": entry.family,
        "data": recipe.data.name,
        "seed": recipe.seed,
        "steps": steps,
        "total_steps": recipe.training.steps if best else 0,
        "seconds": round(seconds, 3),
        "best": {"step": best.step, "score": best.score} if best and best.weights else None,
        "parameters": sum(p.numel() for p in model.parameters()),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "versions": {
            "pangen": pangen.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
