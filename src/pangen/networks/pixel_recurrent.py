"""Two-dimensional LSTMs over images, whose state at a pixel knows the pixels before it (van den Oord et al. 2016a).

Each layer is written twice: over whole images, all pixels of a row or diagonal at once, and a pixel at a
time, which is how samples are drawn. Vectors of pixels come last, `(B, H, W, n)`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import pad

from pangen.networks.linear import Linear, linear
from pangen.networks.modules import listed
from pangen.networks.pixel import FIRST, inside


def lstm(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """The state h and the memory c `(..., n)` by `gates` `(..., 4 n)` and the memory before (Eq. 3)."""
    n = c.shape[-1]
    out, forget, write = gates[..., : 3 * n].sigmoid().chunk(3, -1)
    c = forget * c + write * gates[..., 3 * n :].tanh()
    return out * c.tanh(), c


class Recurrence(nn.Module, ABC):
    """States `(B, H, W, n)` of vectors `(B, H, W, inputs)`."""

    read: Linear
    """What enters the gates from below."""

    def remember(self, n: int) -> None:
        """Memories last at first: the bias of the forget gates is 1 (Gers et al. 2000)."""
        with torch.no_grad():
            self.read.bias.view(-1, 4, n)[:, 1] = 1.0

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def start(self, n: int, width: int) -> Any:
        """What is kept of `n` growing images: nothing is known."""

    @abstractmethod
    def pixel(self, kept: Any, x: Tensor, column: int) -> Tensor:
        """The state `(B, n)` of the next pixel by its vector `(B, inputs)`."""

    @abstractmethod
    def end_row(self, kept: Any) -> None:
        """All pixels of a row have been."""


@dataclass
class Rows:
    """States of the row above, with a column of zeros to either side, and of the present row; its inputs."""

    above: Tensor
    memory: Tensor
    states: Tensor
    memories: Tensor
    inputs: Tensor


class RowLSTM(Recurrence):
    """The state of a pixel follows from the three above it, its memory from the one above (Section 3.1)."""

    def __init__(self, inputs: int, n: int) -> None:
        super().__init__()
        self.n = n
        self.read = Linear(2 * inputs, 4 * n)  # of the pixel to the left, and of the pixel itself
        self.pass_on = Linear(3 * n, 4 * n, bias=False)
        self.remember(n)

    def forward(self, x: Tensor) -> Tensor:
        gates = self.read(torch.cat([pad(x, (0, 0, 1, -1)), x], -1))
        h = c = self.read.weight.new_zeros(len(x), x.shape[2], self.n)
        rows = []
        for row in gates.unbind(1):
            three = torch.cat([pad(h, (0, 0, 1, -1)), h, pad(h, (0, 0, -1, 1))], -1)
            h, c = lstm(row + self.pass_on(three), c)
            rows.append(h)
        return torch.stack(rows, 1)

    def start(self, n: int, width: int) -> Rows:
        zeros = self.read.weight.new_zeros
        return Rows(
            zeros(n, width + 2, self.n), zeros(n, width, self.n), zeros(n, width, self.n),
            zeros(n, width, self.n), zeros(n, width + 1, self.read.in_features // 2),
        )  # fmt: skip

    def pixel(self, kept: Rows, x: Tensor, column: int) -> Tensor:
        kept.inputs[:, column + 1] = x
        gates = self.read(kept.inputs[:, column : column + 2].flatten(1))
        gates = gates + self.pass_on(kept.above[:, column : column + 3].flatten(1))
        h, c = lstm(gates, kept.memory[:, column])
        kept.states[:, column], kept.memories[:, column] = h, c
        return h

    def end_row(self, kept: Rows) -> None:
        kept.above[:, 1:-1], kept.memory = kept.states, kept.memories.clone()


@dataclass
class Sides:
    """Of the run from the left (0) and from the right (1): states of the row above `(2, B, W, n)`; from the
    left the last state and memory of the present row; its inputs."""

    above: Tensor
    state: Tensor
    memory: Tensor
    inputs: Tensor


class DiagonalBiLSTM(Recurrence):
    """From the left, the state of a pixel follows from those to the left and above, and its memory from that to
    the left; from the right likewise, a row lower, so that it knows no pixel to come (Section 3.2).

    All pixels of a diagonal, i + j = d, are computed at once: row i is skewed i places to the right.
    """

    def __init__(self, inputs: int, n: int) -> None:
        super().__init__()
        self.n = n
        self.read = Linear(inputs, 8 * n)  # of both runs
        self.pass_on = nn.Parameter(torch.empty(2, 2 * n, 4 * n))  # from above and from the side, of each run
        nn.init.uniform_(self.pass_on, -((2 * n) ** -0.5), (2 * n) ** -0.5)
        self.remember(n)

    def forward(self, x: Tensor) -> Tensor:
        (B, H, W, _), n = x.shape, self.n
        left, right = self.read(x).chunk(2, -1)
        gates = skew(torch.stack([left, right.flip(2)])).movedim(3, 0).flatten(2, 3).contiguous()
        h = c = self.pass_on.new_zeros(2, B, H, n)
        diagonals = []
        for gate in gates:  # (2, B H, 4 n)
            near = torch.cat([pad(h, (0, 0, 1, -1)), h], -1).view(2, B * H, 2 * n)
            now = torch.baddbmm(gate, near, self.pass_on)
            h, c = lstm(now.view(2, B, H, 4 * n), c)
            diagonals.append(h)
        left, right = unskew(torch.stack(diagonals, 3), W)
        return left + pad(right.flip(2), (0, 0, 0, 0, 1, -1))

    def start(self, n: int, width: int) -> Sides:
        zeros = self.read.weight.new_zeros
        return Sides(
            zeros(2, n, width, self.n), zeros(n, self.n), zeros(n, self.n),
            zeros(n, width, self.read.in_features),
        )  # fmt: skip

    def step(self, run: int, x: Tensor, above: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """One pixel of one run."""
        mine = slice(4 * self.n * run, 4 * self.n * (run + 1))
        gates = linear(x, self.read.weight[mine], self.read.bias[mine])
        return lstm(gates + torch.cat([above, h], -1) @ self.pass_on[run], c)

    def pixel(self, kept: Sides, x: Tensor, column: int) -> Tensor:
        kept.inputs[:, column] = x
        above = kept.above[0, :, column]
        kept.state, kept.memory = self.step(0, x, above, kept.state, kept.memory)
        kept.above[0, :, column] = kept.state  # no other pixel needs what stood there
        return kept.state + kept.above[1, :, column]

    def end_row(self, kept: Sides) -> None:
        h = c = kept.state = kept.memory = torch.zeros_like(kept.state)
        for column in reversed(range(kept.inputs.shape[1])):
            h, c = self.step(1, kept.inputs[:, column], kept.above[1, :, column], h, c)
            kept.above[1, :, column] = h


def skew(x: Tensor) -> Tensor:
    """Row i of `(..., H, W, n)` moved i places to the right `(..., H, H + W - 1, n)`, zeros around it."""
    *more, H, W, n = x.shape
    x = pad(x, (0, 0, 0, H)).reshape(*more, H * (H + W), n)
    return x[..., : H * (H + W - 1), :].reshape(*more, H, H + W - 1, n)


def unskew(x: Tensor, width: int) -> Tensor:
    """What `skew` was given."""
    *more, H, D, n = x.shape
    x = pad(x.reshape(*more, H * D, n), (0, 0, 0, H))
    return x.reshape(*more, H, D + 1, n)[..., :width, :]


CELLS = {"row": RowLSTM, "diagonal": DiagonalBiLSTM}


@dataclass
class Cache:
    """`canvas` `(B, FIRST // 2 + 1, W + FIRST, inputs + 1)`: the last rows, the present one lowest."""

    told: Tensor | float
    canvas: Tensor
    kept: list[Any]
    context: Tensor = field(init=False)
    seen: int = 0


class RecurrentLayers(nn.Module):
    """Features `(B, inputs, H, W)` to what each pixel is predicted from `(B, 2 n, H, W)`.

    The first layer sees a square of FIRST x FIRST about the pixel as far as it came before (mask A). Rows end in
    a column of their own, which alone knows the last pixel: without it, what runs from the right would not.

    Args:
        n: numbers in a state.
        depth: recurrent layers.
        cell: of them, by its name in `CELLS`.
        condition: length of the condition vector; 0: none.
    """

    def __init__(self, inputs: int, n: int, depth: int, cell: str, *, condition: int, dropout: float) -> None:
        super().__init__()
        half = FIRST // 2
        self.reach, self.width = half, 2 * n
        self.above = Linear((inputs + 1) * half * FIRST, 2 * n)
        self.before = Linear((inputs + 1) * half, 2 * n, bias=False)
        self.label = Linear(condition, 2 * n, bias=False) if condition else None
        self.cells = listed(CELLS[cell](2 * n, n) for _ in range(depth))
        self.leave = listed(Linear(n, 2 * n) for _ in range(depth))
        self.dropout = nn.Dropout(dropout)

    def tell(self, y: Tensor | None) -> Tensor | float:
        return 0.0 if self.label is None else self.label(y)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        half, told = self.reach, self.tell(y)
        x = rearrange(pad(inside(x), (0, 1)), "b c h w -> b h w c")
        rows = pad(x, (0, 0, half, half, half, -1)).unfold(1, half, 1).unfold(2, FIRST, 1)
        row = pad(x, (0, 0, half, -1)).unfold(2, half, 1)
        h = self.above(rearrange(rows, "b h w c i j -> b h w (i j c)"))
        h = h + self.before(rearrange(row, "b h w c j -> b h w (j c)"))
        h = h + told[:, None, None] if isinstance(told, Tensor) else h
        for cell, leave in zip(self.cells, self.leave, strict=True):
            h = h + leave(self.dropout(cell(h)))
        return rearrange(h[:, :, :-1], "b h w c -> b c h w")

    def start(self, n: int, width: int, y: Tensor | None = None) -> Cache:
        inputs = self.before.in_features // self.reach
        canvas = self.above.weight.new_zeros(n, self.reach + 1, width + 1 + 2 * self.reach, inputs)
        cache = Cache(self.tell(y), canvas, [cell.start(n, width + 1) for cell in self.cells])
        cache.context = self._pixel(cache, 0)
        return cache

    def advance(self, cache: Cache, x: Tensor) -> None:
        width = cache.canvas.shape[2] - 1 - 2 * self.reach
        column = cache.seen % width
        cache.canvas[:, -1, self.reach + column] = inside(x)[..., 0, 0]
        cache.seen += 1
        cache.context = self._pixel(cache, column + 1)
        if column + 1 == width:
            cache.canvas = pad(cache.canvas, (0, 0, 0, 0, -1, 1))
            for cell, kept in zip(self.cells, cache.kept, strict=True):
                cell.end_row(kept)
            cache.context = self._pixel(cache, 0)

    def _pixel(self, cache: Cache, column: int) -> Tensor:
        """The context of the pixel in a column of the present row."""
        h = self.above(cache.canvas[:, :-1, column : column + FIRST].flatten(1))
        h = h + self.before(cache.canvas[:, -1, column : column + self.reach].flatten(1)) + cache.told
        for cell, leave, kept in zip(self.cells, self.leave, cache.kept, strict=True):
            h = h + leave(cell.pixel(kept, h, column))
        return h[..., None, None]
