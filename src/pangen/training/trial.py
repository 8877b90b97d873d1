"""Whether networks are compiled: tried on a copy, where a budget is long enough for a trial to pay."""

from __future__ import annotations

import statistics
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from pangen import parallel
from pangen.codecs import Codec
from pangen.data.batches import Batches
from pangen.errors import DivergedError, PangenError
from pangen.files import read_object
from pangen.folder import CARD
from pangen.recipes.recipe import Recipe, Training
from pangen.space import Progress
from pangen.training.compiled import Compiled, called, refusal
from pangen.training.loop import State, start_state, train_step

WORTHWHILE = 1800.0
"""Seconds of a budget from which on compiling is tried: a trial may take two minutes, a fifteenth of them, to save
a third of the others or nothing."""
FIRST = 3
"""Steps by which all is compiled that the following ones need."""
SHARE, FEWEST, MOST = 0.02, 5, 100
"""Of the budget, that steps with and without may take; pairs of them at least, and at most."""
GOLDEN = (5**0.5 - 1) / 2
"""Its multiples, modulo 1, fill the unit interval evenly (Weyl 1916)."""


@dataclass(frozen=True)
class Times:
    """Seconds that a trial took and found."""

    compiling: float
    step: float
    """Without compiled networks."""
    compiled_step: float
    left: float
    """Of the budget, after the trial."""

    @property
    def saved(self) -> float:
        """Of what is left, by compiled networks; negative where they are slower."""
        return self.left * (1 - self.compiled_step / self.step)

    @property
    def pays(self) -> bool:
        """Whether this is more than compiling takes, as it does again wherever the training is done again."""
        return self.saved > self.compiling

    def __str__(self) -> str:
        saved = f"{self.saved:.0f} s" if self.saved >= 0.5 else "nothing"
        return (
            f"compiling takes {self.compiling:.0f} s, and steps of {1e3 * self.compiled_step:.3g} ms instead of "
            f"{1e3 * self.step:.3g} save {saved} in the {self.left:.0f} s that are left"
        )


@dataclass(frozen=True)
class Choice:
    """Whether networks are compiled, and why."""

    compiled: bool
    why: str
    times: Times | None = None

    def __str__(self) -> str:
        return f"networks are {'' if self.compiled else 'not '}compiled: {self.why}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def somewhere(i: int, settings: Training) -> int:
    """A step of a training: of i = 0, 1, ... the first, and then others evenly spread over it."""
    return int(i * GOLDEN % 1 * settings.steps)


def choose(state: State, train: Batches, settings: Training, left: float) -> Choice:
    """By steps with and without on a state that is thrown away; `left` of the budget's seconds."""
    began = time.perf_counter()
    pieces = train.pieces(0, settings.accumulate)
    calls = called(state.model, [piece.batch for piece in pieces], Progress(0, settings.steps))
    if not calls:
        return Choice(False, "no network is called by a step of this model")
    networks = Compiled(state.model, calls)

    def seconds(i: int, how: AbstractContextManager[None]) -> float:
        state.step, state.compiled = somewhere(i, settings), how
        tick = time.perf_counter()
        train_step(state, train.pieces(state.step, settings.accumulate), settings)
        return time.perf_counter() - tick

    pairs: list[tuple[float, float]] = []

    def enough() -> bool:
        long = sum(map(sum, pairs)) >= SHARE * (settings.budget or 0.0)
        return len(pairs) >= FEWEST and (long or len(pairs) >= MOST)

    try:
        first = sum(seconds(i, networks) for i in range(FIRST))
        while not parallel.agreed(enough()):
            i = FIRST + len(pairs)
            pairs.append((seconds(i, nullcontext()), seconds(i, networks)))
    except DivergedError as error:
        return Choice(False, str(error))
    except RuntimeError as error:
        if not (why := refusal(error)):
            raise
        return Choice(False, why)
    step = statistics.median(plain for plain, _ in pairs)
    gain = statistics.median(plain / quick for plain, quick in pairs)
    left -= time.perf_counter() - began
    times = Times(max(first - FIRST * step / gain, 0.0), step, step / gain, left)
    return parallel.agreed(Choice(times.pays, str(times), times))


def recorded(run: Path) -> dict[str, Any] | None:
    """The choice that a run's card tells of, if it does."""
    return read_object(run / CARD).get("compiling") if (run / CARD).exists() else None


def check_compiled(recipe: Recipe, codec: Codec, train: Batches, device: torch.device) -> None:
    """Raise where networks are to be compiled and cannot be, by a step on a copy."""
    name, settings = recipe.model["name"], recipe.training
    if settings.compile != "on":
        return
    try:
        train_step(start_state(recipe, codec, train, device), train.pieces(0, settings.accumulate), settings)
    except DivergedError:  # the training itself will say so
        pass
    except RuntimeError as error:
        if not (why := refusal(error)):
            raise
        raise PangenError(
            f"the networks of this {name} cannot be compiled ({why}): set training.compile to off."
        ) from None
