"""Several processes that work as one, by PyTorch's own engine: `torchrun --nproc-per-node 2 -m pangen ...`, or in the
process group of a script that has made one.

Each process computes its share of what all would compute, and all go through the same steps: whatever depends on
the clock or on a signal is decided by the first process, and told to the others (`agreed`). Alone, a process is
the first of one, and nothing here costs it anything.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from pangen.errors import LostError, PangenError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_sharing = False
_place: tuple[int, int] | None = None
"""Which process this is, and of how many, where there are others and they have met."""
_store: Any = None
"""What the processes share beside their messages, where they met by themselves."""
Item = TypeVar("Item")
Value = TypeVar("Value")

TOLD = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What `torchrun` tells each process of its place."""
BUCKET = 2**23
"""Numbers that travel in one message, about: each message costs as much again as some thousands of numbers."""
WAIT = timedelta(seconds=2)
"""For the first process, before another one tells a mistake itself."""


def size() -> int:
    """How many processes work as one."""
    if _place is not None:
        return _place[1]
    return int(os.environ["WORLD_SIZE"]) if _started() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    if _place is not None:
        return _place[0]
    return int(os.environ["RANK"]) if _started() else 0


def who() -> str:
    """This process, as errors call it."""
    return f"process {rank()} of {size()}"


def is_first() -> bool:
    """Whether this process writes the files and speaks."""
    return rank() == 0


def restarted() -> bool:
    """Whether `torchrun` has started the processes anew after one was lost."""
    return _started() and int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0


def local_device(kind: str) -> str:
    """The device of a kind that belongs to this process: of several accelerators each process has its own."""
    return f"{kind}:{os.environ['LOCAL_RANK']}" if _started() and kind != "cpu" else kind


def _started() -> bool:
    return all(name in os.environ for name in TOLD) and int(os.environ["WORLD_SIZE"]) > 1


def join() -> None:
    """Meet the other processes, if there are some and it has not happened yet: until the end those that `torchrun`
    started, or as long as it lasts those of the process group that a script has made."""
    global _place, _store
    import torch
    import torch.distributed as dist

    _place = None
    if dist.is_available() and dist.is_initialized():
        if dist.get_world_size() > 1:
            _place = _place_in_group()
        return
    if not _started():
        return
    import atexit

    ways = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "cpu:gloo"
    try:
        # a store outlives its processes: keys of those that were lost would lead the new ones to closed doors
        store, *_ = next(dist.rendezvous("env://", rank(), size()))
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = dist.PrefixStore(f"pangen, attempt {attempt}", store)
        dist.init_process_group(ways, store=store, rank=rank(), world_size=size())
    except (RuntimeError, ValueError) as error:
        why = str(error).splitlines()[0].rstrip(".")
        raise PangenError(
            f"{who()} could not meet the others ({why}): check the addresses given to torchrun."
        ) from None
    _store, _place = store, (rank(), size())
    atexit.register(_leave)
    if torch.cuda.device_count() > int(os.environ["LOCAL_RANK"]):
        torch.cuda.set_device(local_device("cuda"))


def _place_in_group() -> tuple[int, int]:
    """In that of all processes; raises where it cannot carry what is told."""
    import torch.distributed as dist

    if "cpu:" not in (ways := dist.get_backend_config()):
        raise PangenError(
            f"the process group of this script carries no tensors of the CPU ({ways}): make it with "
            "init_process_group('cpu:gloo,cuda:nccl')."
        )
    return dist.get_rank(), dist.get_world_size()


def _leave() -> None:
    """End what `join` began, where nobody else has."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def together() -> bool:
    """Whether there are other processes, met by `join`."""
    return _place is not None


@contextmanager
def reached() -> Iterator[None]:
    """Where the others do not answer any more, say so."""
    try:
        yield
    except RuntimeError as error:
        why = str(error).splitlines()[0].rstrip(".")
        raise LostError(f"{who()} lost another one ({why})") from None


def is_cut(error: BaseException) -> bool:
    """Whether an exception of the engine says that another process does not answer."""
    import torch.distributed as dist

    return together() and (isinstance(error, dist.DistError) or "gloo" in str(error))


def wait() -> None:
    """Until all processes are here."""
    if together():
        import torch.distributed as dist

        with reached():
            dist.barrier()


def agreed(value: Value) -> Value:
    """The first process's value, in all processes."""
    if not together():
        return value
    import torch.distributed as dist

    told = [value]
    with reached():
        dist.broadcast_object_list(told, src=0)
    return told[0]


def any_of(flag: bool) -> bool:
    """Whether it holds in any process."""
    if not together():
        return flag
    import torch
    import torch.distributed as dist

    told = torch.tensor(int(flag))
    with reached():
        dist.all_reduce(told)
    return bool(told)


def shares(count: int) -> range:
    """Which of `count` equal pieces of work are this process's; `count` is a multiple of `size()`."""
    each = count // size()
    return range(rank() * each, (rank() + 1) * each)


def add_up(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its sum over the processes, in few messages; one dtype travels with its like."""
    if not together():
        return
    import torch.distributed as dist
    from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

    sent = []
    with reached():
        for bucket in _buckets(tensors):
            flat = _flatten_dense_tensors(bucket)
            sent.append((bucket, flat, dist.all_reduce(flat, async_op=True)))
        for bucket, flat, message in sent:
            message.wait()
            for mine, ours in zip(bucket, _unflatten_dense_tensors(flat, bucket), strict=True):
                mine.copy_(ours)


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    by_type: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        by_type.setdefault(tensor.dtype, []).append(tensor)
    for alike in by_type.values():
        bucket, held = [], 0
        for tensor in alike:
            bucket.append(tensor)
            held += tensor.numel()
            if held >= BUCKET:
                yield bucket
                bucket, held = [], 0
        if bucket:
            yield bucket


@contextmanager
def sharing() -> Iterator[None]:
    """Here all processes ask for the same samples and likelihoods, so that `spread` may divide the work."""
    global _sharing
    before, _sharing = _sharing, together()
    try:
        yield
    finally:
        _sharing = before


def spread(items: Iterable[Item], work: Callable[[Item], Value]) -> list[Value]:
    """`work` of every item, in order; while `sharing`, each process does its part, and all receive everything.

    Results are equal to those of one process; tensors come on the CPU.
    """
    global _sharing
    if not _sharing:
        return [work(item) for item in items]
    import torch.distributed as dist

    _sharing = False  # what one item needs is this process's own work
    try:
        mine = [_portable(work(item)) for item in islice(items, rank(), None, size())]
    finally:
        _sharing = True
    parts: list[list[Value]] = [[] for _ in range(size())]
    with reached():
        dist.all_gather_object(parts, mine)
    return [part[i] for i in range(len(parts[0])) for part in parts if i < len(part)]


def _portable(value: Value) -> Value:
    return value.cpu() if hasattr(value, "cpu") else value


def is_heard(sentence: str) -> bool:
    """Whether the first process says the same, so that this one need not."""
    if _store is None:
        return False
    if is_first():
        _store.set("said", sentence)
        return False
    try:
        _store.wait(["said"], WAIT)
        return _store.get("said").decode() == sentence
    except RuntimeError:
        return False
