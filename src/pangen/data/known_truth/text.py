"""What laws of texts over a few characters share."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from pangen.data.dataset import Modality
from pangen.data.known_truth.law import Law


class TextLaw(Law):
    """A law of texts of `window` characters of an `alphabet`."""

    modality: ClassVar[Modality] = "text"
    alphabet: ClassVar[str]

    @abstractmethod
    def of_codes(self, codes: Tensor, seen: Tensor) -> Tensor:
        """`log_prob` of characters as indices into the alphabet `(B, window)`; `seen` `(window,)`."""

    def log_prob(self, x: tuple[str, ...], seen: Tensor | None = None) -> Tensor:
        index = {character: i for i, character in enumerate(self.alphabet)}
        found = torch.full((len(x),), -math.inf, dtype=torch.float64)
        rows = [i for i, s in enumerate(x) if len(s) == self.window and set(s) <= index.keys()]
        if rows:
            codes = torch.tensor([[index[character] for character in x[i]] for i in rows])
            every = torch.ones(self.window, dtype=torch.bool)
            found[rows] = self.of_codes(codes, every if seen is None else seen)
        return found

    def allowed(self, codes: Tensor, seen: Tensor, at: int) -> Tensor:
        """The characters that place `at` can hold, 1 or 0 `(B, characters)`: one where it is seen, else all."""
        k = len(self.alphabet)
        one = torch.nn.functional.one_hot(codes[:, at], k).double()
        return one if seen[at] else torch.ones_like(one)

    def texts(self, codes: Tensor) -> tuple[str, ...]:
        """Indices `(n, window)` as characters."""
        letters = np.frombuffer(self.alphabet.encode(), dtype=np.uint8)[codes.numpy()]
        text = letters.tobytes().decode()
        return tuple(text[i : i + self.window] for i in range(0, len(text), self.window))
