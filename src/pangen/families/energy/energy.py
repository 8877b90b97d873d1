"""What all energy-based models share: a density known up to a constant, and that constant."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from pangen.errors import PangenError
from pangen.model import GenerativeModel
from pangen.space import LogZ, Method

QUICK = 5
"""Share of the work, one in so many, that a validation spends on log Z."""


class EnergyModel(GenerativeModel):
    """p(x) = exp(-E(x)) / Z, where Z is summed if it can be and annealed to otherwise.

    A member registers the buffer `log_z`, one entry for each constant it has (a class, or all of
    them), NaN until `calibrate` has filled it.
    """

    log_z: Tensor

    def exact_log_z(self) -> Tensor | None:
        """log Z of the shape of the buffer, where it can be summed."""
        return None

    def anneal(self, generator: torch.Generator, chains: int, share: int) -> LogZ:
        """log Z between two bounds from `chains` each way (0: the model's setting).

        With one in `share` of the temperatures and sweeps: a few are enough to rank weights, as errors
        of the two directions cancel (by one alone a bad estimate would pass for good weights).
        """
        raise NotImplementedError(f"{type(self).__name__} defines no `anneal`")

    @final
    @torch.no_grad()
    def partition(
        self, generator: torch.Generator, method: Method | None = None, chains: int = 0, thorough: bool = True
    ) -> LogZ:
        """log Z by a sum ("exact"), by annealed importance sampling ("ais"), or the first that can be.

        Raises:
            PangenError: when a sum is asked for and would have too many terms.
        """
        exact = None if method == "ais" else self.exact_log_z()
        if exact is not None:
            return LogZ.exact(exact)
        if method == "exact":
            raise PangenError(
                f"the states of this {type(self).__name__.lower()} are too many to sum over; ask for ais."
            )
        return self.anneal(generator, chains, 1 if thorough else QUICK)

    @final
    def calibrate(self, generator: torch.Generator, *, thorough: bool = True) -> None:
        """To be judged by, the end that flatters no likelihood; to rank weights, the likeliest value."""
        found = self.partition(generator, thorough=thorough)
        self.log_z.copy_(found.pessimistic if thorough else found.value)
