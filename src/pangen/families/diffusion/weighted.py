"""The loss of most members: the squared error of the estimate, in a unit that goes with the noise level."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from pangen.families.diffusion.denoising import Denoising, stratified
from pangen.networks.preconditioning import Coefficients, column
from pangen.space import Batch, Loss, Progress, Space


class Weighted(Denoising):
    """x0 estimated from x = x0 + sigma e, levels as the schedule has them.

    Args:
        space: of the examples.
        coefficients: what the network predicts.
        unit: by which errors at a noise level are measured; None: c_out, which makes the loss that of what the network predicts.
        settings: of `Denoising`.
    """

    def __init__(
        self,
        space: Space,
        *,
        coefficients: Coefficients,
        unit: Callable[[Tensor], Tensor] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(space, coefficients=coefficients, **settings)
        self.unit = unit or (lambda level: coefficients(level)[1])

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        t = stratified(len(batch.x), batch.x.device)
        sigma = self.schedule(t, self.low, self.high)
        error = self.errors(batch, sigma, progress)
        return Loss((error / self.unit(column(sigma, error))).square().mean())
