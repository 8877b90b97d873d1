"""What the members of the family share: one denoiser, how it errs, its samplers and its codes.

Noise is added to a signal that keeps its size, x = x0 + sigma e; all processes are this one in other
coordinates. A member is what its network predicts, a law of noise levels, a loss, a sampler and a likelihood.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from pangen.errors import PangenError
from pangen.model import GenerativeModel
from pangen.networks.labels import hide
from pangen.networks.preconditioning import ErrorByLevel, Preconditioned, Prediction, Unit, column
from pangen.networks.roles import Architecture
from pangen.samplers.choice import Name, Spaced, choose, spacing_of
from pangen.samplers.coupling import Coupling, independent
from pangen.samplers.denoise import Sampler, precise
from pangen.samplers.guidance import Guided
from pangen.samplers.interpolation import spherical
from pangen.samplers.noise import Schedule
from pangen.samplers.ode import DormandPrince
from pangen.samplers.probability_flow import carry
from pangen.space import Batch, Progress, Space


class Denoising(GenerativeModel):
    """x0 estimated from x = x0 + sigma e; codes are the noise at the other end of the probability flow.

    Args:
        space: of the examples.
        network: what it is made of.
        prediction: what the network says.
        schedule: noise levels that rise with t, which is uniform in training.
        ends: the lowest and the highest level, in standard deviations of the data.
        unlabelled: share of labels hidden in training.
        usual: the sampler's name and settings where no others are asked for.
        couple: which examples and noise are pairs.
    """

    selection = "loss"
    tolerance = 1e-4
    """Of a step of the adaptive solver between examples and codes, absolute and relative."""

    def __init__(
        self,
        space: Space,
        *,
        network: Architecture,
        prediction: Prediction,
        schedule: Schedule,
        ends: tuple[float, float],
        unlabelled: float,
        usual: dict[str, Any],
        couple: Coupling = independent,
    ) -> None:
        super().__init__(space)
        self.schedule, self.couple, self.unlabelled, self.usual = schedule, couple, unlabelled, usual
        self.net, self.target = Preconditioned(space, network, prediction.coefficients), prediction.target
        self.latent_space = Space("real", (space.dims,))
        self.error_by_level = ErrorByLevel(space.shape)
        self.low, self.high = nn.Buffer(torch.tensor(ends[0])), nn.Buffer(torch.tensor(ends[1]))

    def initialize(self, batch: Batch) -> None:
        self.net.measure(batch.x)
        if self.space.levels:  # noise much finer than the steps between levels teaches nothing
            self.low.copy_((min(1 / (self.space.levels - 1), 1 / 8) / self.net.scale).clamp(max=0.5))
        self.error_by_level.span(self.low, self.high)

    @property
    def sigma_min(self) -> float:
        return float(self.low * self.net.scale)

    @property
    def sigma_max(self) -> float:
        return float(self.high * self.net.scale)

    def squares(self, batch: Batch, sigma: Tensor, progress: Progress, unit: Unit | None = None) -> Tensor:
        """Squared errors `(B, *shape)` of estimates from noise `sigma` `(B,)`, both in units of the data's scale, over `unit`^2.

        None: over c_out^2, so that they are those of the network's output.
        """
        y = hide(batch.y, self.space, self.unlabelled if self.training else 0.0)
        x0, e = self.couple(self.net.unit(batch.x), y)
        level = column(sigma, x0)
        out = self.net.output(torch.addcmul(x0, level, e), sigma, y)
        squares = mse_loss(out, self.target(x0, e, level), reduction="none")
        if self.training and progress.step % ErrorByLevel.EVERY == 0:
            self.error_by_level.update(self.net.coefficients(level)[1].square() * squares.detach(), sigma)
        return squares if unit is None else (self.net.coefficients(level)[1] / unit(level)).square() * squares

    def denoise(self, x: Tensor, sigma: Tensor, y: Tensor | None = None) -> Tensor:
        """E[x0 given x], within the range of the data where that is known."""
        return self.inside(self.net.denoise(x, sigma, y))

    def inside(self, x: Tensor) -> Tensor:
        """The nearest point in the range of the data."""
        return x.clamp(0 if self.space.kind == "binary" else -1, 1) if self.space.levels else x

    def error(self, sigma: Tensor) -> Tensor:
        """E(x0 - estimate)^2 of each dimension at a noise level, as met in training."""
        return self.net.scale**2 * self.error_by_level(sigma / self.net.scale)

    def sampler(self, name: str | None = None, spacing: str | None = None, **asked: Any) -> Sampler:
        """The sampler of a name and settings; None asks for what is usual."""
        asked["spacing"] = spacing_of(spacing, self.schedule)
        usual = {"error": self.error, **self.usual}
        found = choose(name or self.usual["name"], usual, asked)
        if self.couple is not independent and not found.deterministic:
            raise PangenError(
                "noise coupled to data goes with samplers that draw no more; take heun or ddim."
            )
        return found

    def trajectory(
        self,
        n: int,
        y: Tensor | None = None,
        *,
        generator: torch.Generator,
        sampler: Name | None = None,
        steps: int | None = None,
        guidance: float = 1.0,
        spacing: Spaced | None = None,
        eta: float | None = None,
        churn: float | None = None,
        tolerance: float | None = None,
    ) -> Iterator[Tensor]:
        """The estimate of the example at each of `steps` noise levels; `guidance` 1 is none."""
        if guidance != 1 and self.space.condition is None:
            raise PangenError("this model was trained without labels, which guidance needs; leave it out.")
        by = self.sampler(sampler, spacing, steps=steps, eta=eta, churn=churn, tolerance=tolerance)
        model = self if guidance == 1 else Guided(self, guidance)
        noise = torch.randn(n, *self.space.shape, generator=generator, device=self.device)
        for x in by(model, noise, y, generator=generator):
            x = self.inside(x)
            yield x.round() if self.space.kind == "binary" else x

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Noise `(B, dims)` of variance 1 from which the probability flow leads to x."""
        return (self._carried(x, y, self.sigma_min, self.sigma_max) / self.sigma_max).flatten(1)

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """x `(B, *shape)`."""
        return self.inside(
            self._carried(z.view(-1, *self.space.shape) * self.sigma_max, y, self.sigma_max, self.sigma_min)
        )

    def interpolate(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        """On the sphere, near which normal codes lie."""
        return spherical(a, b, t)

    def _carried(self, x: Tensor, y: Tensor | None, start: float, end: float) -> Tensor:
        by = DormandPrince(self.tolerance)
        return carry(self, precise(x), y, by, start=start, end=end, like=x).to(x.dtype)
