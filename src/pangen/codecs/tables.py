"""Tables of categories and numbers, some of whose cells are missing: each column a token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import torch
from annotated_types import Ge, Le
from torch import Tensor

from pangen.codecs.codec import Codec, Encoded
from pangen.codecs.series import Quantise
from pangen.data.dataset import DECIMALS, Column
from pangen.errors import PangenError
from pangen.space import Space

if TYPE_CHECKING:
    from pangen.data.dataset import Data

EACH = 20
"""Training rows for a bin, at least."""


@dataclass(frozen=True, kw_only=True)
class Cells(Codec):
    """Token 0 is a missing cell; then come the words of a category, the values of a number that has few, or bins.

    log p(raw) = log p(tokens) + the log density within the bins: with respect to length on the numbers
    that have bins, to counting on all other cells. Columns of fewer tokens than the largest leave some to nobody:
    what a model gives these is lost to it, and decoded they are the column's last.
    """

    name: ClassVar[str] = "cells"
    shows: ClassVar = frozenset({"vector", "tokens"})
    names: tuple[str, ...]
    words: tuple[tuple[str, ...], ...]
    """Of each column that is a category; else empty."""
    points: tuple[tuple[float, ...], ...]
    """Of each column that is a number of few values; else empty."""
    decimals: tuple[Annotated[int, Ge(0), Le(DECIMALS)] | None, ...] = ()
    """Of each column that is a number of few decimals; else None."""
    numbers: Quantise
    """The bins of all other columns."""
    bins: int

    @classmethod
    def applies(cls, data: Data) -> bool:
        return data.modality == "table"

    @classmethod
    def fit(cls, data: Data, *, bins: Annotated[int, Ge(4)] = 64, **settings: Any) -> Self:
        """`bins`: of a number, where there are rows enough."""
        bins = max(min(bins, len(data.train) // EACH), 4)
        x, table = data.train.x.double(), data.table
        real = [
            v[~v.isnan()] for v, column in zip(x.T, table, strict=True) if not column.words + column.points
        ]
        return cls(
            names=tuple(column.name for column in table),
            words=tuple(column.words for column in table),
            points=tuple(column.points for column in table),
            decimals=tuple(column.decimals for column in table),
            numbers=Quantise.of(real, bins, window=1),
            bins=bins,
            **settings,
        )

    @cached_property
    def table(self) -> tuple[Column, ...]:
        """What the columns are."""
        decimals = self.decimals or (None,) * len(self.names)  # which runs of earlier versions do not know
        return tuple(map(Column, self.names, self.words, self.points, decimals))

    @property
    def data_space(self) -> Space:
        columns = range(len(self.names))
        return Space("tokens", (len(columns),), 1 + max(self._kinds(i) or self.bins for i in columns))

    def _kinds(self, column: int) -> int:
        """Words or values; 0 where there are bins."""
        return len(self.words[column]) or len(self.points[column])

    @cached_property
    def _real(self) -> Tensor:
        """The columns that have bins."""
        return torch.tensor([i for i in range(len(self.names)) if not self._kinds(i)], dtype=torch.long)

    @cached_property
    def _values(self) -> Tensor:
        """What the tokens of each column stand for `(columns, levels)` float32; NaN for 0, and for all bins."""
        table = torch.full((len(self.names), self.data_space.levels), torch.nan)
        for column, points in enumerate(self.points):
            found = torch.tensor(points or range(len(self.words[column])), dtype=torch.float)
            if len(found):
                table[column, 1 : 1 + len(found)] = found
                table[column, 1 + len(found) :] = found[-1]
        return table

    def encode(self, raw: Tensor, *, generator: torch.Generator | None = None) -> Encoded:
        missing, nats = raw.isnan(), torch.zeros(len(raw), device=raw.device)
        x = torch.zeros(raw.shape, dtype=torch.long, device=raw.device)
        for column, values in enumerate(self._values.to(raw)):
            if kinds := self._kinds(column):
                mine = values[1 : 1 + kinds]
                found = torch.searchsorted(mine, raw[:, column].contiguous()).clamp(max=kinds - 1)
                x[:, column] = torch.where(raw[:, column] == mine[found], 1 + found, 0)
        if len(self._real):
            bins, within = self.numbers.cells(raw[:, self._real, None])
            seen = ~missing[:, self._real]
            x[:, self._real] = torch.where(seen, 1 + bins[..., 0], 0)
            nats = torch.where(seen, within[..., 0], 0.0).sum(1)
        if strange := ((x == 0) & ~missing).nonzero().tolist():
            row, column = strange[0]
            raise PangenError(
                f"row {row} has {float(raw[row, column]):g} in the column '{self.names[column]}', which the training data never has."
            )
        return Encoded(x, nats)

    def decode(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        raw = self._values.to(x.device).expand(len(x), -1, -1).gather(2, x[:, :, None])[..., 0]
        if len(self._real):
            tokens = x[:, self._real]
            found = self.numbers.decode((tokens - 1).clamp(0, self.bins - 1), generator=generator)
            raw[:, self._real] = torch.where(tokens == 0, torch.nan, found[..., 0])
        return raw

    def ready(self, raw: Tensor, device: torch.device | str) -> Callable[[Tensor], Tensor]:
        tokens = self.encode(raw).x.to(device)
        return lambda index: tokens[index]
