"""What samplers of a denoiser share: where they start, how they ask it, and fresh noise.

States are float64, networks see the type of the noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from pangen.capabilities import HasDenoiser
from pangen.errors import PangenError
from pangen.samplers.noise import Spacing


class Sampler(Protocol):
    """From noise to data along falling noise levels."""

    @property
    def evaluations(self) -> int | None:
        """Calls of the denoiser for a sample; None where the sample decides."""
        ...

    @property
    def deterministic(self) -> bool:
        """Whether the starting noise alone decides the sample."""
        ...

    def __call__(
        self, model: HasDenoiser, noise: Tensor, y: Tensor | None = None, *, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """From `noise` `(n, *shape)` of variance 1; yields the estimate of the example at each step."""
        ...


def start(model: HasDenoiser, noise: Tensor, steps: int, spacing: Spacing) -> tuple[Tensor, Tensor]:
    """The state of most noise, and the levels `(steps + 1,)` to go through; the last is 0."""
    at_least_one(steps)
    x = precise(noise) * model.sigma_max
    levels = spacing(steps, model.sigma_min, model.sigma_max)
    return x, torch.cat([levels, levels.new_zeros(1)]).to(x)


def denoised(model: HasDenoiser, x: Tensor, sigma: Tensor, y: Tensor | None, like: Tensor) -> Tensor:
    """The model's estimate `(B, *shape)` at a level `()`, or at one for each row `(B,)`, asked in the type of `like`."""
    return model.denoise(x.to(like.dtype), sigma.to(like.dtype).expand(len(x)), y).to(x.dtype)


def fresh(noise: Tensor, generator: torch.Generator) -> Tensor:
    """More noise of the kind and the shape of `noise`."""
    return precise(torch.randn(noise.shape, generator=generator, device=noise.device, dtype=noise.dtype))


def precise(x: Tensor) -> Tensor:
    """In float64, where the device has it, elementwise."""
    return x.float() if x.device.type == "mps" else x.double()


def refuse(wrong: bool, name: str, value: float, range_: str) -> None:
    """A setting out of its range, in one sentence.

    Raises:
        PangenError: when it is `wrong`.
    """
    if wrong:
        raise PangenError(f"{name} = {value} is out of range; take {range_}.")


def at_least_one(steps: int) -> None:
    """Steps of a sampler, checked.

    Raises:
        PangenError: there are none.
    """
    if steps < 1:
        raise PangenError(f"cannot sample in {steps} steps; ask for at least 1.")
