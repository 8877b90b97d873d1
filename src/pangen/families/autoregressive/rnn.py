"""Recurrent networks of tokens: Elman's (1990), the LSTM (Hochreiter and Schmidhuber 1997), the GRU (Cho et al. 2014).

p(x) = prod_t p(x_t given h_t), h_t = cell(x_{t-1}, h_{t-1}): all that came before is in the state h.
The LSTM has the forget gate of Gers et al. (2000); the GRU resets after the product, not before:
h~ = tanh(W x + r * (U h)), as fused kernels do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from pangen.families.autoregressive.sequence import Before, SequenceModel
from pangen.networks.labels import hide
from pangen.networks.linear import Linear
from pangen.settings import Count, Natural, Share
from pangen.space import Batch, Loss, Progress, Space

CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
State = Any
"""h `(layers, B, width)`; of the LSTM the pair (h, c)."""


class Memory(NamedTuple):
    """The cache: the state after `seen` inputs, of which the last predicted token `seen` - 1."""

    seen: int
    state: State


class RNN(SequenceModel):
    """A recurrent network over one token for each value of an example.

    Text and pixels as in `gpt`: pixels are embedded with the neighbours before them and their place,
    and have a bias for each place.

    Args:
        cell: "rnn", tanh units; "lstm"; "gru".
        layers: each reads the states of the one below.
        width: numbers in a layer's state.
        embedding: numbers a token is read as.
        dropout: of what enters each layer and leaves the last, never of what a state hands to the
            next (Zaremba et al. 2014).
        truncate: tokens after which training cuts the state off its history and updates the weights
            (truncated backpropagation through time, Williams and Peng 1990); 0: never. What is kept
            for the backward pass shrinks from the whole example to one piece, and each step makes as
            many updates as there are pieces. Lost is the gradient across a cut: the state still
            carries what came before, but how to store it for longer is no longer learnt.
        unlabelled: share of labels hidden in training, so that p(x) is learnt beside p(x given y).
    """

    training_defaults: ClassVar[dict[str, Any]] = {"lr": 8e-3, "batch": 16, "warmup": 20, "ema": 0.99}

    def __init__(
        self,
        space: Space,
        *,
        cell: Literal["rnn", "lstm", "gru"] = "lstm",
        layers: Count = 1,
        width: Count = 128,
        embedding: Count = 64,
        dropout: Share = 0.1,
        truncate: Natural = 0,
        unlabelled: Share = 0.1,
    ) -> None:
        super().__init__(space, unlabelled=unlabelled)
        L = space.dims
        self.piece = min(truncate or L, L)
        self.before = Before(space, embedding)
        self.place = nn.Parameter(0.1 * torch.randn(L, embedding)) if space.is_image else None
        between = dropout if layers > 1 else 0.0
        self.cell = CELLS[cell](embedding, width, layers, dropout=between, batch_first=True)
        self.read = Linear(width, space.levels, bias=False)
        self.bias = nn.Parameter(torch.zeros(L if space.is_image else 1, space.levels))
        self.dropout = nn.Dropout(dropout)
        if cell == "lstm":
            with torch.no_grad():
                for i in range(layers):  # states last at first (Gers et al. 2000; Jozefowicz et al. 2015)
                    getattr(self.cell, f"bias_ih_l{i}")[width : 2 * width] = 1.0

    @torch.no_grad()
    def initialize(self, batch: Batch) -> None:
        self.bias.copy_(self.log_frequency(batch.x, pooled=len(self.bias) == 1))

    def advance(
        self, tokens: Tensor, y: Tensor | None, first: int = 0, state: State = None
    ) -> tuple[Tensor, State]:
        """Logits `(B, t + 1 - first, K)` of tokens first .. t, and the state after; `tokens` `(B, t)`."""
        now = slice(first, tokens.shape[1] + 1)
        x = self.before(tokens, y, first)
        x = x if self.place is None else x + self.place[now]
        h, state = self.cell(self.dropout(x), state)
        bias = self.bias if len(self.bias) == 1 else self.bias[now]
        return self.read(self.dropout(h)) + bias, state

    def logits(self, x: Tensor, y: Tensor | None) -> Tensor:
        return self.advance(x[:, :-1], y)[0]

    def next_logits(
        self, tokens: Tensor, cache: Memory | None = None, y: Tensor | None = None
    ) -> tuple[Tensor, Memory]:
        seen, state = cache or (0, None)
        logits, state = self.advance(tokens, y, seen, state)
        return logits[:, -1], Memory(tokens.shape[1] + 1, state)

    def steps(self, batch: Batch, progress: Progress) -> Iterator[tuple[str, Loss]]:
        x, y = batch.x.flatten(1), hide(batch.y, self.space, self.unlabelled)
        state = None
        for first in range(0, self.space.dims, self.piece):
            stop = min(first + self.piece, self.space.dims)
            logits, state = self.advance(x[:, : stop - 1], y, first, state)
            yield "model", Loss(-self.nats(logits, x, first).sum(1).mean() / self.piece)
            state = detached(state)


def detached(state: State) -> State:
    """The same numbers without their history."""
    return tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()
