"""Ending a training early without losing it."""

from __future__ import annotations

import signal
import threading
from typing import Any


class stoppable:  # noqa: N801 - reads as a verb
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
