"""Networks in which a code sets the scale of each layer's inputs (Karras et al. 2019, 2020b).

Weights are equalised: drawn with unit variance and scaled at each use, so that one rate of learning suits all layers
(Karras et al. 2018, Section 4.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, leaky_relu

from pangen.networks.critic import Projection
from pangen.networks.deconvolution import Side
from pangen.networks.linear import linear
from pangen.networks.roles import Condition
from pangen.networks.unnormalised import resized, stages
from pangen.space import Space

RATE = 0.01
"""Of the mapping's learning over that of the other layers (Karras et al. 2019, Appendix C)."""

SLOPE, GAIN = 0.2, math.sqrt(2)
"""Of leaky rectifiers: what negative inputs keep, and by how much all grow."""

Draw = Callable[..., Tensor]
"""A shape to normal noise."""


class Equalised(nn.Module):
    """A weight `(outputs, inputs, *kernel)` and a bias, whose scaled forms a layer uses.

    Adam moves each number of `raw` by about the rate of learning, whatever its scale, and so what the layer
    does by `rate` / sqrt(inputs of a unit) of that; at first weights have variance 1 / inputs, as He's (2015).
    """

    def __init__(
        self, inputs: int, outputs: int, *kernel: int, bias: float | None = 0.0, rate: float = 1.0
    ) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.randn(outputs, inputs, *kernel) / rate)
        self.raw_bias = None if bias is None else nn.Parameter(torch.full((outputs,), bias / rate))
        self.scale, self.rate = rate / math.sqrt(self.raw[0].numel()), rate

    @property
    def weight(self) -> Tensor:
        return self.raw * self.scale

    @property
    def bias(self) -> Tensor | None:
        return None if self.raw_bias is None else self.raw_bias * self.rate


class Dense(Equalised):
    """`(B, inputs)` to `(B, outputs)`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


class Convolution(Equalised):
    """`(B, inputs, H, W)` to `(B, outputs, H, W)`; beyond the margin lies 0."""

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, self.weight, self.bias, padding=self.raw.shape[-1] // 2)


class Modulated(nn.Module):
    """A convolution for each example: its code says how much each input channel counts.

    Weights w'_ijk = s_i w_ijk (Karras et al. 2020b, Eq. 1), and where `demodulated` w''_ijk = w'_ijk /
    sqrt(sum over i, k of w'_ijk^2) (Eq. 3), so that outputs of unit-variance inputs have variance 1. As both
    only scale channels, one convolution serves all examples: of scaled inputs, its outputs scaled.
    """

    def __init__(
        self, codes: int, inputs: int, outputs: int, kernel: int, *, demodulated: bool = True
    ) -> None:
        super().__init__()
        self.style = Dense(codes, inputs, bias=1.0)
        self.conv = Convolution(inputs, outputs, kernel, kernel, bias=None)
        self.demodulated = demodulated

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        s = self.style(w)
        x = self.conv(x * s[:, :, None, None].to(x.dtype))
        if not self.demodulated:
            return x
        energy = self.conv.weight.square().sum((2, 3))
        d = (s.square() @ energy.t() + 1e-8).rsqrt()
        return x * d[:, :, None, None].to(x.dtype)


def rectified(x: Tensor) -> Tensor:
    """A leaky rectifier that keeps the size of inputs, nearly."""
    return leaky_relu(x, SLOPE) * GAIN


class Mapping(nn.Module):
    """w = f(z, y): noise `(B, width)` and labels to codes `(B, width)`, learning slowly."""

    def __init__(self, space: Space, width: int, layers: int) -> None:
        super().__init__()
        self.label = Condition(space, width) if space.condition else None
        inputs = width * (2 if self.label else 1)
        self.layers = nn.ModuleList(Dense(width if i else inputs, width, rate=RATE) for i in range(layers))

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        w = normalised(z)
        if self.label is not None:
            w = torch.cat([w, normalised(self.label(y, len(z)))], 1)
        for layer in self.layers:
            w = rectified(layer(w))
        return w


def normalised(z: Tensor) -> Tensor:
    """Of mean square 1."""
    return z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()


class Styled(nn.Module):
    """A modulated convolution, noise a pixel, and a leaky rectifier."""

    def __init__(self, codes: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = Modulated(codes, inputs, outputs, 3)
        self.noise = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(outputs, 1, 1))

    def forward(self, x: Tensor, w: Tensor, draw: Draw | None) -> Tensor:
        x = self.conv(x, w)
        if draw is not None:
            x = x + self.noise * draw(len(x), 1, *x.shape[2:])
        return rectified(x + self.bias)


class Picture(nn.Module):
    """Features to pixels, modulated."""

    def __init__(self, codes: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = Modulated(codes, inputs, outputs, 1, demodulated=False)
        self.bias = nn.Parameter(torch.zeros(outputs, 1, 1))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return self.conv(x, w) + self.bias


class Synthesis(nn.Module):
    """Codes `(B, codes)`, or one for each layer `(B, layers, codes)`, to images `(B, C, H, W)`.

    From a learnt picture of the smallest size; each size adds its pixels to those of the size before
    (Karras et al. 2020b, Figure 7b).
    """

    def __init__(self, space: Space, codes: int, width: int) -> None:
        super().__init__()
        sides, widths = stages(space, width)
        self.sides, widths = sides[::-1], widths[::-1]
        self.start = nn.Parameter(torch.randn(widths[0], *self.sides[0]))
        self.styled, self.pictures = nn.ModuleList(), nn.ModuleList()
        for i, channels in enumerate(widths):
            self.styled += [Styled(codes, channels if i == 0 else widths[i - 1], channels)]
            self.styled += [Styled(codes, channels, channels)] if i else []
            self.pictures.append(Picture(codes, channels, space.shape[0]))
        self.layers = len(self.styled)

    def forward(self, w: Tensor, draw: Draw | None = None, shift: tuple[float, float] = (0.0, 0.0)) -> Tensor:
        """`draw` makes the noise, if any; `shift` moves the learnt start, in shares of the image."""
        ws = w[:, None].expand(-1, self.layers, -1) if w.dim() == 2 else w
        x = moved(self.start, shift).expand(len(w), -1, -1, -1)
        picture = w.new_zeros(())
        for i, side in enumerate(self.sides):
            if i:
                x = self.styled[2 * i - 1](resized(x, side), ws[:, 2 * i - 1], draw)
            x = self.styled[2 * i](x, ws[:, 2 * i], draw)
            more = self.pictures[i](x, ws[:, 2 * i])
            picture = resized(picture, side) + more if i else more
        return picture


def moved(x: Tensor, shift: tuple[float, float]) -> Tensor:
    """A periodic signal `(..., H, W)` moved by shares of its sides, its waves turned."""
    if shift == (0.0, 0.0):
        return x
    turn = [
        torch.exp(-2j * math.pi * by * torch.fft.fftfreq(n, 1 / n, device=x.device))
        for n, by in zip(x.shape[-2:], shift, strict=True)
    ]
    return torch.fft.ifft2(torch.fft.fft2(x) * turn[0][:, None] * turn[1]).real


class StyleCritic(nn.Module):
    """Images and labels, by projection, to logits `(B,)`: residual blocks (Karras et al. 2020b, Figure 7c).

    One number more at the smallest size says how far examples spread (Karras et al. 2018, Section 3), so that
    samples which are all alike give themselves away. It is of the batch in training, and its running mean after.
    """

    running = ("spread",)

    def __init__(self, space: Space, width: int) -> None:
        super().__init__()
        self.sides, widths = stages(space, width)
        self.binary = space.kind == "binary"
        self.start = Convolution(space.shape[0], widths[0], 1, 1)
        self.blocks = nn.ModuleList(
            Reduced(widths[i], widths[i + 1], self.sides[i + 1]) for i in range(len(widths) - 1)
        )
        self.end = Convolution(widths[-1] + 1, widths[-1], 3, 3)
        features = 4 * widths[-1]
        self.dense = Dense(widths[-1] * math.prod(self.sides[-1]), features)
        self.head = Projection(space, features)
        self.spread = nn.Buffer(torch.ones(()))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        x = rectified(self.start(2 * x - 1 if self.binary else x))
        for block in self.blocks:
            x = block(x)
        spread: Tensor = self.spread
        if self.training:
            spread = (x.to(spread.dtype).var(0, correction=0) + 1e-8).sqrt().mean()
            self.spread.lerp_(spread.detach(), 0.01)
        x = torch.cat([x, spread.to(x.dtype).expand(len(x), 1, *x.shape[2:])], 1)
        x = rectified(self.end(x)).flatten(1)
        return self.head(rectified(self.dense(x)), y)


class Reduced(nn.Module):
    """A residual block to the next smaller size."""

    def __init__(self, inputs: int, outputs: int, side: Side) -> None:
        super().__init__()
        self.side = side
        self.a, self.b = Convolution(inputs, inputs, 3, 3), Convolution(inputs, outputs, 3, 3)
        self.skip = Convolution(inputs, outputs, 1, 1, bias=None)

    def forward(self, x: Tensor) -> Tensor:
        inside = rectified(resized(self.b(rectified(self.a(x))), self.side))
        return (inside + self.skip(resized(x, self.side))) / math.sqrt(2)
