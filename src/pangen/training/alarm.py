"""An alarm for likelihoods that hold on the training data alone."""

from __future__ import annotations

import torch
from torch import Tensor

from pangen.capabilities import HasLogProb
from pangen.data.batches import Batches
from pangen.model import GenerativeModel
from pangen.rng import generator, seed_global
from pangen.space import Batch

MARGIN = 3.0
"""Spreads by which validation may be worse than training, on average."""
FAR, SHARE = 10.0, 0.01
"""A tail example lies this many spreads under the training median; this much larger a share of them is too many."""
EXAMPLES = 128
"""Of either split, at most."""


def held_out_warnings(
    model: GenerativeModel, train: Batches, validation: Batches, *, examples: int, rise: float
) -> list[str]:
    """What is wrong with the log-probability of validation data beside that of training data.

    The spread is the interquartile range over training examples, at least 1 nat: means and
    deviations would be moved by the very tails that are looked for. `rise`: by how many nats the last
    validation was worse than the best.
    """
    if model.selection != "likelihood" or not isinstance(model, HasLogProb):
        return []
    n = min(examples, EXAMPLES)
    seen, held = (nats(model, split.first(n)) for split in (train, validation))
    if not held.isfinite().all():
        bad = int((~held.isfinite()).sum())
        return [f"log-probability is not finite on {bad} of {len(held)} validation examples."]
    low, median, high = seen.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=seen.dtype)).tolist()
    spread = max(high - low, 1.0)
    found, gap = [], float(seen.mean() - held.mean())
    if gap > MARGIN * spread:
        found.append(
            f"validation examples cost {gap:.4g} nats more than training examples, whose own spread is "
            f"{spread:.3g}: its likelihood of new data means little."
        )
    tail, usual = held < median - FAR * spread, seen < median - FAR * spread
    if float(tail.double().mean() - usual.double().mean()) >= SHARE:
        found.append(
            f"{int(tail.sum())} of {len(held)} validation examples are improbable beyond all measure, the worst "
            f"{median - float(held.min()):.4g} nats under the training median, whose spread is {spread:.3g}."
        )
    if rise > MARGIN * spread:
        found.append(
            f"the likelihood of validation data fell by {rise:.4g} nats after the step whose weights are kept."
        )
    return found


def nats(model: HasLogProb, batch: Batch) -> Tensor:
    """log-probability of each example, with the same noise each time."""
    device = batch.x.device
    with torch.random.fork_rng(), torch.no_grad():
        seed_global(device, "validation")
        found = model.log_prob(batch.x, batch.y, generator=generator(device, "validation"))
    return found.nats.double().cpu()
