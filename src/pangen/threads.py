"""How many processor threads: small work is slower on several than on one.

Threads that sleep between two pieces of work, as they must on a machine that others use too, take
longer to wake than a small layer takes to compute.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pangen.model import GenerativeModel
    from pangen.space import Batch

PATIENCE = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "1000"}
"""How long threads look for work before they sleep, in the environment: some 10 microseconds, as from one layer to the next.
Those that never sleep make a step on a busy machine up to 100 times slower, and those that sleep at once one on a
quiet machine by a third."""
WORTHWHILE = 3.5e7
"""Floating-point operations of a typical product from which on a second thread pays."""


def be_patient() -> None:
    """Before torch is imported: threads wait as `PATIENCE` says, unless the environment says otherwise."""
    if not PATIENCE.keys() & os.environ.keys():
        os.environ |= PATIENCE


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Compute on at most `count` threads, and at most as many as are allowed already."""
    import torch

    allowed = torch.get_num_threads()
    torch.set_num_threads(min(count or allowed, allowed))
    try:
        yield
    finally:
        torch.set_num_threads(allowed)


def useful_threads(model: GenerativeModel, batch: Batch) -> int:
    """All that are allowed where the loss of a batch multiplies large matrices, else one.

    Threads are woken for each product: what counts is the size of the one that a typical operation is part of.
    Counted, not timed: the number is the same each time, and so are the last digits of a sum.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry

    from pangen.space import Progress

    products: list[float] = []

    class Counter(TorchDispatchMode):  # torch's own counter does not work with gradient penalties
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            if func._overloadpacket in flop_registry:
                products.append(flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=out))
            elif func.namespace == "mkldnn":  # of `networks.linear`: x and W^T
                products.append(2 * args[0].numel() * len(args[1]))
            return out

    allowed = torch.get_num_threads()
    if allowed == 1 or model.device.type != "cpu":
        return allowed
    with Counter():
        next(model.steps(batch, Progress(0, 1)))
    typical = sum(f * f for f in products) / max(sum(products), 1)
    return allowed if typical >= WORTHWHILE else 1
