"""Models of the next token: every conditional is coded, many rows at once, by one stepwise path for both directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor

from pangen.capabilities import HasNextToken
from pangen.compression.coder import Coder, table
from pangen.run import Run

ROWS = 128
"""Rows that one network call serves at most."""
SEGMENT = 4
"""A stream is cut into rows no shorter than so many contexts, as each starts from nothing."""
KEPT = 4
"""One part of so many of a full context is kept: computing the rest anew for each part costs more than it tells."""


@dataclass
class Rows:
    """Sequences of tokens. `known` are empty when they are to be read.

    Args:
        lengths: of each; None: every row goes on to its `end`.
        context: tokens that the model sees at most; a longer row goes on from the last part of them.
        labels: of each row; None: no model of labels.
    """

    count: int
    context: int
    most: int
    lengths: Sequence[int] | None = None
    end: int | None = None
    labels: Tensor | None = None
    known: Sequence[np.ndarray] = ()

    def chunks(self) -> list[np.ndarray]:
        """Indices of the rows that are coded together: of like lengths, where these are known."""
        order = np.arange(self.count)
        if self.lengths is not None:
            order = np.argsort(-np.asarray(self.lengths, dtype=np.int64), kind="stable")
        return [order[i : i + ROWS] for i in range(0, self.count, ROWS)]


def segments(n: int, context: int) -> list[int]:
    """Lengths of the rows that a stream of n tokens is cut into."""
    size = max(-(-n // ROWS), SEGMENT * context)
    return [min(size, n - start) for start in range(0, n, size)]


class Tally(Protocol):
    """Who counts nats, by the model's own floating-point numbers."""

    nats: float


def code_rows(run: Run, rows: Rows, coder: Coder, tally: Tally) -> list[np.ndarray]:
    """The tokens of each row, an end not among them: written when `rows` knows them, else read."""
    found: list[np.ndarray] = [np.empty(0, np.int64)] * rows.count
    size = min(ROWS, rows.count)
    for index in rows.chunks():
        tokens = _chunk(run, rows, index, size, coder, tally)
        for i, row in zip(index, tokens, strict=False):
            found[i] = row
    return found


def _chunk(
    run: Run, rows: Rows, index: np.ndarray, size: int, coder: Coder, tally: Tally
) -> list[np.ndarray]:
    model = cast("HasNextToken", run.model)
    lengths = np.zeros(size, np.int64)
    lengths[: len(index)] = rows.most if rows.lengths is None else np.asarray(rows.lengths)[index]
    tokens = torch.zeros(size, int(lengths.max(initial=0)), dtype=torch.int64)
    y = run.codec.space.filled(None if rows.labels is None else rows.labels[index], size)
    known = None
    if len(rows.known):
        known = np.zeros(tokens.shape, np.int32)
        for place, i in enumerate(index):
            row = rows.known[i]
            known[place, : len(row)] = row
            known[place, len(row) : len(row) + 1] = rows.end or 0
    ended = np.zeros(size, bool)
    first, cache = 0, None
    for t in range(tokens.shape[1]):
        alive = np.flatnonzero(~ended & (t < lengths))
        if not len(alive):
            break
        if t - first >= rows.context:
            first, cache = t - rows.context // KEPT, None
        logits, cache = model.next_logits(tokens[:, first:t], cache, y)
        logits = logits[torch.from_numpy(alive)].float()
        now = None if known is None else np.ascontiguousarray(known[alive, t])
        now = coder.code(table(logits), now)
        chosen = torch.from_numpy(now.astype(np.int64))
        tally.nats -= float(logits.double().log_softmax(-1).gather(1, chosen[:, None]).sum())
        tokens[alive, t] = chosen
        if rows.lengths is None:
            ended[alive] = now == rows.end
            lengths[alive[now == rows.end]] = t
    return [tokens[i, : lengths[i]].numpy() for i in range(len(index))]


def probe(run: Run, context: int) -> bytes:
    """Tables of a few fixed tokens: where arithmetic differs, so do these."""
    levels, reach, model = run.model.space.levels or 2, context, cast("HasNextToken", run.model)
    tokens = (torch.arange(8 * reach).view(8, -1) * 7919 // 3) % levels
    y, cache, parts = run.codec.space.filled(None, 8), None, []
    for t in range(min(reach, 6)):
        logits, cache = model.next_logits(tokens[:, :t], cache, y)
        parts.append(table(logits.float()))
    if reach > 6:
        logits, _ = model.next_logits(tokens[:, : reach // 2], None, y)
        parts.append(table(logits.float()))
    return b"".join(part.tobytes() for part in parts)
