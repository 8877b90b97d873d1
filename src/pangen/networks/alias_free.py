"""Layers on sampled continuous signals, which move what they are given wherever it lies (Karras et al. 2021).

Signals are band-limited; a grid only samples them, so that any rate above twice their highest frequency will do, whole or
not. Between grids a low-pass filter interpolates: a matrix for each axis. Pictures here are small, and products of small
matrices are the fastest thing a processor does.

Theory has no borders. Grids reach beyond the picture by a margin, and what comes in over its edge dies away there
(Section 3.2); a periodic canvas would be cheaper, but could not turn, and would tie each border to the one across.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from pangen.networks.deconvolution import halvings
from pangen.networks.linear import linear
from pangen.networks.rounding import in_full
from pangen.networks.style import GAIN, SLOPE, Dense, Modulated, Picture
from pangen.space import Space

TAPS = 6
"""Samples under a filter, of the coarser grid (Section 3.2)."""
MARGIN = 4
"""Samples of a grid beyond the picture, at each side."""
COARSEST, STOP, CRITICAL = 2.0, (2**2.1, 2**0.3), 2
"""Cutoff of the first layer in cycles a picture; where stopbands begin, at first and, over the cutoff, at last; layers
at the end that use their grid up (Section 3.2)."""
SHIFTS = 16
"""Of which equivariance is the mean."""


@dataclass(frozen=True)
class Band:
    """A rate of samples, and which frequencies signals have there, in cycles a picture along one axis."""

    rate: int
    cutoff: float
    half_width: float
    """Of the transition from pass to stop."""

    def lowpass(self, t: Tensor) -> Tensor:
        """The filter at times t: a sinc in Kaiser's window over `TAPS` samples."""
        half = TAPS / 2 / self.rate
        attenuation = 2.285 * math.pi * 8 * half * self.half_width + 7.95
        beta = _beta(attenuation)
        inside = (1 - (t / half).square()).clamp(min=0)
        window = torch.special.i0(beta * inside.sqrt()) / torch.special.i0(torch.tensor(beta, dtype=t.dtype))
        return torch.where(t.abs() <= half, 2 * self.cutoff * torch.sinc(2 * self.cutoff * t) * window, 0.0)


def _beta(attenuation: float) -> float:
    """Kaiser's, of an attenuation in dB."""
    if attenuation > 50:
        return 0.1102 * (attenuation - 8.7)
    if attenuation > 21:
        return 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21)
    return 0.0


def positions(rate: int, margin: int) -> Tensor:
    """Where a grid samples, the picture being from -1/2 to 1/2."""
    return (torch.arange(-margin, rate + margin, dtype=torch.float64) + 0.5) / rate - 0.5


def resampling(band: Band, start: tuple[int, int], end: tuple[int, int]) -> Tensor:
    """A matrix from samples of one grid to those of another, each a rate and a margin, through the band's filter.

    Beyond the first grid lies 0; elsewhere constants stay what they are.
    """
    beyond = math.ceil(TAPS / band.rate * start[0])
    weights = band.lowpass(positions(*end)[:, None] - positions(start[0], start[1] + beyond))
    weights = weights / weights.sum(1, keepdim=True)
    return weights[:, beyond:-beyond].to(torch.get_default_dtype())


def bands(side: int, layers: int) -> list[Band]:
    """Of the input and after each layer (Section 3.2, flexible layer specifications).

    Cutoff and stopband grow geometrically; the grid is as fine as the stopband asks, or as the picture.
    """
    first, last = min(COARSEST, side / 2), side / 2
    found = []
    for i in range(layers + 1):
        share = min(i / max(layers - CRITICAL, 1), 1.0)
        cutoff = first * (last / first) ** share
        stop = first * STOP[0] / COARSEST * (last * STOP[1] / (first * STOP[0] / COARSEST)) ** share
        rate = min(math.ceil(2 * stop), side)
        found.append(Band(rate, cutoff, max(rate / 2, stop) - cutoff))
    return found


class FilteredRectifier(nn.Module):
    """A leaky rectifier on a grid twice as fine, between two low-pass filters (Section 3.2): what it adds above the
    limit of the grid that follows never folds back."""

    up_y: Tensor
    up_x: Tensor
    down_y: Tensor
    down_x: Tensor

    def __init__(self, before: tuple[Band, Band], after: tuple[Band, Band], margins: tuple[int, int]) -> None:
        super().__init__()
        for axis, a, b in zip("yx", before, after, strict=True):
            fine = 2 * max(a.rate, b.rate)
            middle = (fine, math.ceil(margins[0] * fine / a.rate))
            up = resampling(a, (a.rate, margins[0]), middle)
            down = resampling(b, middle, (b.rate, margins[1]))
            self.register_buffer(f"up_{axis}", up, persistent=False)
            self.register_buffer(f"down_{axis}", down, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = linear(linear(x, self.up_x).transpose(2, 3), self.up_y)
        x = linear(leaky_relu(x, SLOPE, inplace=True), self.down_y)
        return linear(x.transpose(2, 3), self.down_x * GAIN)


class FourierInput(nn.Module):
    """Waves of random frequencies within a disc, moved and turned as the code says (Section 3.2), and mixed."""

    def __init__(self, codes: int, channels: int, before: tuple[Band, Band]) -> None:
        super().__init__()
        self.transform = Dense(codes, 4)
        nn.init.zeros_(self.transform.raw)
        if self.transform.raw_bias is not None:
            self.transform.raw_bias.data[0] = 1.0
        angle, radius = 2 * math.pi * torch.rand(channels), torch.rand(channels).sqrt()
        waves = radius * min(band.cutoff for band in before) * torch.stack([angle.sin(), angle.cos()])
        self.waves = nn.Buffer(waves)
        self.phase = nn.Buffer(2 * math.pi * torch.rand(channels))
        self.mix = Dense(channels, channels, bias=None)
        points = torch.meshgrid(*(positions(band.rate, MARGIN) for band in before), indexing="ij")
        self.points = nn.Buffer(torch.stack(points, 2).to(torch.get_default_dtype()), persistent=False)

    def forward(self, w: Tensor, shift: tuple[float, float]) -> Tensor:
        with in_full(w):  # angles are large
            t = self.transform(w)
            c, s = (t[:, :2] / t[:, :2].norm(dim=1, keepdim=True)).unbind(1)
            turn = torch.stack([torch.stack([c, -s], 1), torch.stack([s, c], 1)], 1)
            points = self.points - self.points.new_tensor(shift)
            at = torch.einsum("bij,hwj->bhwi", turn, points) - t[:, None, None, 2:]
            h = math.sqrt(2) * torch.sin(2 * math.pi * at @ self.waves + self.phase)
        return self.mix(h).permute(0, 3, 1, 2)


class AliasFreeLayer(nn.Module):
    """A modulated convolution and a filtered rectifier."""

    def __init__(self, codes: int, inputs: int, outputs: int, rectifier: FilteredRectifier) -> None:
        super().__init__()
        self.conv, self.rectifier = Modulated(codes, inputs, outputs, 3), rectifier
        self.bias = nn.Parameter(torch.zeros(outputs, 1, 1))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return self.rectifier(self.conv(x, w) + self.bias)


class AliasFreeSynthesis(nn.Module):
    """Codes `(B, codes)` to images `(B, C, H, W)`: the third version's generator for translations (config T)."""

    def __init__(self, space: Space, codes: int, width: int) -> None:
        super().__init__()
        layers = 2 * len(halvings(space.shape))
        along = list(zip(*(bands(side, layers) for side in space.shape[1:]), strict=True))
        full = min(space.shape[1:]) / 2
        widths = [max(width // 16, 1) * min(round(full / min(b.cutoff for b in band)), 4) for band in along]
        self.input = FourierInput(codes, widths[0], along[0])
        self.layers = nn.ModuleList()
        for i in range(layers):
            margins = (MARGIN, MARGIN if i < layers - 1 else 0)
            rectifier = FilteredRectifier(along[i], along[i + 1], margins)
            self.layers.append(AliasFreeLayer(codes, widths[i], widths[i + 1], rectifier))
        self.picture = Picture(codes, widths[-1], space.shape[0])

    def forward(self, w: Tensor, shift: tuple[float, float] = (0.0, 0.0)) -> Tensor:
        """`shift` moves the waves, in shares of the image."""
        x = self.input(w, shift)
        for layer in self.layers:
            x = layer(x, w)
        return self.picture(x, w)


def equivariance(
    g: Callable[[Tensor, tuple[float, float]], Tensor], w: Tensor, generator: torch.Generator
) -> float:
    """EQ-T in dB (Eq. 3): how near images of a moved input are to the images, moved; both within [-1, 1].

    `g` takes codes and how far to move its input, in shares of the image. It moves by whole pixels, at random up to an
    eighth of each side, and by one at least; pixels from outside do not count.
    """
    squares: list[float] = []
    still = g(w, (0.0, 0.0))
    h, w_ = still.shape[2:]
    while len(squares) < SHIFTS:
        dy, dx = (_pixels(side, generator) for side in (h, w_))
        if dy or dx:
            moved = g(w, (dy / h, dx / w_))
            error = _overlap(moved, dy, dx) - _overlap(still, -dy, -dx)
            squares.append(float(error.square().mean()))
    mean = sum(squares) / SHIFTS
    return 10 * math.log10(2**2 / mean) if mean else math.inf


def _pixels(side: int, generator: torch.Generator) -> int:
    far = min(max(side // 8, 1), side - 1)
    return int(torch.randint(-far, far + 1, (), generator=generator))


def _overlap(x: Tensor, dy: int, dx: int) -> Tensor:
    """What is left inside of a picture that has moved."""
    h, w = x.shape[2:]
    return x[:, :, max(dy, 0) : h + min(dy, 0), max(dx, 0) : w + min(dx, 0)]
