"""Networks by what they are for; the space decides what they are made of.

Vectors, and images of fewer than 16 x 16 pixels, go through residual perceptrons `width` wide;
larger images through convolutions with `width` / 16 channels at full size. An encoder and a decoder
can be asked for a textbook's plain perceptron instead, a denoiser for a Transformer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pangen.errors import PangenError
from pangen.networks.conditions import TextEncoder
from pangen.networks.conv import ConvDecoder, ConvEncoder, UNet
from pangen.networks.dit import DiT
from pangen.networks.linear import Linear
from pangen.networks.mlp import MLP, ConditionedMLP, ResidualMLP
from pangen.networks.patches import Patches, even_patch, patch_for
from pangen.networks.rounding import Rounding
from pangen.space import Space

SMALL = 16
Network = Literal["auto", "mlp"]
Activation = Literal["relu", "tanh", "silu"]
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "silu": nn.SiLU}


def convolutional(space: Space) -> bool:
    """Whether networks for the space convolve."""
    return space.is_image and max(space.shape[1:]) >= SMALL


class Condition(nn.Module):
    """Conditions as vectors `(B, width)`: class labels `y` `(B,)`, vectors `y` `(B, d)`, or texts `y` `(B, S)`.

    The null condition is None, the class index `classes`, a vector that holds NaN, or an empty text. A space
    without condition has the null condition alone, which is then a learnt bias.
    """

    def __init__(self, space: Space, width: int) -> None:
        super().__init__()
        self.space, self.null = space, space.classes
        self.embed: nn.Module | None = None
        self.text: TextEncoder | None = None
        if space.condition is not None and space.condition.kind == "tokens" and space.condition.shape:
            self.text = TextEncoder(space.condition, width)
            return
        self.table = nn.Embedding(space.classes + 1, width)
        if space.condition is not None and space.condition.kind == "real":
            self.embed = MLP(space.condition.dims, width, width, 1)

    def forward(self, y: Tensor | None, n: int) -> Tensor:
        if self.text is not None:
            return self.text(self.space.no_condition(n, self.text.places.device) if y is None else y)
        if y is None:
            return self.table.weight[self.null].expand(n, -1)
        if self.embed is None:
            return self.table(y)
        absent = y.isnan().any(1, keepdim=True)
        return torch.where(absent, self.table.weight, self.embed(torch.where(absent, 0.0, y)))


@dataclass(frozen=True)
class Plain:
    """Fully connected hidden layers, `depth` of them, whatever the space; none is a linear map."""

    depth: int
    activation: Activation = "relu"

    @classmethod
    def chosen(cls, network: Network, depth: int, activation: Activation) -> Plain | None:
        """None: what the space decides."""
        return cls(depth, activation) if network == "mlp" else None

    def network(self, inputs: int, outputs: int, width: int) -> ConditionedMLP:
        return ConditionedMLP(inputs, outputs, width, self.depth, activation=ACTIVATIONS[self.activation])

    def condition(self, space: Space, outputs: int, width: int) -> Condition | None:
        """Of the first layer; without one to tell, its bias is enough."""
        return Condition(space, width if self.depth else outputs) if space.condition else None


class Encoder(nn.Module):
    """Examples `(B, *shape)` and labels to `(B, outputs)`."""

    def __init__(
        self, space: Space, outputs: int, width: int, *, plain: Plain | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.space = space
        self.condition = plain.condition(space, outputs, width) if plain else Condition(space, width)
        self.net: ConditionedMLP | ConvEncoder | ResidualMLP
        if plain:
            self.net = plain.network(space.dims, outputs, width)
        elif convolutional(space):
            self.net = ConvEncoder(space.shape, outputs, width // 16, condition=width, dropout=dropout)
        else:
            self.net = ResidualMLP(space.dims, outputs, width, condition=width, dropout=dropout)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        if self.space.kind == "binary" and not isinstance(self.net, ConditionedMLP):
            x = (
                2 * x - 1
            )  # no plain perceptron's: most bits of a picture are 0, and -1 saturates its first layer
        x = x if isinstance(self.net, ConvEncoder) else x.flatten(1)
        return self.net(x, self.condition(y, len(x)) if self.condition else None)


class Decoder(nn.Module):
    """Latent vectors `(B, inputs)` and labels to `channels` numbers for each dimension of x.

    Returns `(B, channels, *shape)`.
    """

    def __init__(
        self,
        space: Space,
        inputs: int,
        channels: int,
        width: int,
        *,
        plain: Plain | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.space, self.channels = space, channels
        outputs = channels * space.dims
        self.condition = plain.condition(space, outputs, width) if plain else Condition(space, width)
        self.net: nn.Module
        if plain:
            self.net = plain.network(inputs, outputs, width)
        elif convolutional(space):
            self.net = ConvDecoder(
                space.shape, inputs, channels * space.shape[0], width // 16, condition=width
            )
        else:
            self.net = ResidualMLP(inputs, outputs, width, condition=width, dropout=dropout)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        out = self.net(z, self.condition(y, len(z)) if self.condition else None)
        return out.reshape(len(z), self.channels, *self.space.shape)


Backbone = Literal["auto", "dit"]
PLACES = 1024
"""In the rows of a U-Net, at most, where no patch is asked for."""


@dataclass(frozen=True)
class Architecture:
    """What a denoiser is made of: `width` units, or `width` / 16 channels of a U-Net at full size.

    `network`: auto is a residual perceptron for vectors and what is small, else a U-Net of one side or two;
    dit is a Transformer over patches, for all. `patch`: side of the pieces of which the network makes one place.
    `depth`: blocks, in a U-Net at each size. 0: what the network and the space suggest. `precision`: of
    the factors of products in training, which weights do not depend on; auto is bfloat16 for a U-Net where the
    processor multiplies such numbers.
    """

    width: int
    network: Backbone = "auto"
    patch: int = 0
    depth: int = 0
    precision: Rounding = "full"

    @property
    def settings(self) -> dict[str, Any]:
        """Those on which weights depend, by name."""
        return {"width": self.width, "network": self.network, "patch": self.patch, "depth": self.depth}

    def patches(self, shape: tuple[int, ...]) -> Patches | None:
        """How examples are cut up; None: a perceptron sees them whole."""
        if self.network == "dit":
            return Patches(shape, self.patch or even_patch(shape))
        if len(shape) > 1 and max(shape[1:]) >= SMALL:
            usual = patch_for(shape, PLACES) if len(shape) == 2 else 1
            return Patches(shape, self.patch or usual)
        if self.patch:
            raise PangenError(
                f"model.patch = {self.patch} cuts up images and rows, and a perceptron sees these {math.prod(shape)} "
                "numbers whole: leave it out, or add model.network = dit."
            )
        return None


class Denoiser(nn.Module):
    """Noisy examples `(B, *shape)`, noise levels `(B,)`, or one for all `(1,)`, and labels to `(B, *shape)`, zero at first.

    A level is any number of order one that grows with the noise.
    """

    def __init__(self, space: Space, architecture: Architecture) -> None:
        super().__init__()
        width, depth = architecture.width, architecture.depth
        self.condition = Condition(space, width)
        self.level = nn.Sequential(Fourier(32), Linear(32, width), nn.SiLU(), Linear(width, width))
        self.patches = cut = architecture.patches(space.shape)
        self.net: ResidualMLP | DiT | UNet
        if cut is None:
            self.net = ResidualMLP(space.dims, space.dims, width, depth or 4, condition=width, zero=True)
        elif architecture.network == "dit":
            self.net = DiT(cut.grid, cut.size, cut.size, width, depth or 6, condition=width)
        else:
            self.net = UNet(cut.grid, cut.size, cut.size, max(width // 16, 1), depth or 1, condition=width)
        asked = architecture.precision
        gains = isinstance(self.net, UNet)  # and nothing else, as measured
        self.precision: Rounding = "full" if asked == "auto" and not gains else asked

    def forward(self, x: Tensor, level: Tensor, y: Tensor | None = None) -> Tensor:
        condition = nn.functional.silu(self.level(level) + self.condition(y, len(level)))
        if self.patches is None:
            return self.net(x.flatten(1), condition).view_as(x)
        return self.patches.inverse(self.net(self.patches(x), condition))


class Fourier(nn.Module):
    """Sines and cosines of a number at `features` / 2 frequencies from 1 to 30: `(B,)` to `(B, features)`."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.frequencies = nn.Buffer(torch.exp(torch.linspace(0, math.log(30), features // 2)))

    def forward(self, level: Tensor) -> Tensor:
        angle = level[:, None] * self.frequencies
        return torch.cat([angle.sin(), angle.cos()], 1)
