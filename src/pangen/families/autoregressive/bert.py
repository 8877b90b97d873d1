"""BERT, a masked language model (Devlin et al. 2019): every token predicted from those on both its sides.

The loss is -log p(x_t given the tokens that are not hidden), mean over the hidden places t. No product of these
conditionals is p(x): there is no likelihood, and samples (Ghazvininejad et al. 2019; Wang and Cho 2019) are approximate.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pangen.model import GenerativeModel
from pangen.networks.linear import Linear, linear
from pangen.networks.rounding import Precision, rounded
from pangen.networks.transformer import Block, check_heads, start
from pangen.samplers.mask_predict import Gibbs, MaskPredict
from pangen.samplers.tokens import inside, inverse_cdf, written
from pangen.settings import Count, Share
from pangen.space import Batch, Loss, Progress, Space


class Hidden(NamedTuple):
    """What the network is shown `(B, L)`, and the places that it is asked for `(B, L)`."""

    shown: Tensor
    chosen: Tensor


class BERT(GenerativeModel):
    """A Transformer without a causal mask over the tokens of a text; its head is tied to their embedding.

    Args:
        width: of the residual stream, a multiple of `heads`.
        depth: blocks.
        heads: of attention.
        dropout: of the embeddings and of what each block adds.
        precision: bfloat16 or float16 rounds the factors of the layers' products in training.
        masking: "bert": a `share` of the tokens is asked for, of which 80 % are masked, 10 % other tokens,
            10 % as they were (Section 3.1). "uniform": a share drawn anew for each text, all of it masked,
            as sampling by mask-predict will find them.
        share: of the tokens that is asked for, under masking "bert".
        short: share of the batches that are cut to a length by chance, so that a text of any length is known.
    """

    training_defaults: ClassVar[dict[str, Any]] = {"lr": 2e-3, "batch": 64, "warmup": 100, "ema": 0.99}
    selection: ClassVar[Literal["loss"]] = "loss"

    def __init__(
        self,
        space: Space,
        *,
        width: Count = 128,
        depth: Count = 2,
        heads: Count = 4,
        dropout: Share = 0.1,
        precision: Precision = "full",
        masking: Literal["bert", "uniform"] = "bert",
        share: Share = 0.15,
        short: Share = 0.1,
    ) -> None:
        super().__init__(space)
        check_heads(width, heads)
        K, L = space.levels, space.dims
        self.masking, self.share, self.short, self.mask = masking, share, short, K + 1
        self.embed = nn.Embedding(K + 2, width)  # the tokens, padding, the mask
        self.position = nn.Parameter(0.02 * torch.randn(L, width))
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(depth))
        self.norm, self.enter = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transform = nn.Sequential(Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.bias = nn.Parameter(torch.zeros(K))
        self.dropout, self.precision = nn.Dropout(dropout), precision
        self.lengths = nn.Buffer(torch.zeros(L + 1))  # log of how often a text has so many tokens
        nn.init.normal_(self.embed.weight, std=0.02)
        start(self.blocks, depth)

    @torch.no_grad()
    def initialize(self, batch: Batch) -> None:
        length = inside(batch.x, self.space).sum(1)
        self.lengths.copy_(torch.bincount(length, minlength=len(self.lengths)).float().log())

    def logits(self, shown: Tensor, valid: Tensor) -> Tensor:
        """Of every place `(B, L, K)`; an end is never in question."""
        e, end = self.embed(shown.where(valid, self.space.levels)), self.space.end
        h = self.dropout(self.enter(e + self.position[: shown.shape[1]]))
        with rounded(self, h):
            for block in self.blocks:
                h = block(h, valid[:, None, None])
            h = linear(self.transform(self.norm(h)), self.embed.weight[:-2], self.bias)
        h = h.to(e.dtype)
        return h if end is None else h.index_fill(-1, h.new_tensor([end]).long(), -torch.inf)

    def masked_logits(self, tokens: Tensor, masked: Tensor) -> Tensor:
        valid = inside(tokens.masked_fill(masked, 0), self.space)
        return self.logits(tokens.masked_fill(masked, self.mask), valid)

    def hidden(self, x: Tensor) -> Hidden:
        """Some tokens of x hidden, by the global generator."""
        u, v = torch.rand(2, *x.shape, device=x.device)
        if self.masking == "uniform":
            chosen = written(x, self.space) & (u < torch.rand(len(x), 1, device=x.device))
            return Hidden(x.masked_fill(chosen, self.mask), chosen)
        chosen = written(x, self.space) & (u < self.share)
        other = torch.randint(self.space.levels - int(self.space.end is not None), x.shape, device=x.device)
        shown = torch.where(chosen & (v < 0.9), other, x)  # 80 % the mask, 10 % another, 10 % itself
        return Hidden(torch.where(chosen & (v < 0.8), self.mask, shown), chosen)

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        x = batch.x
        if torch.rand(()) < self.short:
            x = x[:, : int(torch.randint(1, x.shape[1] + 1, ()))]
        shown, chosen = self.hidden(x)
        nats = cross_entropy(self.logits(shown, inside(x, self.space))[chosen], x[chosen], reduction="sum")
        return Loss(nats / chosen.sum().clamp(min=1))

    @torch.no_grad()
    def pseudo_log_prob(self, x: Tensor) -> Tensor:
        """Sum over t of log p(x_t given all other tokens), the length known, in nats `(B,)` (Besag 1975)."""
        text, total = written(x, self.space), torch.zeros(len(x), device=x.device)
        for t, one in enumerate(torch.eye(x.shape[1], dtype=torch.bool, device=x.device)):
            log_p = self.masked_logits(x, one & text)[:, t].log_softmax(1)
            nats = log_p.gather(1, x[:, t : t + 1].clamp(max=self.space.levels - 1))[:, 0]
            total = total + torch.where(text[:, t], nats, 0.0)
        return total

    def blank(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        u = torch.rand(n, generator=generator, device=self.device)
        length = inverse_cdf(self.lengths.expand(n, -1), u)[:, None]
        place = torch.arange(self.space.dims, device=self.device)
        missing = place < length - int(self.space.end is not None)
        after = self.space.levels if self.space.end is None else self.space.end
        return torch.where(missing, 0, after), missing

    def trajectory(
        self,
        n: int,
        y: Tensor | None = None,
        *,
        generator: torch.Generator,
        sampler: Literal["mask-predict", "gibbs"] = "mask-predict",
        rounds: int = 10,
        temperature: float = 1.0,
    ) -> Iterator[Tensor]:
        fill = (MaskPredict if sampler == "mask-predict" else Gibbs)(rounds, temperature)
        yield from fill(self, *self.blank(n, generator), generator=generator)
