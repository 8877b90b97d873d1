"""Masked diffusion: tokens are masked one by one, and a network learns what they were.

Austin et al. 2021 (diffusion that absorbs), Sahoo et al. 2024 and Shi et al. 2024 (continuous time,
where the bound is a weighted cross-entropy). By time t each token is masked with the probability
1 - alpha(t), whatever it is and whatever the others are. The law of what is masked given the rest does
not depend on t, and the network is not told it (Ou et al. 2025).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from pangen.model import GenerativeModel
from pangen.networks.labels import hide
from pangen.networks.linear import Linear
from pangen.networks.neighbours import Neighbours
from pangen.networks.roles import Condition
from pangen.networks.rounding import Precision, rounded
from pangen.networks.transformer import Block, check_heads, start
from pangen.samplers.noise import stratified
from pangen.samplers.tokens import inside, inverse_cdf, written
from pangen.samplers.unmasking import Given, Kept, Order, Unmask, cosine, linear
from pangen.settings import Count, Share
from pangen.space import Batch, LogProb, Loss, Progress, Space

SCHEDULES: dict[str, Kept] = {"linear": linear, "cosine": cosine}
EARLIEST = 1e-3
"""Of training: before, next to nothing is masked and weighs next to infinitely much."""
UNSEEN = 1e-3
"""Share of the texts that are taken to have any number of tokens, where texts differ in it."""


class MaskedDiffusion(GenerativeModel):
    """A Transformer that sees all tokens that are not masked, and predicts those that are.

    p(x) is p(number of tokens), counted in the data, times p(tokens given their number). Only the tokens
    before the end are ever masked; the end, and all places behind it, are known from the number.

    Args:
        width: of the residual stream, a multiple of `heads`.
        depth: blocks.
        heads: of attention.
        dropout: of the embeddings and of what each block adds.
        precision: bfloat16 or float16 rounds the factors of the layers' products in training.
        schedule: how alpha(t) falls in training and in samples. The bound is the same for both.
        steps: of a sample; as many as there are tokens, or more, draw them one by one.
        draws: of masks for the bound of an example, from one token masked to all.
        unlabelled: share of labels hidden in training, so that p(x) is learnt beside p(x given y).
    """

    training_defaults: ClassVar[dict[str, Any]] = {"lr": 2e-3, "batch": 16, "warmup": 50, "ema": 0.99}
    selection: ClassVar[Literal["loss"]] = "loss"

    def __init__(
        self,
        space: Space,
        *,
        width: Count = 128,
        depth: Count = 2,
        heads: Count = 4,
        dropout: Share = 0.0,
        precision: Precision = "full",
        schedule: Literal["linear", "cosine"] = "linear",
        steps: Count = 64,
        draws: Count = 16,
        unlabelled: Share = 0.1,
    ) -> None:
        super().__init__(space)
        check_heads(width, heads)
        K, L = space.levels, space.dims
        self.kept, self.usual, self.draws, self.unlabelled = SCHEDULES[schedule], steps, draws, unlabelled
        self.embed, self.condition = Neighbours(space, width), Condition(space, width)
        self.position, self.precision = nn.Parameter(0.02 * torch.randn(L, width)), precision
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(depth))
        self.norm, self.head, self.dropout = nn.LayerNorm(width), Linear(width, K), nn.Dropout(dropout)
        self.lengths = nn.Buffer(torch.zeros(L + 1))  # log p(number of tokens)
        nn.init.normal_(self.condition.table.weight, std=0.02)
        start(self.blocks, depth)

    @torch.no_grad()
    def initialize(self, batch: Batch) -> None:
        x = batch.x.flatten(1)
        text = written(x, self.space)
        often = torch.bincount(text.sum(1), minlength=len(self.lengths)) / len(x)
        any_number = torch.full_like(often, 1 / len(often))
        self.lengths.copy_(torch.lerp(often, any_number, 0.0 if text.all() else UNSEEN).log())
        count = 1 + torch.bincount(x[text], minlength=self.space.levels)
        self.head.bias.copy_((count / count.sum()).log())

    def masked_logits(self, tokens: Tensor, masked: Tensor, y: Tensor | None = None) -> Tensor:
        """Logits `(B, *shape, K)` of each token given those of `tokens` `(B, *shape)` that are not `masked`.

        The mask and the end have none. Behind an end all is known, behind a part of a text nothing.
        """
        x, masked, mask, end = tokens.flatten(1), masked.flatten(1), self.space.levels, self.space.end
        known = inside(x.masked_fill(masked, 0), self.space)
        h = self.embed(x.where(known, mask if end is None else end).masked_fill(masked, mask))
        h = self.dropout(h + self.position + self.condition(y, len(x))[:, None])
        with rounded(self, h):
            for block in self.blocks:
                h = block(h)
            logits = self.head(self.norm(h)).to(self.lengths.dtype)
        if end is not None:
            logits = logits.index_fill(-1, torch.tensor([end], device=h.device), -torch.inf)
        return logits.view(*tokens.shape, mask)

    def nats(self, x: Tensor, masked: Tensor, y: Tensor | None) -> Tensor:
        """Sum `(B,)` of log p(x_i given what is not masked) over the masked places i; `x` `(B, L)`."""
        log_p = self.masked_logits(x, masked, y).log_softmax(-1)
        each = log_p.gather(-1, x.where(masked, 0)[..., None])[..., 0]
        return torch.where(masked, each, 0.0).sum(1)

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        """The bound at one t for each text, but for log p(n) (Sahoo et al. 2024, Section 3.5)."""
        x, y = batch.x.flatten(1), hide(batch.y, self.space, self.unlabelled if self.training else 0.0)
        alpha, rate = self.kept(EARLIEST + (1 - EARLIEST) * stratified(len(x), x.device))
        masked = written(x, self.space) & (torch.rand(x.shape, device=x.device) < (1 - alpha)[:, None])
        return Loss(-(rate / (1 - alpha) * self.nats(x, masked, y)).mean() / self.space.dims)

    def log_prob(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> LogProb:
        """log p >= log p(n) + n E[1/k sum of log p(x_i) over the k masked places i], k uniform in 1 .. n.

        The integral over t of the loss is this for every schedule. k is stratified over the draws.
        """
        x = x.flatten(1)
        text = written(x, self.space)
        n = text.sum(1)
        bound = self.lengths[n]
        for draw in range(self.draws):
            u = (draw + torch.rand(len(x), generator=generator, device=x.device)) / self.draws
            k = (1 + (u * n).long()).minimum(n)
            order = torch.rand(x.shape, generator=generator, device=x.device).masked_fill(~text, torch.inf)
            masked = text & (order.argsort(1).argsort(1) < k[:, None])
            bound = bound + n / k.clamp(min=1) * self.nats(x, masked, y) / self.draws
        return LogProb(bound, "lower bound")

    def trajectory(
        self,
        n: int,
        y: Tensor | None = None,
        *,
        generator: torch.Generator,
        steps: int | None = None,
        order: Order = "random",
        temperature: float = 1.0,
    ) -> Iterator[Tensor]:
        """What is drawn so far, in `steps` steps; `order` surest draws the likeliest first, which is another law."""
        unmask = Unmask(self.usual if steps is None else steps, self.kept, order, temperature)
        u, L = torch.rand(n, generator=generator, device=self.device), self.space.dims
        missing = torch.arange(L, device=self.device) < inverse_cdf(self.lengths.expand(n, -1), u)[:, None]
        behind = self.space.levels if self.space.end is None else self.space.end
        for x in unmask(Given(self, y), torch.where(missing, 0, behind), missing, generator=generator):
            yield x.view(n, *self.space.shape)
