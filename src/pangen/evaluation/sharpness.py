"""Sharpness of images: the energy of their fine detail, set against that of real images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pangen.evaluation.intervals import ratio_interval

FINE = 0.25
"""Cycles a pixel from which on detail is fine: half of the fastest that pixels can show along an axis."""


def fine_energy(images: Tensor) -> Tensor:
    """Energy of the fine detail in each of some images `(N, C, H, W)` in [0, 1]: `(N,)` float64.

    The grey image is the mean of the channels, and its energy at a frequency the squared modulus of
    its discrete Fourier transform over (H W)^2, so that all energies add up to the mean square of
    its pixels (Parseval). Fine is what has a radial frequency of at least `FINE`.
    """
    grey = images.double().mean(1)
    H, W = grey.shape[1:]
    power = torch.fft.fft2(grey).abs() ** 2 / (H * W) ** 2
    fy, fx = (torch.fft.fftfreq(n, dtype=torch.float64, device=grey.device) for n in (H, W))
    fine = fy[:, None] ** 2 + fx[None, :] ** 2 >= FINE**2
    return power[:, fine].sum(1)


def sharpness(real: Tensor, fake: Tensor, *keys: int | str) -> dict[str, Any]:
    """Mean `fine_energy` of images over that of real ones, and its 95 % interval over both draws.

    1: as much fine detail as the data. Less: blur. More: noise, or strokes too hard.
    """
    below, above = fine_energy(real), fine_energy(fake)
    if not below.mean() > 0:
        return {"none": "the real images have no fine detail to be sharp in"}
    return {
        "value": float(above.mean() / below.mean()),
        "interval": ratio_interval(above, below, "sharpness", *keys),
        "samples": len(fake),
        "reference": len(real),
    }
