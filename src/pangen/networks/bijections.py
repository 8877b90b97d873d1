"""Bijections with log-determinants, told a context: what normalizing flows are made of.

A flow is a base density and a `Transform` x -> z: log p(x) = log p_base(z) + log|det dz/dx|.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import cycle
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle, softplus

from pangen.networks.conv import ResNet
from pangen.networks.mlp import MLP
from pangen.networks.roles import Condition
from pangen.space import Space

BaseName = Literal["normal", "logistic"]


class Transform(nn.Module, ABC):
    """A bijection between tensors `(B, *shape)`, told a context `(B, width)` or None.

    The shape of z may differ from that of x, the number of dimensions may not.
    """

    @abstractmethod
    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z, and log|det dz/dx| `(B,)`."""

    @abstractmethod
    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """The x that `forward` takes to z."""

    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Data-dependent start on examples x; returns their z."""
        return self(x, context)[0]


class Compose(Transform):
    """Transforms one after the other."""

    def __init__(self, *parts: Transform) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_det = x.new_zeros(len(x))
        for part in self.parts:
            x, more = part(x, context)
            log_det = log_det + more
        return x, log_det

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        for part in reversed(self.parts):
            z = part.inverse(z, context)
        return z

    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        for part in self.parts:
            x = part.initialize(x, context)
        return x


class Inverse(Transform):
    """A transform the other way round. Its `forward` costs one pass of each direction."""

    def __init__(self, of: Transform) -> None:
        super().__init__()
        self.of = of

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z = self.of.inverse(x, context)
        return z, -self.of(z, context)[1]

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return self.of(z, context)[0]


class Shift(Transform):
    """z = x + b. `shape` broadcasts against x; the data-dependent start makes the mean of z 0."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.b = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x + self.b, x.new_zeros(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return z - self.b

    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        self.b.data = -x.mean(_shared(self.b), keepdim=True)[0]
        return x + self.b


class Scale(Transform):
    """z = exp(s) x. `shape` broadcasts against x; the data-dependent start makes the deviation of z 1."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.s = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x * self.s.exp(), self.s.expand(x.shape[1:]).sum().expand(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return z * (-self.s).exp()

    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        deviation = x.std(_shared(self.s), correction=0, keepdim=True)[0]
        self.s.data = -torch.where(deviation > 1e-6, deviation, 1.0).log()  # constant dimensions stay
        return x * self.s.exp()


def actnorm(shape: tuple[int, ...]) -> Compose:
    """Per-channel, or per-dimension, standardisation that starts at the data's (Kingma and Dhariwal 2018)."""
    return Compose(Shift(shape), Scale(shape))


def _shared(parameter: Tensor) -> list[int]:
    """The dimensions of a batch over which a parameter is shared."""
    return [0] + [i + 1 for i, n in enumerate(parameter.shape) if n == 1]


class Squeeze(Transform):
    """Each 2x2 square of pixels becomes channels: `(C, H, W)` to `(4C, H/2, W/2)`, for even H and W."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return pixel_unshuffle(x, 2), x.new_zeros(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return pixel_shuffle(z, 2)


class Coupling(Transform):
    """Moves the dimensions where `mask` is 0, by what the network makes of those where it is 1.

    `mask` has the shape of one example. `net` maps the masked example and the context to
    `(B, k, *shape)`: k parameters for each dimension.
    """

    def __init__(self, mask: Tensor, net: nn.Module) -> None:
        super().__init__()
        self.register_buffer("mask", mask.float().contiguous())
        self.register_buffer("moved", 1 - self.mask)
        self.net = net

    def parameters_of(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, ...]:
        """The k parameters, each `(B, *shape)`; x or z give the same."""
        return self.net(x * self.mask, context).unbind(1)


class AdditiveCoupling(Coupling):
    """z = x + t, volume preserving (Dinh et al. 2015, Section 3.2)."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        (t,) = self.parameters_of(x, context)
        return torch.addcmul(x, self.moved, t), x.new_zeros(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        (t,) = self.parameters_of(z, context)
        return torch.addcmul(z, self.moved, t, value=-1)


class AffineCoupling(Coupling):
    """z = exp(s) x + t (Dinh et al. 2017, Eq. 9), with log-scales s bounded smoothly at +-`bound`."""

    def __init__(self, mask: Tensor, net: nn.Module, bound: float = 2.0) -> None:
        super().__init__(mask, net)
        self.bound = bound

    def _s_t(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        s, t = self.parameters_of(x, context)
        return self.moved * (self.bound * torch.tanh(s)), self.moved * t

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        s, t = self._s_t(x, context)
        return torch.addcmul(t, x, s.exp()), s.flatten(1).sum(1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        s, t = self._s_t(z, context)
        return (z - t) * (-s).exp()


class FlatNet(nn.Module):
    """A coupling's network that sees all dimensions at once: `(B, *shape)`, context to `(B, k, *shape)`.

    Zero at first. ReLU, because densities with sharp ridges need scales that bend sharply.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        k: int,
        width: int,
        depth: int = 2,
        *,
        context: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.k, dims = k, math.prod(shape)
        self.net = MLP(dims + context, k * dims, width, depth, activation=nn.ReLU, dropout=dropout, zero=True)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        h = x.flatten(1)
        out = self.net(h if context is None else torch.cat([h, context], 1))
        return out.view(len(x), self.k, *x.shape[1:])


class ConvNet(nn.Module):
    """A coupling's network for images, convolutional: the same shapes as `FlatNet`, zero at first."""

    def __init__(
        self, shape: tuple[int, ...], k: int, width: int, depth: int = 2, *, context: int = 0
    ) -> None:
        super().__init__()
        self.k = k
        self.net = ResNet(shape[0], k * shape[0], width, depth, condition=context, zero=True)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.net(x, context).unflatten(1, (self.k, -1))


def checkerboard(shape: tuple[int, ...], parity: int) -> Tensor:
    """A mask of every other entry of a vector, or every other pixel of an image of any size."""
    return _every_other(sum(torch.meshgrid(*map(torch.arange, shape[-2:]), indexing="ij")), parity, shape)


def stripes(shape: tuple[int, ...], parity: int, axis: int) -> Tensor:
    """A mask of every other index along one axis: rows, columns or channels."""
    index = torch.arange(shape[axis]).view([-1 if i == axis else 1 for i in range(len(shape))])
    return _every_other(index, parity, shape)


def halves(shape: tuple[int, ...], parity: int) -> Tensor:
    """A mask of the first half of the channels, or of a vector's entries, or of the second half."""
    index = (torch.arange(shape[0]) >= shape[0] // 2).long().view(-1, *[1] * (len(shape) - 1))
    return _every_other(index, parity, shape)


def _every_other(index: Tensor, parity: int, shape: tuple[int, ...]) -> Tensor:
    return ((index + parity) % 2).float().expand(shape)


def mask_pairs(shape: tuple[int, ...], n: int) -> list[tuple[Tensor, Tensor]]:
    """n complementary pairs of masks, each cutting the dimensions another way.

    An image of any size: checkerboard, rows, columns. (The last two are channels of a squeezed
    image.) A vector: odd and even entries, first and second half.
    """
    cuts = [checkerboard, halves]
    if len(shape) == 3:
        cuts = [checkerboard, partial(stripes, axis=1), partial(stripes, axis=2)]
    return [(cut(shape, 0), cut(shape, 1)) for _, cut in zip(range(n), cycle(cuts), strict=False)]


class Flow(nn.Module):
    """The conditional density and sampler that a base and a transform of it make over a space.

    Each block maps examples to tensors of the same shape, so that states between blocks are
    examples on their way; outside, z is `(B, dims)`.

    Args:
        context: entries of the class embedding that every block is told; unused without classes.
    """

    def __init__(
        self, space: Space, blocks: Iterable[Transform], context: int, base: BaseName = "normal"
    ) -> None:
        super().__init__()
        self.shape, self.base = space.shape, base
        self.condition = Condition(space, context) if space.classes else None
        self.transform = Compose(*blocks)

    def context(self, y: Tensor | None, n: int) -> Tensor | None:
        return None if self.condition is None else self.condition(y, n)

    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        """Data-dependent start of every block on examples x."""
        self.transform.initialize(x, self.context(y, len(x)))

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """log p(x given y) `(B,)` in nats."""
        z, log_det = self.transform(x, self.context(y, len(x)))
        return base_log_prob(self.base, z) + log_det

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """z `(B, dims)`."""
        return self.transform(x, self.context(y, len(x)))[0].flatten(1)

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """x `(B, *shape)`."""
        return self.transform.inverse(z.view(-1, *self.shape), self.context(y, len(z)))

    def states(self, n: int, y: Tensor | None, generator: torch.Generator) -> Iterator[Tensor]:
        """Noise z, the states on its way through the blocks, and the sample x, each `(n, *shape)`."""
        z, context = base_sample(self.base, (n, *self.shape), generator), self.context(y, n)
        yield z
        for block in reversed(self.transform.parts):
            z = block.inverse(z, context)
            yield z


def base_log_prob(base: BaseName, z: Tensor) -> Tensor:
    """log-density `(B,)` of independent dimensions with mean 0 and scale 1."""
    if base == "logistic":
        return (-softplus(z) - softplus(-z)).flatten(1).sum(1)
    return -(z**2 + math.log(2 * math.pi)).flatten(1).sum(1) / 2


def base_sample(base: BaseName, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """A draw of that density."""
    if base == "logistic":
        u = torch.rand(shape, generator=generator, device=generator.device)
        return u.logit(eps=torch.finfo(u.dtype).eps)
    return torch.randn(shape, generator=generator, device=generator.device)
