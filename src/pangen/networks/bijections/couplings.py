"""Couplings: some dimensions move by what a network makes of the others."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pangen.networks.bijections.elementwise import Elementwise
from pangen.networks.bijections.images import Flatten, Through
from pangen.networks.bijections.nets import FlatNet
from pangen.networks.bijections.transforms import Compose, Rearrangement, Transform


class Coupling(Transform):
    """Channels are cut in two: one part is mapped, number by number, by what `net` makes of the other.

    A vector's entries are its channels. `net` maps the part it sees and the context to the map's
    parameters, `(k, *mapped part, B)`.

    Args:
        cut: channels of the first part.
        upper: whether the second part is mapped, or the first.
    """

    def __init__(self, map_: Elementwise, net: nn.Module, cut: int, *, upper: bool = True) -> None:
        super().__init__()
        self.map, self.net, self.cut, self.upper = map_, net, cut, upper

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        seen, mapped = self._parts(x)
        mapped, log_slope = self.map.forward(_last(mapped), self.net(seen, context))
        return self._whole(seen, _first(mapped)), log_slope.flatten(0, -2).sum(0)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        seen, mapped = self._parts(z)
        mapped, _ = self.map.inverse(_last(mapped), self.net(seen, context))
        return self._whole(seen, _first(mapped))

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        # one gradient for both, where two slices would make two and add them
        lower, upper = x.split((self.cut, x.shape[1] - self.cut), 1)
        return (lower, upper) if self.upper else (upper, lower)

    def _whole(self, seen: Tensor, mapped: Tensor) -> Tensor:
        return torch.cat([seen, mapped] if self.upper else [mapped, seen], 1)


class MaskedCoupling(Transform):
    """The dimensions where `mask` is 0 are mapped by what `net` makes of those where it is 1.

    All keep their places, as convolutions need it. `mask` has the shape of one example; `net` maps
    the masked example and the context to parameters of every dimension, `(k, *shape, B)`.
    """

    def __init__(self, map_: Elementwise, net: nn.Module, mask: Tensor) -> None:
        super().__init__()
        self.map, self.net = map_, net
        self.mask = nn.Buffer(mask.float().contiguous())
        self.moved = nn.Buffer(1 - self.mask)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z, log_slope = self.map.forward(_last(x), self._numbers(x, context))
        return _first(z), log_slope.flatten(0, -2).sum(0)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return _first(self.map.inverse(_last(z), self._numbers(z, context))[0])

    def _numbers(self, x: Tensor, context: Tensor | None) -> Tensor:
        """Zeros, which make the map the identity, where nothing moves; x or z give the same."""
        return self.net(x * self.mask, context) * self.moved[..., None]


def _last(x: Tensor) -> Tensor:
    """Examples last, `(*shape, B)`."""
    return x.movedim(0, -1)


def _first(x: Tensor) -> Tensor:
    return x.movedim(-1, 0)


class Sorted(Rearrangement):
    """Examples as vectors: the dimensions where `mask` is 0, then those where it is 1."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.shape = mask.shape
        order = mask.flatten().argsort(stable=True)
        self.order = nn.Buffer(order)
        self.back = nn.Buffer(order.argsort())

    def arrange(self, x: Tensor) -> Tensor:
        return x.flatten(1).index_select(1, self.order)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return z.index_select(1, self.back).view(-1, *self.shape)


def flat_coupling(
    map_: Elementwise, dims: int, cut: int, upper: bool, width: int, depth: int = 2,
    *, context: int = 0, dropout: float = 0.0,
) -> Coupling:  # fmt: skip
    """A coupling of vectors whose network is a perceptron."""
    seen = cut if upper else dims - cut
    net = FlatNet(seen, dims - seen, map_.k, width, depth, context=context, dropout=dropout)
    return Coupling(map_, net, cut, upper=upper)


def flat_pair(
    map_: Elementwise, mask: Tensor, width: int, depth: int = 2, *, context: int = 0, dropout: float = 0.0
) -> Transform:
    """Two couplings by perceptrons of examples of any shape: the dimensions where `mask` is 0 move, then the others.

    One that would see nothing is left out.
    """
    dims, cut = mask.numel(), int((mask == 0).sum())
    pair = [
        flat_coupling(map_, dims, cut, upper, width, depth, context=context, dropout=dropout)
        for upper, seen in ((False, dims - cut), (True, cut))
        if dims > seen and seen + context
    ]
    ordered = bool((mask.flatten().diff() >= 0).all())
    return Through(Flatten(tuple(mask.shape)) if ordered else Sorted(mask), Compose(*pair))
