"""Live bars on stderr; plain lines where stderr is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pangen.cli.output import console
from pangen.memory import gibibytes, used_memory

if TYPE_CHECKING:
    from pangen.evaluation import Stage
    from pangen.training import Event

REFRESH = 0.1
"""Seconds between two drawings."""


class _Live:
    """A rich progress display while it is entered; nothing where stderr is no terminal."""

    def __enter__(self) -> Self:
        self.bar: Any = None
        self._drawn = 0.0
        if sys.stderr.isatty():
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("{task.fields[numbers]}"),
                TimeRemainingColumn(),
            )
            self.bar = Progress(*columns, console=console(errors=True), refresh_per_second=5, transient=True)
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def due(self, event: Event) -> bool:
        """Whether it is time to draw again: a step can take less than drawing does."""
        now = time.perf_counter()
        if now - self._drawn < REFRESH and event.step < event.total:
            return False
        self._drawn = now
        return True


class FitBar(_Live):
    """One training: steps, loss, rate, time left. Without a terminal, ten lines in all."""

    def __init__(self, title: str) -> None:
        self.title, self._tenths = title, 0

    def __enter__(self) -> Self:
        super().__enter__()
        if self.bar is not None:
            self._task = self.bar.add_task(self.title, total=None, numbers="measuring")
        return self

    def __call__(self, event: Event) -> None:
        where = f"step {event.step}" if event.step else "data"
        for warning in event.warnings:
            console(errors=True).print(f"{where}: {warning}", markup=False, highlight=False, soft_wrap=True)
        for note in event.notes:
            console(errors=True).print(f"{self.title}: {note}", markup=False, highlight=False, soft_wrap=True)
        if event.warnings or event.notes:
            return
        if self.bar is not None:
            if self.due(event):
                self.bar.update(self._task, completed=event.step, total=event.total, numbers=_numbers(event))
        elif event.step * 10 // event.total > self._tenths:
            self._tenths = event.step * 10 // event.total
            left = event.seconds / event.step * (event.total - event.step)
            line = f"{self.title}: step {event.step}/{event.total}, {_numbers(event)}, {left:.0f} s left"
            print(line, file=sys.stderr)


class CompareBar(_Live):
    """All models, and the training of one of them. Without a terminal, a line for each model."""

    def __enter__(self) -> Self:
        super().__enter__()
        if self.bar is not None:
            self._models = self.bar.add_task("models", total=None, numbers="")
            self._steps = self.bar.add_task("", total=None, numbers="", visible=False)
        return self

    def __call__(self, stage: Stage) -> None:
        what = stage.what
        if self.bar is None:
            if isinstance(what, str) and what.startswith(("done", "failed")):
                print(f"{stage.index + 1}/{stage.count} {stage.model}: {what}", file=sys.stderr)
        elif isinstance(what, str):
            done = stage.index + what.startswith(("done", "failed"))
            self.bar.update(
                self._models, completed=done, total=stage.count, numbers=f"{stage.model}: {what[:40]}"
            )
            self.bar.update(self._steps, visible=False)
        elif self.due(what):
            self.bar.update(
                self._steps,
                description=stage.model,
                completed=what.step,
                total=what.total,
                numbers=_numbers(what),
                visible=True,
            )


def _numbers(event: Event) -> str:
    seen = ("validation", "watched")
    losses = {k: v for k, v in event.numbers.items() if "/" not in k and not k.startswith(seen)}
    parts = [f"{'loss' if k == 'model' else k} {v:.4g}" for k, v in losses.items()]
    rate, held = event.step / max(event.seconds, 1e-9), used_memory()
    parts.append(f"{rate:.0f} steps/s" if rate >= 10 else f"{rate:.2g} steps/s")
    return ", ".join([*parts, *([gibibytes(held)] if held else [])])


@contextmanager
def comparing(out: Path) -> Iterator[CompareBar]:
    """A bar for what is kept in `out`; Ctrl-C ends the program with a word on how to go on."""
    try:
        with redirect_stdout(sys.stderr), CompareBar() as bar:
            yield bar
    except KeyboardInterrupt:
        print(f"pangen: interrupted; the same command goes on from what {out} holds.", file=sys.stderr)
        raise SystemExit(130) from None
