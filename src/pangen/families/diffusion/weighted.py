"""The loss of most members: the squared error of the estimate, in a unit that goes with the noise level."""

from __future__ import annotations

from typing import Any

from pangen.families.diffusion.denoising import Denoising
from pangen.networks.preconditioning import Unit
from pangen.samplers.noise import stratified
from pangen.space import Batch, Loss, Progress, Space


class Weighted(Denoising):
    """x0 estimated from x = x0 + sigma e, levels as the schedule has them.

    Args:
        space: of the examples.
        unit: by which errors are measured; None makes the loss that of what the network says.
        settings: of `Denoising`.
    """

    def __init__(self, space: Space, *, unit: Unit | None = None, **settings: Any) -> None:
        super().__init__(space, **settings)
        self.unit = unit

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        t = stratified(len(batch.x), batch.x.device)
        sigma = self.schedule(t, self.low, self.high)
        return Loss(self.squares(batch, sigma, progress, self.unit).mean())
