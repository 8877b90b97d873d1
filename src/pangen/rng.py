"""Randomness by name: every stream of numbers is a function of the keys that ask for it.

Nothing is drawn from a hidden global state, so a run resumes, and a sample repeats, without
storing the state of any generator.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch


def seed_of(*keys: int | str) -> int:
    """A 63-bit seed that depends on every key, well mixed."""
    digest = hashlib.blake2b("/".join(map(str, keys)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(device: torch.device | str, *keys: int | str) -> torch.Generator:
    """A generator on `device` seeded by the keys."""
    import torch

    return torch.Generator(device).manual_seed(seed_of(*keys))


def seed_global(device: torch.device, *keys: int | str) -> None:
    """Seed the global generators that code on `device` draws from.

    `torch.manual_seed` also queues the seed for every accelerator that is not in use, with a
    traceback each time: a third of a millisecond, and memory that is never freed.
    """
    import torch

    seed = seed_of(*keys)
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        getattr(torch, device.type).manual_seed(seed)


class Stream:
    """The global generators as one of several who take turns draws from them: inside `with` they are its own."""

    def __init__(self, device: torch.device | str) -> None:
        """As they stand now."""
        import torch

        self._kind = torch.device(device).type
        self.__exit__()

    def __enter__(self) -> None:
        import torch

        torch.set_rng_state(self._state)
        if self._kind != "cpu":
            getattr(torch, self._kind).set_rng_state(self._other)

    def __exit__(self, *_: object) -> None:
        import torch

        self._state = torch.get_rng_state()
        if self._kind != "cpu":
            self._other = getattr(torch, self._kind).get_rng_state()


class Chunk(NamedTuple):
    """Examples `start` to `stop`, and the generator that belongs to them alone."""

    start: int
    stop: int
    generator: torch.Generator


def chunks(n: int, size: int, device: torch.device | str, *keys: int | str) -> Iterator[Chunk]:
    """Cut `n` examples into chunks of `size`, the i-th with a generator made from (keys, i).

    Whoever draws noise for a whole chunk, also for the examples beyond `stop`, makes example i
    depend on (keys, i) and on nothing else.
    """
    for index, start in enumerate(range(0, n, size)):
        yield Chunk(start, min(start + size, n), generator(device, *keys, index))


def whole(start: int, size: int, n: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """Indices of a chunk, which is always full: a row's last bits depend on the size of its batch."""
    import torch

    return torch.arange(start, start + size, device=device).clamp(max=n - 1)
