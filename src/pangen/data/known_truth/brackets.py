"""Text from a grammar that no finite memory parses: balanced brackets of two kinds."""

from __future__ import annotations

import math
from functools import cache, reduce
from typing import ClassVar

import torch
from torch import Tensor

from pangen.data.known_truth.law import uniform
from pangen.data.known_truth.text import TextLaw


class Brackets(TextLaw):
    """S -> (S)S | [S]S | nothing: the texts of 16 characters, all trees alike and a pair round with 3/4.

    There are 1430 trees, the eighth number of Catalan. The language is the one of Dyck; as each of
    its texts has one tree, p = (1/1430) (3/4)^round (1/4)^square.
    """

    alphabet: ClassVar[str] = "([)]"
    window: ClassVar[int] = 16
    kinds: ClassVar[tuple[float, float]] = (0.75, 0.25)

    @property
    def trees(self) -> int:
        return _ways(self.window, 0)

    @property
    def entropy(self) -> float:
        pair = -sum(p * math.log(p) for p in self.kinds)
        return math.log(self.trees) + self.window // 2 * pair

    def of_codes(self, codes: Tensor, seen: Tensor) -> Tensor:
        allowed = torch.stack([self.allowed(codes, seen, at) for at in range(self.window)], 1)
        kinds = torch.tensor(self.kinds, dtype=torch.float64)
        opened, closed = allowed[:, :, :2] * kinds, allowed[:, :, 2:]
        none = torch.ones(len(codes), dtype=torch.float64)
        # of the characters from i to j, the sum over their trees; the first opens, and k closes it
        inside = {(i, i): none for i in range(self.window + 1)}
        for length in range(2, self.window + 1, 2):
            for i in range(self.window - length + 1):
                j = i + length
                trees = [
                    (opened[:, i] * closed[:, k]).sum(1) * inside[i + 1, k] * inside[k + 1, j]
                    for k in range(i + 1, j, 2)
                ]
                inside[i, j] = reduce(torch.add, trees)
        return (inside[0, self.window] / self.trees).log()

    def sample(self, n: int, generator: torch.Generator) -> tuple[str, ...]:
        height = torch.zeros(n, dtype=torch.long)
        opened = torch.zeros(n, self.window // 2 + 1, dtype=torch.long)  # the kinds that are still open
        row, codes = torch.arange(n), []
        for left in range(self.window, 0, -1):
            rises = torch.tensor(
                [_ways(left - 1, h + 1) / max(_ways(left, h), 1) for h in range(self.window // 2 + 1)],
                dtype=torch.float64,
            )
            up = uniform(n, generator) < rises[height]
            kind = (uniform(n, generator) >= self.kinds[0]).long()
            opened[row[up], height[up]] = kind[up]
            height = height + torch.where(up, 1, -1)
            codes.append(torch.where(up, kind, 2 + opened[row, height.clamp(min=0)]))
        return self.texts(torch.stack(codes, 1))


@cache
def _ways(left: int, height: int) -> int:
    """Paths of `left` steps up or down from a height to the ground that never go below it."""
    if height < 0 or height > left:
        return 0
    return 1 if left == 0 else _ways(left - 1, height + 1) + _ways(left - 1, height - 1)
