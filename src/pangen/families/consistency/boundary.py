"""What is known of f without learning: f(x, sigma_min) = x. In standard deviations of the data."""

from __future__ import annotations

from torch import Tensor

from pangen.families.consistency.levels import LOWEST
from pangen.networks.preconditioning import FLOW, Coefficients, V

WIDTH = 0.3
"""sigma_data of the narrow skip: less than 1, as noise that it lets through must be learnt away."""
TEACHERS: dict[str, Coefficients] = {"v": V.coefficients, "velocity": FLOW.coefficients}
"""Of diffusion models whose estimate at sigma = 0 is x, whatever the network says."""


def boundary(sigma: Tensor) -> tuple[Tensor, Tensor]:
    """c_skip and c_out that make f(x, sigma_min) = x exact (Song et al. 2023, Appendix C)."""
    c_skip = WIDTH**2 / ((sigma - LOWEST) ** 2 + WIDTH**2)
    return c_skip, WIDTH * (sigma - LOWEST) / (sigma**2 + WIDTH**2).sqrt()


def moved(coefficients: Coefficients, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Those of a diffusion model, moved from 0 to sigma_min."""
    return coefficients(sigma - LOWEST)
