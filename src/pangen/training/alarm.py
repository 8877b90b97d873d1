"""Alarms at the end of a training: likelihoods that hold on the training data alone, and codes that carry nothing."""

from __future__ import annotations

import inspect

import torch
from torch import Tensor

from pangen.capabilities import HasLatent, HasLogProb
from pangen.data.batches import Batches
from pangen.families.latent.latent import LatentModel
from pangen.model import GenerativeModel
from pangen.rng import generator, seed_global
from pangen.space import Batch
from pangen.training.codes import Use, active_units, bound, codebook_use

MARGIN = 3.0
"""Spreads by which validation may be worse than training, on average."""
FAR, SHARE = 10.0, 0.01
"""A tail example lies this many spreads under the training median; this much larger a share of them is too many."""
EXAMPLES = 128
"""Of either split, at most."""
LEAST_ACTIVE, LEAST_KL, LEAST_USED = 0.1, 0.5, 0.1
"""Share of a code's dimensions that move with the data, nats it carries, and perplexity over a codebook's size, under
which codes have collapsed."""
REMEDIES = {
    "warmup": "raise model.warmup",
    "free_bits": "set model.free_bits",
    "beta": "lower model.beta",
    "width": "give the decoder a smaller model.width",
}
"""Against codes that carry nothing, by the setting that a model must have."""


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


def collapse_warnings(model: GenerativeModel, validation: Batches, *, examples: int) -> list[str]:
    """What is wrong with the codes of validation examples: nothing in them, or most of a codebook unused."""
    x, y = validation.first(min(examples, EXAMPLES))
    with torch.no_grad():
        if isinstance(model, LatentModel):
            q = model.q(x, y)
            kl = bound(model, q, x, y, generator(x.device, "collapse")).kl
            return _collapsed(model, active_units(q.mean), float(kl.double().mean()))
        if isinstance(model, HasLatent) and model.latent_space.kind == "tokens":
            return _unused(model, codebook_use(model, model.encode(x, y)))
    return []


def _collapsed(model: LatentModel, active: Tensor, kl: float) -> list[str]:
    if int(active.sum()) >= LEAST_ACTIVE * active.numel() and kl >= LEAST_KL:
        return []
    settings = inspect.signature(type(model)).parameters
    remedies = ", ".join(text for name, text in REMEDIES.items() if name in settings)
    return [
        f"the posterior has collapsed: {int(active.sum())} of {active.numel()} dimensions of a code move with the "
        f"data, and a code carries {kl:.2g} nats: {remedies} or train longer."
    ]


def _unused(model: HasLatent, use: Use) -> list[str]:
    size = model.latent_space.levels
    if use.perplexity > max(LEAST_USED * min(size, use.tokens), 1):
        return []
    return [
        f"the codebook has collapsed: {100 * use.share:.0f} % of its {size} entries occur, with a perplexity of "
        f"{use.perplexity:.3g}: raise model.dead, lower model.codes or training.lr, or train longer."
    ]
