"""What a training says of itself, for TensorBoard as well."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pangen.errors import PangenError
from pangen.training.fit import Event, Report
from pangen.training.record import is_kept

FOLDER = "tensorboard"
"""Of a run's folder."""


class TensorBoard:
    """A report to be entered: the numbers that `metrics.jsonl` keeps go into a folder of events as well.

    Args:
        folder: of the events; it is made at the first step.
        report: is told each event, too.

    Raises:
        PangenError: the package is missing.
    """

    def __init__(self, folder: Path, report: Report = lambda event: None) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise PangenError(
                "events for TensorBoard need its package: pip install 'pangen[tensorboard]'."
            ) from None
        self._make, self._folder, self._report = SummaryWriter, folder, report
        self._writer: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def __call__(self, event: Event) -> None:
        self._report(event)
        if not event.step or not (event.warnings or is_kept(event.step, event.total, event.numbers)):
            return
        if self._writer is None:  # what a resumed training does again, takes the place of what was
            self._writer = self._make(str(self._folder), purge_step=event.step)
        for name, value in event.numbers.items():
            self._writer.add_scalar(name.replace(" ", "/", 1), value, event.step)
        for warning in event.warnings:
            self._writer.add_text("warnings", warning, event.step)
