"""Two networks that read a source once and write a target while looking at it: a Transformer, and GRUs that attend.

Both turn vectors of the source `(B, S, width)` into a memory, and vectors of the target's tokens before
`(B, T, width)`, with the memory, into vectors `(B, T, width)` of which t sees targets 0 .. t and all of the source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, gelu
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from pangen.networks.linear import Linear
from pangen.networks.modules import listed
from pangen.networks.positions import sinusoids
from pangen.networks.transformer import Attention, Block, Cache, Remembered


class Memory(NamedTuple):
    """What was read `(B, S, width)`, and what of it is no padding `(B, S)`."""

    values: Tensor
    mask: Tensor

    def take(self, rows: Tensor) -> Memory:
        return Memory(self.values[rows], self.mask[rows])


class DecoderBlock(nn.Module):
    """Self-attention, attention to the memory, an MLP (Vaswani et al. 2017, Figure 1), the norm before each."""

    block: ClassVar[bool] = True

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.norms = listed(nn.LayerNorm(width) for _ in range(3))
        self.itself, self.source = Attention(width, heads), Attention(width, heads)
        self.widen, self.narrow = Linear(width, 4 * width), Linear(4 * width, width)

    def forward(
        self, x: Tensor, source: Tensor | Remembered, mask: Tensor, cache: Cache | None, layer: int
    ) -> Tensor:
        a = self.itself(self.norms[0](x), causal=True, cache=cache, layer=layer)
        x = x + dropout(a, self.dropout, self.training)
        a = self.source(self.norms[1](x), source, mask)
        x = x + dropout(a, self.dropout, self.training)
        h = self.narrow(gelu(self.widen(self.norms[2](x))))
        return x + dropout(h, self.dropout, self.training)


@dataclass
class TransformerState:
    """For each block the keys and values of the source, its mask, and those of the target so far."""

    sources: list[Remembered]
    mask: Tensor
    past: Cache

    @property
    def seen(self) -> int:
        return self.past.seen

    def take(self, rows: Tensor) -> TransformerState:
        past = Cache(self.past.keys[:, rows], self.past.values[:, rows], self.past.seen)
        sources = [(k[rows], v[rows]) for k, v in self.sources]
        return TransformerState(sources, self.mask[rows], past)


class TransformerPair(nn.Module):
    """Encoder and decoder of `depth` blocks each (Vaswani et al. 2017), the norm before each part.

    Places are told by sinusoids. `length` is of the longer side.
    """

    def __init__(self, width: int, depth: int, heads: int, dropout: float, length: int) -> None:
        super().__init__()
        self.places = nn.Buffer(sinusoids(length, width), persistent=False)
        self.encoder = listed(Block(width, heads, dropout) for _ in range(depth))
        self.decoder = listed(DecoderBlock(width, heads, dropout) for _ in range(depth))
        self.norms = listed(nn.LayerNorm(width) for _ in range(2))
        self.dropout, self.heads = dropout, heads

    def placed(self, x: Tensor, first: int = 0) -> Tensor:
        return dropout(x + self.places[first : first + x.shape[1]], self.dropout, self.training)

    def read(self, source: Tensor, mask: Tensor) -> Memory:
        x = self.placed(source)
        for block in self.encoder:
            x = block(x, mask[:, None, None])
        return Memory(self.norms[0](x), mask)

    def start(self, memory: Memory, length: int) -> TransformerState:
        """Before the first of `length` tokens."""
        B, _, width = memory.values.shape
        shape = (len(self.decoder), B, self.heads, length, width // self.heads)
        past = Cache(memory.values.new_zeros(shape), memory.values.new_zeros(shape))
        return TransformerState(self._sources(memory), memory.mask[:, None, None], past)

    def write(self, target: Tensor, memory: Memory) -> Tensor:
        sources = [memory.values] * len(self.decoder)
        return self._decode(self.placed(target), sources, memory.mask[:, None, None])

    def advance(self, target: Tensor, state: TransformerState) -> Tensor:
        """`target` holds the vectors not seen yet; `state` moves on in place."""
        h = self._decode(self.placed(target, state.seen), state.sources, state.mask, state.past)
        state.past.seen += target.shape[1]
        return h

    def _sources(self, memory: Memory) -> list[Remembered]:
        return [block.source.remember(memory.values) for block in self.decoder]

    def _decode(
        self, x: Tensor, sources: Sequence[Tensor | Remembered], mask: Tensor, past: Cache | None = None
    ) -> Tensor:
        for layer, (block, source) in enumerate(zip(self.decoder, sources, strict=True)):
            x = block(x, source, mask, past, layer)
        return self.norms[1](x)


@dataclass
class RecurrentState:
    """The memory with its keys, and the decoder's s `(B, width)` after `seen` tokens."""

    memory: Memory
    keys: Tensor
    s: Tensor
    seen: int = 0

    def take(self, rows: Tensor) -> RecurrentState:
        return RecurrentState(self.memory.take(rows), self.keys[rows], self.s[rows], self.seen)


class RecurrentPair(nn.Module):
    """GRUs that read both ways, and one that attends to them as it writes (Bahdanau et al. 2015, Appendix A)."""

    def __init__(self, width: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        between = dropout if depth > 1 else 0.0
        self.encoder = nn.GRU(width, width // 2, depth, batch_first=True, bidirectional=True, dropout=between)
        self.first = Linear(width // 2, width)  # W_s
        self.cell = nn.GRUCell(2 * width, width)
        self.query, self.key = Linear(width, width, bias=False), Linear(width, width)  # W_a, U_a
        self.energy = Linear(width, 1, bias=False)  # v_a
        self.out = Linear(3 * width, width)

    def read(self, source: Tensor, mask: Tensor) -> Memory:
        """Padding stands at the end and is not read."""
        x = dropout(source, self.dropout, self.training)
        packed = pack_padded_sequence(x, mask.sum(1).cpu(), batch_first=True, enforce_sorted=False)
        h, _ = pad_packed_sequence(self.encoder(packed)[0], batch_first=True, total_length=mask.shape[1])
        return Memory(h, mask)

    def start(self, memory: Memory, length: int = 0) -> RecurrentState:
        backward = memory.values[:, 0, memory.values.shape[2] // 2 :]
        return RecurrentState(memory, self.key(memory.values), torch.tanh(self.first(backward)))

    def write(self, target: Tensor, memory: Memory) -> Tensor:
        return self.advance(target, self.start(memory))

    def advance(self, target: Tensor, state: RecurrentState) -> Tensor:
        """`target` holds the vectors not seen yet; `state` moves on in place."""
        h, mask = state.memory
        found = []
        for e in dropout(target, self.dropout, self.training).unbind(1):
            scores = self.energy(torch.tanh(self.query(state.s)[:, None] + state.keys))[..., 0]  # e_ij
            alpha = scores.masked_fill(~mask, -torch.inf).softmax(1)
            c = (alpha[:, None] @ h)[:, 0]
            state.s = self.cell(torch.cat([e, c], 1), state.s)
            found.append(torch.cat([state.s, e, c], 1))
        state.seen += target.shape[1]
        return dropout(torch.tanh(self.out(torch.stack(found, 1))), self.dropout, self.training)
