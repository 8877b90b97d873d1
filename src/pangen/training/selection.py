"""How good weights are on the validation split: lower is better, in the family's own measure."""

from __future__ import annotations

import torch
from torch import Tensor

from pangen.capabilities import HasLogProb
from pangen.data.batches import Batches
from pangen.model import GenerativeModel
from pangen.rng import generator, seed_global
from pangen.space import Batch, Progress


def validation_score(
    model: GenerativeModel, validation: Batches, progress: Progress, examples: int
) -> tuple[str, float]:
    """The measure's name and value, on the first `examples` of the split at most."""
    was_training = model.training
    model.eval()
    try:
        with torch.random.fork_rng(), torch.no_grad():
            seed_global(model.device, "validation")  # the same noise each time: scores can be compared
            batch = validation.take(torch.arange(min(len(validation.split), examples)))
            model.calibrate(generator(model.device, "calibrate"), thorough=False)
            if model.selection == "likelihood" and isinstance(model, HasLogProb):
                return "nats", -_mean_log_prob(model, batch)
            if model.selection == "samples":
                return "energy distance", sample_distance(model, batch)
        with torch.random.fork_rng():
            seed_global(model.device, "validation")
            return "loss", float(model.loss(batch, progress).total.detach())
    finally:
        model.train(was_training)


def _mean_log_prob(model: HasLogProb, batch: Batch) -> float:
    ys = [None] * len(batch.x) if batch.y is None else batch.y.split(500)
    total = 0.0
    for x, y in zip(batch.x.split(500), ys, strict=False):
        total += float(model.log_prob(x, y, generator=generator(x.device, "validation")).nats.double().sum())
    return total / len(batch.x)


def sample_distance(model: GenerativeModel, batch: Batch) -> float:
    """Energy distance between samples and a batch of data (Szekely and Rizzo 2013), unbiased."""
    real = batch.x.flatten(1).float()
    fake = model.sample(len(real), batch.y, seed=1).flatten(1).float()
    return float(2 * torch.cdist(real, fake).mean() - _pairs(real) - _pairs(fake))


def _pairs(x: Tensor) -> Tensor:
    return torch.cdist(x, x).sum() / (len(x) * max(len(x) - 1, 1))
