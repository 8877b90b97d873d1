"""Pictures changed before a critic sees them, so that it cannot learn a few by heart."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from pangen.errors import PangenError
from pangen.space import Progress, Space

FAR, HOLE, FADE = 1 / 8, 1 / 2, 0.3
"""The furthest move and the side of a hole as shares of a picture's side; the largest change of contrast and light."""
SURE = 0.6
"""Mean sign of logits of real pictures above which the critic knows them too well (Karras et al. 2020a, Section 3.2)."""
SLOWEST = 0.2
"""Share of the training in which the chance can rise from 0 to 1."""


class Augment(nn.Module):
    """Moves, covers and fades each picture with a chance `p`, each kind by itself; differentiable.

    The kinds are those of Zhao et al. 2020, Section 3.2; that the chance adapts is Karras et al. 2020a. As long
    as it is below 1 the generator cannot gain from imitating the changes themselves (their Section 3).
    """

    running = ("p", "sign")

    def __init__(self, space: Space, *, adaptive: bool) -> None:
        super().__init__()
        if not space.is_image:
            raise PangenError("model.augment changes pictures, and this data has none; set it to none.")
        self.space, self.adaptive = space, adaptive
        self.p = nn.Buffer(torch.tensor(0.0 if adaptive else 0.8))
        self.sign = nn.Buffer(torch.tensor(0.0))

    @torch.no_grad()
    def adapt(self, logits: Tensor, progress: Progress) -> None:
        """Take in the critic's logits of real pictures as it saw them."""
        if self.adaptive:
            self.sign.lerp_(logits.sign().mean(), 0.1)
            step = (self.sign - SURE).sign() / max(SLOWEST * progress.total, 1)
            self.p.copy_((self.p + step).clamp(0, 0.8))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)`; its randomness is the global one's."""
        if self.space.kind == "real":  # bits have no shades
            x = self._where(x, self._fade(x))
        x = self._where(x, self._move(x))
        return self._where(x, self._cover(x))

    def _where(self, x: Tensor, changed: Tensor) -> Tensor:
        return torch.where(self._draw(x) < self.p, changed, x)

    def _draw(self, x: Tensor) -> Tensor:
        return torch.rand(len(x), 1, 1, 1, device=x.device, dtype=x.dtype)

    def _fade(self, x: Tensor) -> Tensor:
        mean = x.mean((1, 2, 3), keepdim=True)
        contrast, light = (1 + FADE * (2 * self._draw(x) - 1)), FADE * (2 * self._draw(x) - 1)
        return (x - mean) * contrast + mean + light

    def _move(self, x: Tensor) -> Tensor:
        """By whole pixels; what comes in is the darkest value."""
        (B, _, H, W), dark = x.shape, 0.0 if self.space.kind == "binary" else -1.0
        far = [max(int(side * FAR), 1) for side in (H, W)]
        padded = pad(x, (far[1], far[1], far[0], far[0]), value=dark)
        down, right = (torch.randint(2 * f + 1, (B, 1), device=x.device) for f in far)
        rows, columns = down + torch.arange(H, device=x.device), right + torch.arange(W, device=x.device)
        n = torch.arange(B, device=x.device)[:, None, None]
        return padded.permute(0, 2, 3, 1)[n, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)

    def _cover(self, x: Tensor) -> Tensor:
        """A hole of middle grey, somewhere."""
        H, W = x.shape[2:]
        inside = []
        for side, at in ((H, torch.arange(H, device=x.device)), (W, torch.arange(W, device=x.device))):
            centre = self._draw(x)[:, 0, 0] * side
            inside.append((at - centre).abs() < HOLE * side / 2)
        hole = (inside[0][:, :, None] & inside[1][:, None, :])[:, None]
        return torch.where(hole, 0.5 if self.space.kind == "binary" else 0.0, x)
