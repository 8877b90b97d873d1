"""How a critic takes labels in at its end."""

from __future__ import annotations

from torch import Tensor, nn

from pangen.networks.linear import Linear
from pangen.networks.roles import Condition
from pangen.space import Space


class Projection(nn.Module):
    """Features `(B, features)` and labels to a logit `(B,)`: psi(h) + <v_y, h> (Miyato and Koyama 2018, Eq. 3).

    Without label, or with the null one, v is a vector of its own that starts at zero, as all do.
    """

    def __init__(self, space: Space, features: int, *, bias: bool = True) -> None:
        super().__init__()
        self.psi = Linear(features, 1, bias=bias)
        self.v = Condition(space, features) if space.condition else None
        if self.v is not None:
            nn.init.zeros_(self.v.table.weight)

    def forward(self, h: Tensor, y: Tensor | None = None) -> Tensor:
        logit = self.psi(h)[:, 0]
        return logit if self.v is None else logit + (self.v(y, len(h)) * h).sum(1)
