"""From a recipe and its data to a run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pangen import parallel
from pangen.capabilities import HasCritic
from pangen.codecs import Codec
from pangen.data.batches import Batches, pieces_of
from pangen.data.dataset import Data
from pangen.data.trouble import find_trouble
from pangen.errors import DivergedError, LostError, PangenError, StorageError
from pangen.files import alone, make_folder, write_json, write_tensors
from pangen.folder import CARD, CODEC, WEIGHTS
from pangen.memory import is_exhausted, is_lost
from pangen.model import GenerativeModel
from pangen.precision import precision
from pangen.recipes import Recipe, build_model, write_recipe
from pangen.registry import get
from pangen.rng import generator, seed_global
from pangen.run import Run, check_precision
from pangen.space import Batch, Progress
from pangen.threads import threads, useful_threads
from pangen.training.alarm import collapse_warnings, held_out_warnings
from pangen.training.averages import save_snapshot
from pangen.training.budget import measure
from pangen.training.checkpoint import resume_state, save_checkpoint
from pangen.training.compiled import refusal
from pangen.training.convergence import falling_warnings, lag_warnings
from pangen.training.diagnose import first_not_finite
from pangen.training.footprint import check_footprint, ran_out
from pangen.training.interrupt import stoppable
from pangen.training.looks import Looks, drawn, looks_of, sample_alarms
from pangen.training.loop import Best, State, start_state, train_step
from pangen.training.monitor import alarms, gradient_norms, satisfied
from pangen.training.recompute import recompute
from pangen.training.record import Metrics, make_card
from pangen.training.selection import Score, validation_score
from pangen.training.sharded import check_sharded, whole
from pangen.training.teacher import teach
from pangen.training.trial import check_compiled, recorded

CHECKPOINT_SECONDS = 30.0
"""Between two checkpoints, at least."""
CHECKPOINT_SHARE = 0.02
"""Of a training's seconds, that checkpoints may take: what takes long to write is written more rarely."""
RESUME = "the last checkpoint is kept: go on with --resume"
"""What to do when the machine has failed."""
FULLER = "set model.precision to bfloat16 or full, or lower training.lr"
"""What to do where float16 may have overflowed."""
LOOKING, SHORTEST = 0.1, 0.5
"""Share of a training's seconds, or seconds, that samples to look at may take."""


@dataclass(frozen=True)
class Event:
    """What a progress bar is told: steps done and in all, and the latest numbers."""

    step: int
    total: int
    seconds: float
    numbers: dict[str, float]
    warnings: tuple[str, ...] = ()
    """What has begun to go wrong; before the first step, what is wrong with the data."""
    notes: tuple[str, ...] = ()
    """What was decided before the first step."""


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
    what is best so far. Raises `PangenError` when a loss is not finite, naming the layer where that
    began and keeping the last good weights as well; and when the disk or the device fails: then the folder
    holds the last checkpoint, from which `resume` goes on.
    """
    device = torch.device(device)
    check_precision(recipe.dtype, device)
    written = path if parallel.is_first() else None
    devices = [device] if device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices=devices),
        precision(recipe.dtype),
    ):  # the caller's random state is left alone
        if path is None and recipe.training.snapshots:
            raise PangenError("training.snapshots are kept in the run's folder: name one with `out`.")
        model = build_model(recipe, codec.space).to(device)  # refuses what it must before anything is written
        teach(model, codec, recipe.dtype)  # and so does this
        trouble = find_trouble(data).warnings
        if trouble:
            report(Event(0, recipe.training.steps, 0.0, {}, trouble))
        if "closed_form" in get(recipe.model["name"]).capabilities:
            with _only_one(written):
                return _fit_closed_form(recipe, data, codec, written, device, trouble)
        train = Batches(data.train, codec, recipe.training.batch, recipe.seed, device)
        if recipe.training.shard:
            check_sharded(model, resumed=resume)
        if recipe.training.recompute:
            recompute(model)
        check_footprint(model, train, recipe.training)
        useful = useful_threads(model, train[0])
        del model  # the training makes its own
        before = path if resume else None
        with threads(useful):  # for so many code is made
            check_compiled(recipe, codec, train, device)
        with _only_one(written), threads(useful):
            return _Training(recipe, data, codec, train, path, before, trouble).run(report)


def _only_one(path: Path | None) -> AbstractContextManager[None]:
    """The one training in a folder, which is made."""
    return nullcontext() if path is None else alone(make_folder(path))


def _fit_closed_form(
    recipe: Recipe, data: Data, codec: Codec, path: Path | None, device: torch.device, trouble: Sequence[str]
) -> Run:
    began = time.perf_counter()
    seed_global(device, "fit", recipe.seed)
    model = build_model(recipe, codec.space)
    train, validation = (
        Batches(split, codec, 1, recipe.seed, "cpu").all() for split in (data.train, data.validation)
    )
    found = model.fit_exactly(train, validation)
    if recipe.dtype != "float32":
        model.to(torch.get_default_dtype())
    recipe = replace(
        recipe, model={**recipe.model, **found}, training=replace(recipe.training, steps=1, budget=None)
    )
    seconds = time.perf_counter() - began
    card = make_card(recipe, model, "complete", seconds=seconds, steps=0, device=device, trouble=trouble)
    run = Run(recipe, codec, model.to(device).eval(), card)
    return run.save(path) if path else run


class _Training:
    """One training by steps, from its first or from a checkpoint to its end."""

    def __init__(
        self, recipe: Recipe, data: Data, codec: Codec, train: Batches, path: Path | None, before: Path | None,
        trouble: Sequence[str],
    ) -> None:  # fmt: skip
        """That writes into `path`, if at all, and goes on from the run `before`, if there is one."""
        self.codec, self.train, self.folder, self.device = codec, train, path, torch.device(train.device)
        self.path = path if parallel.is_first() else None
        self.data, self.trouble = data, trouble
        self.validation = Batches(data.validation, codec, recipe.training.batch, recipe.seed, self.device)
        self.notes: tuple[str, ...] = ()
        self.compiling = recorded(before) if before else None
        if recipe.training.budget and before is None:
            settings, choice = measure(recipe, codec, train, self.validation, self.device)
            recipe = replace(recipe, training=settings)
            if choice is not None:
                self.notes, self.compiling = (str(choice),), choice.to_json()
        self.recipe, self.settings = recipe, recipe.training
        self.state = self.start()
        self.warnings: list[str] = []
        if before:
            self.warnings = resume_state(before, self.state)
            parallel.wait()  # before anybody writes there
        if self.path:
            write_recipe(self.path, recipe)  # with it alone a training can be resumed
            write_json(self.path / CODEC, codec.to_json())
        self.metrics = Metrics(self.path, self.state.step)
        self.looks: Looks | None = None
        self.alarms = alarms(self.state.watched)
        self.checks, self.moments = map(self.spread, (self.settings.validations, self.settings.snapshots))

    def spread(self, count: int) -> set[int]:
        """So many steps, evenly spaced, the last among them."""
        return {round(self.settings.steps * (i + 1) / count) for i in range(count)}

    def start(self) -> State:
        return start_state(self.recipe, self.codec, self.train, self.device)

    def run(self, report: Report) -> Run:
        """Train, and keep what there is when it ends, however that is."""
        try:
            return self.to_the_end(report)
        except StorageError as error:
            remedy = error.remedy or "make that place writable"
            raise PangenError(f"{error.why}, at step {self.state.step}; {remedy}, and {RESUME}.") from None
        except LostError as error:
            raise PangenError(f"{error} at step {self.state.step}; {RESUME}.") from None
        except RuntimeError as error:
            if self.settings.compile == "on" and (why := refusal(error)):
                raise PangenError(
                    f"a network could not be compiled at step {self.state.step} ({why}); start another run with "
                    "training.compile set to off."
                ) from None
            if not is_lost(error) and not parallel.is_cut(error):
                raise
            why = str(error).splitlines()[0].rstrip(".")
            what = f"the device {self.device}" if is_lost(error) else "another process"
            raise PangenError(f"{what} was lost at step {self.state.step} ({why}); {RESUME}.") from None

    def to_the_end(self, report: Report) -> Run:
        state, settings, self.report = self.state, self.settings, report
        if self.notes:
            report(Event(state.step, settings.steps, state.seconds, {}, notes=self.notes))
        self.began, self.saved = time.perf_counter() - state.seconds, time.perf_counter()
        self.cost = 0.0
        failure = None
        try:
            with stoppable() as stop:
                while not self.ended and not parallel.any_of(stop.is_set()):
                    numbers = self.step()
                    report(Event(state.step, settings.steps, state.seconds, numbers))
        except (StorageError, LostError):  # what is there is whole, and nothing can be added to it
            raise
        except PangenError as error:
            failure = error
        if failure is None and not state.best.weights:
            self.validate()
        if failure is not None and not state.best.weights:  # the present ones are those that failed
            state.judged.load_state_dict(self.start().judged.state_dict())
        model = self.best_model()
        state.seconds = time.perf_counter() - self.began
        present = state.whole(state.model)
        if failure is None and parallel.is_first():
            self.look_for_trouble(model, present)
        outcome = "failed" if failure else "complete" if self.ended else "interrupted"
        self.save(outcome)
        if failure is not None:
            raise failure
        return Run(self.recipe, self.codec, model, self.card(outcome), self.path)

    def step(self) -> dict[str, float]:
        """One step, and what is due after it."""
        state = self.state
        try:
            pieces = self.train.pieces(state.step, self.settings.accumulate)
            numbers = train_step(state, pieces, self.settings)
        except (MemoryError, RuntimeError) as error:
            if not is_exhausted(error):
                raise
            numbers = None
        except DivergedError as error:
            where = self.first_not_finite()
            remedy = FULLER if self.state.scales else "lower training.lr or training.clip"
            kept = "last good weights are kept" if state.best.weights else "weights of the start are kept"
            raise PangenError(f"{error}{where and f', first {where}'}; the {kept}: {remedy}.") from None
        if numbers is None:  # here, where what the step held is free again
            raise self.ran_out()
        state.seconds = time.perf_counter() - self.began
        if state.step in self.moments:
            save_snapshot(self.path, state.powers, state.model, state.step)
        if state.step in self.checks:
            numbers |= self.validate()
        late = time.perf_counter() - self.saved > max(CHECKPOINT_SECONDS, self.cost / CHECKPOINT_SHARE)
        if parallel.agreed(late) if state.build else late:
            self.save("running")
        self.metrics.write(state.step, self.settings.steps, state.seconds, numbers)
        return numbers

    def first_not_finite(self) -> str:
        """Where the present step breaks, in words."""
        model, progress = self.state.whole(self.state.model), Progress(self.state.step, self.settings.steps)
        return first_not_finite(model, self.batch(), progress)

    def ran_out(self) -> PangenError:
        """The error for memory that did not suffice, with the batch that does."""
        if self.state.build:  # nothing can be tried without the other processes, which know nothing of it
            return LostError(f"{parallel.who()} ran out of memory")
        for optimizer in self.state.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        at_once = -(-self.train.size // pieces_of(self.train.size, self.settings.accumulate))
        progress = Progress(self.state.step, self.settings.steps)
        return ran_out(self.state.model, self.batch(), progress, self.settings, at_once)

    def batch(self) -> Batch:
        """The whole one of the present step, and its noise."""
        return self.train[self.state.step]

    def score(self, model: GenerativeModel) -> Score:
        """On the validation split, as training stands."""
        progress, examples = Progress(self.state.step, self.settings.steps), self.settings.validation_examples
        return validation_score(model, self.train, self.validation, progress, examples)

    def validate(self) -> dict[str, float]:
        """Score the validation split, and keep the weights if none before were better."""
        state = self.state
        judged = state.whole(state.judged)
        with parallel.sharing():
            score = parallel.agreed(self.score(judged))
        state.measure = score.name
        least = min((value for _, value in state.scores if math.isfinite(value)), default=math.inf)
        state.scores.append((state.step, score.value))
        if math.isfinite(score.value) and score.value - score.resolution < least:
            state.best = Best(score.value, state.step, state.kept(judged))
        watched = dict(score.facts)
        if isinstance(state.model, HasCritic):
            watched |= self.watch(score)
        return {f"validation {score.name}": score.value} | {f"watched {k}": v for k, v in watched.items()}

    def watch(self, score: Score) -> dict[str, float]:
        """The players' gradients; what goes wrong between them is noted when it begins."""
        progress = Progress(self.state.step, self.settings.steps)
        norms = gradient_norms(self.state.model, self.batch(), progress)
        self.state.watched.append(
            {**score.facts, **norms, "score": score.value, "progress": progress.fraction}
        )
        before, self.alarms = self.alarms, alarms(self.state.watched)
        new = [sentence for kind, sentence in self.alarms.items() if kind not in before]
        if new:
            self.metrics.write(self.state.step, self.settings.steps, self.state.seconds, {"warnings": new})
            self.report(Event(self.state.step, self.settings.steps, self.state.seconds, {}, tuple(new)))
        return norms

    @property
    def ended(self) -> bool:
        """Whether all steps are done, or no more are needed."""
        done = self.state.step >= self.settings.steps
        return done or satisfied(self.state.watched, self.settings.patience)

    @property
    def rise(self) -> float:
        """By how much the last validation was worse than the best."""
        return self.state.scores[-1][1] - self.state.best.score if self.state.best.weights else 0.0

    def look_for_trouble(self, model: GenerativeModel, present: GenerativeModel) -> None:
        """Look at likelihoods, codes, samples and the course of the scores, at the end; `present` is not averaged."""
        state, examples = self.state, self.settings.validation_examples
        self.warnings += [
            *held_out_warnings(model, self.train, self.validation, examples=examples, rise=self.rise),
            *collapse_warnings(model, self.validation, examples=examples),
            *self.alarms.values(),
            *self.sample_warnings(model),
        ]
        if self.ended and model.selection != "samples":
            self.warnings += falling_warnings(state.scores, state.measure)
            if state.average is not None:
                self.warnings += lag_warnings(state.scores, lambda: self.score(present).value, state.measure)
        if self.warnings:
            step, total = self.state.step, self.settings.steps
            self.metrics.write(step, total, self.state.seconds, {"warnings": self.warnings})

    def sample_warnings(self, model: GenerativeModel) -> list[str]:
        """What is wrong with samples, where these take no more than a tenth of the training."""
        self.looks = looks_of(self.data)
        run = Run(self.recipe, self.codec, model)
        if self.looks is None or not run.entry.samples:
            return []
        x = drawn(run, max(LOOKING * self.state.seconds, SHORTEST))
        return [] if x is None else list(sample_alarms(x, self.looks).values())

    def best_model(self) -> GenerativeModel:
        """The model with the best weights, thoroughly calibrated."""
        best = self.state.best
        model = build_model(self.recipe, self.codec.space).to(self.device).requires_grad_(False).eval()
        model.load_state_dict(whole(best.weights or self.state.judged.state_dict()))
        model.calibrate(generator(self.device, "calibrate"))
        if best.weights:
            best.weights = {k: v.clone() for k, v in model.state_dict().items()}
        return model

    def save(self, outcome: str) -> None:
        """Write weights, checkpoint and card, where the run has a folder."""
        state = self.state
        if self.folder is None or not (self.path or state.build):
            return
        began = time.perf_counter()
        weights = whole(state.best.weights or state.judged.state_dict())
        if self.path:
            write_tensors(self.path / WEIGHTS, weights)
        save_checkpoint(self.folder, state)
        self.saved = time.perf_counter()
        self.cost = self.saved - began
        state.saving += self.cost
        if self.path:
            write_json(self.path / CARD, self.card(outcome))

    def card(self, outcome: str) -> dict[str, Any]:
        state = self.state
        return make_card(
            self.recipe, state.judged, outcome, seconds=state.seconds, steps=state.step, device=self.device,
            best=state.best, warnings=self.warnings, looks=self.looks, trouble=self.trouble, saving=state.saving,
            compiling=self.compiling,
        )  # fmt: skip
