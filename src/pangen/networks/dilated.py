"""Dilated causal convolutions: gated layers that reach far back, and rings that remember what they need of the past."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d

from pangen.networks.modules import listed


class GatedLayer(nn.Module):
    """z = tanh(W_f * x + V_f y) sigmoid(W_g * x + V_g y); the next layer reads x + R z (van den Oord et al. 2016a, Eq. 2)."""

    block: ClassVar[bool] = True

    def __init__(self, channels: int, kernel: int, dilation: int, *, last: bool) -> None:
        super().__init__()
        self.past = (kernel - 1) * dilation
        self.gated = nn.Conv1d(channels, 2 * channels, kernel, dilation=dilation)
        self.residual = None if last else nn.Conv1d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """What the next layer reads and z, both shorter than `x` `(B, channels, T)` by the past; `y` `(B, 2 channels, 1)`."""
        return self._through(x[..., self.past :], self.gated(x) + y)

    def forever(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The same where one `x` `(B, channels, 1)` is all there ever was."""
        taps = self.gated.weight.sum(2, keepdim=True)
        return self._through(x, conv1d(x, taps, self.gated.bias) + y)

    def _through(self, x: Tensor, gates: Tensor) -> tuple[Tensor, Tensor]:
        filter, gate = gates.chunk(2, 1)
        z = filter.tanh() * gate.sigmoid()
        return (x if self.residual is None else x + self.residual(z)), z


class DilatedStack(nn.Module):
    """Layers of growing reach; the sum of what each one shows, S z, is what the next value is predicted from.

    Conditions `y` `(B, layers, 2 channels, 1)` are added in each layer, before its gates.

    Args:
        skip: numbers in that sum.
        dilations: of the layers, in their order.
        kernel: taps of a convolution.
    """

    def __init__(self, channels: int, skip: int, dilations: Sequence[int], kernel: int) -> None:
        super().__init__()
        self.dilations, last = tuple(dilations), len(dilations) - 1
        self.layers = listed(GatedLayer(channels, kernel, d, last=i == last) for i, d in enumerate(dilations))
        self.shown = listed(nn.Conv1d(channels, skip, 1, bias=False) for _ in dilations)
        self.past = sum(layer.past for layer in self.layers)

    def forward(self, x: Tensor, y: Tensor, past: list[Tensor] | None = None) -> Tensor:
        """`(B, skip, n)` of the last n places of `x` `(B, channels, T)`.

        Without a `past`, n = T - self.past, and the first places are context alone. With one, as `start` makes
        it, `x` goes on where it ends, n = T, and the past is moved to the end of x.
        """
        n, total = x.shape[2] - (self.past if past is None else 0), x.new_zeros(())
        for i, (layer, shown) in enumerate(zip(self.layers, self.shown, strict=True)):
            if past is not None:
                x = torch.cat([past[i], x], 2)
                past[i] = x[..., x.shape[2] - layer.past :]
            x, z = layer(x, y[:, i])
            total = total + shown(z[..., -n:])
        return total

    def start(self, x: Tensor, y: Tensor) -> list[Tensor]:
        """What each layer keeps when all there ever was is `x` `(B, channels, 1)`."""
        past = []
        for i, layer in enumerate(self.layers):
            past.append(x.expand(-1, -1, layer.past))
            x, _ = layer.forever(x, y[:, i])
        return past


@dataclass
class Rings:
    """A `DilatedStack` that takes one value at a time: what each layer keeps lies in a ring, of which one place is overwritten.

    A step costs the same however many came before. All layers' products with the past are one product of batches,
    as the past is known before the step; what is left are three operations a layer. A layer's row holds
    (x, filter, gate): tanh of the gates at once, as sigmoid(g) = (1 + tanh(g / 2)) / 2, makes (x, 2 z) of it, and one
    product of that is the next row. It belongs to one growing batch of sequences.
    """

    kept: Tensor
    """Every ring, one after another `(places, B, channels)`."""
    places: Tensor
    """Where in them each layer's taps lie at step t modulo their period, the oldest first `(period, taps, layers)`."""
    old: Tensor
    """Weights of the taps `(taps, layers, channels, 3 channels)`."""
    bias: Tensor
    """`(layers, B, 3 channels)`: zeros, and what is added before the gates."""
    now: list[Tensor]
    """From (x, 2 z) of a layer to the row of the next `(2 channels, 3 channels)`."""
    shown: Tensor
    """`(layers, channels, skip)`."""
    first: Tensor
    """The first row of each value that there is `(values, 3 channels)`."""
    rows: Tensor
    """`(layers, B, 3 channels)`, overwritten at each step."""
    seen: int = 0
    """Steps done."""

    @classmethod
    def of(cls, stack: DilatedStack, past: Sequence[Tensor], y: Tensor, values: Tensor) -> Rings:
        """Rings that go on where `past`, as a `DilatedStack` left it, ends; it read one of `values` `(values, channels)`."""
        C, L = past[0].shape[1], len(past)
        sizes = [layer.past for layer in stack.layers]
        ends = torch.tensor([0, *sizes]).cumsum(0)
        steps = torch.arange(max(sizes))
        taps = past[0].shape[2] // stack.dilations[0]
        places = torch.stack([
            torch.stack([(steps + j * d) % size + start for d, size, start in zip(stack.dilations, sizes, ends, strict=False)], 1)
            for j in range(taps)
        ], 1)  # fmt: skip
        halved = torch.cat([torch.ones(C), torch.full((C,), 0.5)]).to(past[0])
        gated = torch.stack([layer.gated.weight for layer in stack.layers]) * halved[:, None, None]
        gated = nn.functional.pad(gated.permute(3, 0, 2, 1), (C, 0))  # (taps + 1, layers, C, 3 C)
        biases = [layer.gated.bias for layer in stack.layers if layer.gated.bias is not None]
        bias = torch.stack(biases)[:, None] + y[..., 0].transpose(0, 1)
        same = torch.eye(C, 3 * C).to(gated)
        through = same + gated[-1]  # x to (x, filter, gate)
        now = [
            torch.cat([after, layer.residual.weight[..., 0].T / 2 @ after])
            for layer, after in zip(stack.layers[:-1], through[1:], strict=True)
            if layer.residual is not None
        ]
        return cls(
            kept=torch.cat([p.permute(2, 0, 1) for p in past]).contiguous(),
            places=places.to(y.device),
            old=gated[:-1].contiguous(),
            bias=nn.functional.pad(bias * halved, (C, 0)),
            now=now,
            shown=torch.stack([shown.weight[..., 0].T / 2 for shown in stack.shown]),
            first=values @ through[0],
            rows=torch.empty(L, len(y), 3 * C).to(y),
        )

    def __post_init__(self) -> None:
        C = self.kept.shape[2]
        self._parts = [
            (row, row[:, : 2 * C], row[:, C : 2 * C], row[:, 2 * C :], row[:, C:]) for row in self.rows
        ]

    def step(self, value: Tensor) -> Tensor:
        """`(B, skip)` after one more value, given by its index `(B,)`."""
        places, C = self.places[self.seen % len(self.places)], self.kept.shape[2]
        torch.baddbmm(self.bias, self.kept.index_select(0, places[0]), self.old[0], out=self.rows)
        for place, old in zip(places[1:], self.old[1:], strict=True):
            self.rows.baddbmm_(self.kept.index_select(0, place), old)
        row, before, filter, gate, gates = self._parts[0]
        row.add_(self.first[value])
        gates.tanh_()
        filter.addcmul_(filter, gate)
        for now, (row, following, filter, gate, gates) in zip(self.now, self._parts[1:], strict=True):
            row.addmm_(before, now)
            gates.tanh_()
            filter.addcmul_(filter, gate)
            before = following
        self.kept.index_copy_(0, places[0], self.rows[..., :C])
        self.seen += 1
        return torch.bmm(self.rows[..., C : 2 * C], self.shown).sum(0)
