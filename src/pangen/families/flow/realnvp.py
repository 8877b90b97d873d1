from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from pangen.model import GenerativeModel
from pangen.networks.bijections import *
from pangen.networks.bijections import _shared
from pangen.networks.roles import Condition, convolutional
from pangen.space import Batch, Loss, LogProb, Progress, Space
import math


class RealNVP(GenerativeModel):
    training_defaults = {"lr": 1e-3, "ema": 0.998}

    def __init__(self, space: Space, *, width: int = 256, couplings: int = 8, depth: int = 2, bound: float = 2.0, dropout: float = 0.0,
                 masks: str = "checker", norm: str = "each", net: str = "auto", drop_label: float = 0.0, ctx: int = 0, conv_width: int = 32) -> None:
        super().__init__(space)
        self.drop_label = drop_label
        ctx = ctx or width
        self.condition = Condition(space, ctx) if space.classes else None
        shape = space.shape
        conv = convolutional(space) if net == "auto" else net == "conv"
        kw = dict(context=ctx if space.classes else 0, convolutional=conv, dropout=dropout)
        w = conv_width if conv else width
        g = torch.Generator().manual_seed(0)
        blocks = []
        def cp(shape, mask):
            parts = [AffineCoupling(mask, CouplingNet(shape, 2, w, depth, **kw), bound)]
            if norm == "each":
                parts.insert(0, actnorm((shape[0], 1, 1) if conv else shape))
            return parts
        if norm == "once": blocks.append(actnorm(shape))
        if conv:
            sq = shape[1] % 2 == shape[2] % 2 == 0
            blocks.append(actnorm(shape))
            for k in range(couplings // 2):
                blocks.append(Compose(*cp(shape, checkerboard(shape, 0)), *cp(shape, checkerboard(shape, 1))))
                s4 = (4*shape[0], shape[1]//2, shape[2]//2)
                if sq: blocks.append(Compose(Squeeze(), *cp(s4, half_channels(s4, 0)), *cp(s4, half_channels(s4, 1)), Inverse(Squeeze())))
        else:
            for i in range(couplings):
                if masks == "checker": m = checkerboard(shape, i)
                elif masks == "random":
                    if i % 2 == 0:
                        m0 = (torch.randperm(space.dims, generator=g) < space.dims // 2).float().view(shape)
                    m = m0 if i % 2 == 0 else 1 - m0
                elif masks == "mix":
                    k = (i // 2) % 3
                    if k == 0: m = checkerboard(shape, i)
                    else:
                        idx = torch.arange(shape[-2])[:, None] if k == 1 else torch.arange(shape[-1])[None]
                        m = ((idx + i) % 2).float().expand(shape)
                blocks.append(Compose(*cp(shape, m)))
        if norm != "none":
            blocks.append(actnorm(shape))
        self.flow = Flow(shape, blocks)

    def context(self, y, n):
        return None if self.condition is None else self.condition(y, n)

    def initialize(self, batch):
        self.flow.transform.initialize(batch.x, self.context(batch.y, len(batch.x)))

    def log_prob(self, x, y=None, *, generator=None):
        return LogProb(self.flow.log_prob(x, self.context(y, len(x))), "exact")

    def loss(self, batch: Batch, progress: Progress) -> Loss:
        y = batch.y
        if y is not None and self.drop_label:
            y = torch.where(torch.rand(len(y)) < self.drop_label, self.space.classes, y)
        return Loss(-self.log_prob(batch.x, y).nats.mean())

    def encode(self, x, y=None):
        return self.flow.encode(x, self.context(y, len(x)))

    def decode(self, z, y=None):
        return self.flow.decode(z, self.context(y, len(z)))

    def trajectory(self, n, y=None, *, generator):
        yield from self.flow.states(n, self.context(y, n), generator)
