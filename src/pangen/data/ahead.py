"""Reading ahead: what the next step needs is read while this one is computed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor


class Ahead:
    """Reads examples `read(index)` in a thread of its own, which waits for disks and decoders."""

    def __init__(self, read: Callable[[Tensor], Any]) -> None:
        self.read, self.thread = read, ThreadPoolExecutor(1)
        self.coming: deque[tuple[Tensor, Future[Any]]] = deque()

    def __call__(self, index: Tensor) -> Any:
        """The examples at an index, which may be there already; raises what reading raises."""
        while self.coming:
            expected, found = self.coming.popleft()
            if torch.equal(expected, index):
                return found.result()
            found.cancel()
        return self.read(index)

    def begin(self, indices: Iterable[Tensor]) -> None:
        """Say what will be asked for next, in this order."""
        self.coming.extend((index, self.thread.submit(self.read, index)) for index in indices)
