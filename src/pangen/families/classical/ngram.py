"""Counts of short contexts: interpolated Kneser-Ney smoothing (Kneser and Ney 1995; Chen and Goodman 1999).

p_n(w given c) = (a(cw) - D(a(cw)) + sum_v D(a(cv)) p_{n-1}(w given c')) / sum_v a(cv), where c' is c
without its first token and p_0 is uniform. For the longest n-grams a counts occurrences; for
shorter ones it counts the different tokens that come before. D has three values, for counts 1,
2, and more ("modified" in Chen and Goodman 1999).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from pangen.errors import PangenError
from pangen.samplers.tokens import TokenModel, inside
from pangen.settings import Natural
from pangen.space import Batch, LogProb, Space

ORDERS, TOKENS, JUDGES = 8, 5_000_000, 1000
"""The longest n-grams tried, tokens counted, and validation examples that choose the order."""


class Table(nn.Module):
    """One order: its n-grams and what each adds to p, its contexts and how each weighs p_{n-1}."""

    def __init__(self, gram: Tensor, share: Tensor, context: Tensor, weight: Tensor) -> None:
        super().__init__()
        self.gram, self.share = nn.Buffer(gram), nn.Buffer(share)
        self.context, self.weight = nn.Buffer(context), nn.Buffer(weight)

    def forward(self, gram: Tensor, base: int, p: Tensor) -> Tensor:
        """p_n of the last token of each n-gram, from p_{n-1}."""
        weight = look_up(self.context, self.weight, gram // base, 1.0)
        return look_up(self.gram, self.share, gram, 0.0) + weight * p


def look_up(keys: Tensor, values: Tensor, wanted: Tensor, missing: float) -> Tensor:
    """The value of each wanted key in a table sorted by key, or `missing`."""
    place = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    return torch.where(keys[place] == wanted, values[place], missing)


def smooth(gram: Tensor, count: Tensor, base: int) -> Table:
    """The table of sorted n-grams and their counts a."""
    N = torch.bincount(count.clamp(max=5), minlength=6)[1:5].double()  # how many have a = 1, 2, 3, 4
    i = torch.arange(1, 4)
    D = i - (i + 1) * N[0] / (N[0] + 2 * N[1]) * N[1:] / N[:-1]
    D = torch.where((N[1:] > 0) & (N[0] > 0) & (D > 0), D, 0.5)  # too few to estimate it
    taken = D[count.clamp(max=3) - 1]
    context, owner = (gram // base).unique_consecutive(return_inverse=True)
    zero = torch.zeros(len(context), dtype=torch.float64)
    total, spare = zero.index_add(0, owner, count.double()), zero.index_add(0, owner, taken)
    return Table(gram, ((count - taken) / total[owner]).float(), context, (spare / total).float())


class NGram(TokenModel):
    """p(x) = prod_t p(x_t given the order - 1 tokens before it), over an example in raster order.

    Before an example stands a token of its own, so that starts are learnt too; n-grams that begin
    with it count occurrences at every order. An n-gram is one integer, its tokens the digits. At
    most `TOKENS` tokens are counted, of examples evenly spaced in the training split.

    Args:
        order: length of the longest n-grams; 0: chosen by `fit_exactly`.
        grams, contexts: entries of the tables of each order; empty until `fit_exactly`.
    """

    def __init__(
        self, space: Space, *, order: Natural = 0, grams: tuple[int, ...] = (), contexts: tuple[int, ...] = ()
    ) -> None:
        super().__init__(space)
        self.before, self.base = space.levels, space.levels + 1
        longest = int(62 / math.log2(self.base))  # so that an n-gram fits into 63 bits
        if order > longest:
            raise PangenError(f"model.order = {order} is too long for {space.levels} tokens; {longest} fits.")
        self.order, self.most = order, order or min(ORDERS, longest, space.dims)
        self.tables = nn.ModuleList(
            Table(torch.zeros(g).long(), torch.zeros(g), torch.zeros(c).long(), torch.zeros(c))
            for g, c in zip(grams, contexts, strict=True)
        )

    def fit_exactly(self, train: Batch, validation: Batch) -> dict[str, Any]:
        x, judges = train.x.flatten(1), validation.x[:: math.ceil(len(validation.x) / JUDGES)]
        x = x[:: math.ceil(x.numel() / TOKENS)]
        counted = inside(x, self.space)
        lower: list[Table] = []
        best, misses, shorter = -math.inf, 0, None
        for n in range(1, self.most + 1):
            gram, count = self._grams(x, n)[counted].unique(return_counts=True)
            if shorter is not None:
                lower.append(self._continuations(n - 1, *shorter, gram))
            shorter = gram, count
            if not self.order or n == self.order:
                candidate = [*lower, smooth(gram, count, self.base)]
                nats = sum(float(self._nats(part, candidate).sum()) for part in judges.split(100))
                if nats > best:
                    best, misses, tables = nats, 0, candidate
                elif (misses := misses + 1) == 2:
                    break
        self.order, self.tables = len(tables), nn.ModuleList(tables)
        sizes = {k: tuple(len(getattr(table, k)) for table in tables) for k in ("gram", "context")}
        return {"order": self.order, "grams": sizes["gram"], "contexts": sizes["context"]}

    def _grams(self, x: Tensor, n: int) -> Tensor:
        """The n-gram `(B, L)` that ends in each token of `x` `(B, L)`, as one integer."""
        padded, gram = pad(x, (n - 1, 0), value=self.before), torch.zeros_like(x)
        for i in range(n):
            gram = gram * self.base + padded[:, i : i + x.shape[1]]
        return gram

    def _continuations(self, n: int, gram: Tensor, count: Tensor, longer: Tensor) -> Table:
        """The table of n-grams when a counts the different tokens before each."""
        kinds = (longer % self.base**n).unique(return_counts=True)[1]  # of the same n-grams: all have one
        starts = (gram // self.base ** (n - 1) == self.before) & (n > 1)  # nothing stands before these
        return smooth(gram, torch.where(starts, count, kinds), self.base)

    def _p(self, gram: Tensor, tables: Sequence[Table] | nn.ModuleList) -> Tensor:
        """p of the last token of each n-gram of the longest order, given the others."""
        p = torch.full(gram.shape, 1 / self.space.levels, device=gram.device)
        for n, table in enumerate(tables, 1):
            p = table(gram % self.base**n, self.base, p)
        return p

    def _nats(self, x: Tensor, tables: Sequence[Table] | nn.ModuleList) -> Tensor:
        x = x.flatten(1)
        return (self._p(self._grams(x, len(tables)), tables).log() * inside(x, self.space)).sum(1)

    def log_prob(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> LogProb:
        return LogProb(self._nats(x, self.tables), "exact")

    def next_logits(self, tokens: Tensor, cache: None = None, y: Tensor | None = None) -> tuple[Tensor, None]:
        last = pad(tokens[:, max(tokens.shape[1] - self.order, 0) :], (0, 1))
        following = torch.arange(self.space.levels, device=tokens.device)
        return self._p(self._grams(last, self.order)[:, -1:] + following, self.tables).log(), None
