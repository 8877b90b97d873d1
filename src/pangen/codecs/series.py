"""Windows of a series `(columns, window)`: as real numbers of scale 1, or as tokens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from pangen.codecs.codec import Codec, Encoded, alike
from pangen.space import Space

if TYPE_CHECKING:
    from pangen.data.dataset import Data

FINE = 20
"""Equal cells for each bin, in which training values are counted."""
OUTSIDE = 0.005
"""Share of training values below the lowest edge, and above the highest."""
ROWS = 64
"""Noise is drawn for so many examples at once, so that an example's does not depend on how many there are."""


@dataclass(frozen=True, kw_only=True)
class Windows(Codec):
    """Of windows of a series, or pieces of them of any length."""

    window: int

    @classmethod
    def applies(cls, data: Data) -> bool:
        return data.modality == "series"


@dataclass(frozen=True, kw_only=True)
class Columns(Windows):
    """x = (raw - mean) / std of each column; the volume is -log std a step, so likelihoods are of the raw units."""

    name: ClassVar[str] = "columns"
    shows: ClassVar = frozenset({"series", "real"})
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        alike(self.mean, self.std)

    @classmethod
    def fit(cls, data: Data, **settings: Any) -> Self:
        values = each_column(data)
        mean, std = values.mean(1), values.std(1, correction=0)
        return cls(mean=tuple(mean.tolist()), std=tuple(std.tolist()), window=data.window, **settings)

    @property
    def data_space(self) -> Space:
        return Space("real", (len(self.mean), self.window))

    def encode(self, raw: Tensor, *, generator: torch.Generator | None = None) -> Encoded:
        raw = raw.to(torch.get_default_dtype())
        mean, std = (raw.new_tensor(values)[:, None] for values in (self.mean, self.std))
        x = (raw - mean) / std
        return Encoded(x, (-std.log().sum() * x.shape[2]).expand(len(x)))

    def decode(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        mean, std = (x.new_tensor(values)[:, None] for values in (self.mean, self.std))
        return (x * std + mean).float()


@dataclass(frozen=True, kw_only=True)
class Scale(Columns):
    """Of a single column."""

    name: ClassVar[str] = "scale"

    @classmethod
    def applies(cls, data: Data) -> bool:
        return super().applies(data) and data.shape[0] == 1


@dataclass(frozen=True, kw_only=True)
class Quantise(Windows):
    """Each value the bin it falls into, step by step, and at a step column by column.

    Half of the bins' edges are laid by training quantiles and half evenly, so that bins are narrow
    where values are frequent and wide nowhere. Within a bin the density is even. The first and the
    last have no end: there it decays exponentially, as far on average as training values do.
    A probability of bins is therefore a density of values: log p(raw) = log p(bin) - log width.
    """

    name: ClassVar[str] = "quantise"
    shows: ClassVar = frozenset({"sequence", "tokens"})
    edges: tuple[float, ...]
    """`bins` - 1 of each column, one column after another."""
    tails: tuple[float, ...]
    """Mean distance of training values from the outermost edges, below and above, of each column."""
    bins: int

    @classmethod
    def fit(cls, data: Data, *, bins: Annotated[int, Ge(4)] = 100, **settings: Any) -> Self:
        return cls.of(each_column(data), bins, window=data.window, **settings)

    @classmethod
    def of(cls, columns: Iterable[Tensor], bins: int, **settings: Any) -> Self:
        """Learnt from the training values of each column `(n,)` float64."""
        edges, tails = [], []
        for values in columns:
            found = _edges(values, bins - 1)
            width = (found[-1] - found[0]) / (bins - 2)
            for beyond in (found[0] - values, values - found[-1]):
                beyond = beyond[beyond > 0]
                tails.append(float(beyond.mean() if len(beyond) else width))
            edges += found.tolist()
        return cls(edges=tuple(edges), tails=tuple(tails), bins=bins, **settings)

    @property
    def columns(self) -> int:
        return len(self.tails) // 2

    @property
    def raw_shape(self) -> tuple[int, ...]:
        return (self.columns, self.window)

    @property
    def data_space(self) -> Space:
        return Space("tokens", (self.columns * self.window,), self.bins)

    @property
    def widths(self) -> Tensor:
        """Of bins, and mean distances in the first and the last `(C, bins)`, float64."""
        edges = torch.tensor(self.edges, dtype=torch.float64).view(self.columns, -1)
        tails = torch.tensor(self.tails, dtype=torch.float64).view(self.columns, 2)
        return torch.cat([tails[:, :1], edges.diff(dim=1), tails[:, 1:]], 1)

    def encode(self, raw: Tensor, *, generator: torch.Generator | None = None) -> Encoded:
        x, nats = self.cells(raw)
        return Encoded(x.permute(0, 2, 1).flatten(1), nats.sum((1, 2)))

    def cells(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """The bin of each value, and the log density within it `(B, C, T)`."""
        raw = raw.to(torch.get_default_dtype())
        B, C, T = raw.shape
        values = raw.movedim(1, 0).reshape(C, B * T).contiguous()
        edges, widths = raw.new_tensor(self.edges).view(C, -1), self.widths.to(raw)
        x = torch.searchsorted(edges, values, right=True)
        outside = (edges[:, :1] - values).relu() + (values - edges[:, -1:]).relu()
        width = widths.gather(1, x)
        nats = -(width.log() + outside / width)
        return x.view(C, B, T).movedim(0, 1), nats.view(C, B, T).movedim(0, 1)

    def decode(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        C, (B, L) = self.columns, x.shape
        if generator is None:
            within, beyond = torch.full_like(x, 0.5, dtype=torch.float), torch.ones_like(x, dtype=torch.float)
        else:
            device = generator.device
            noise = [torch.rand(ROWS, L, generator=generator, device=device) for _ in range(0, B, ROWS)]
            within = torch.cat(noise)[:B].to(x.device)
            beyond = -(-within).log1p()
        place = torch.where(x == 0, -beyond, torch.where(x == self.bins - 1, beyond, within))
        x, place = (v.view(B, L // C, C).movedim(2, 0).reshape(C, -1) for v in (x, place))
        edges, widths = place.new_tensor(self.edges).view(C, -1), self.widths.to(place)
        low = torch.cat([edges[:, :1], edges], 1)
        values = low.gather(1, x) + place * widths.gather(1, x)
        return values.view(C, B, L // C).movedim(0, 1).float()


def each_column(data: Data) -> Tensor:
    """The training values of each column `(C, n)` float64, those of overlapping windows once."""
    x = data.train.x.double()
    return torch.cat([x[:, :, 0].T, x[-1, :, 1:]], 1)


def _edges(values: Tensor, n: int) -> Tensor:
    """`n` edges between the training values that few lie beyond, rising."""
    ends = torch.tensor([OUTSIDE, 1 - OUTSIDE], dtype=torch.float64)
    low, high = values.quantile(ends).tolist()
    if low == high:
        low, high = float(values.min()), float(values.max())
    cells = FINE * n
    count = torch.histc(values, cells, low, high)
    mass = torch.cat([torch.zeros(1), (count / count.sum() + 1 / cells) / 2]).double().cumsum(0)
    grid = np.linspace(low, high, cells + 1)
    return torch.from_numpy(np.interp(np.linspace(0, 1, n), mass.numpy(), grid))
