"""How good weights are on the validation split: lower is better, in the family's own measure."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pangen import parallel
from pangen.capabilities import HasCritic, HasLogProb
from pangen.data.batches import Batches
from pangen.model import GenerativeModel
from pangen.rng import generator, seed_global
from pangen.space import Batch, Progress
from pangen.training.monitor import ENERGY, RESOLUTION, Facts, critic_facts, sample_facts


@dataclass(frozen=True)
class Score:
    """A measure's name and value, and what else samples showed.

    Values that differ by less than `resolution` are alike, and the later weights the better ones.
    """

    name: str
    value: float
    resolution: float = 0.0
    facts: Facts = field(default_factory=dict)


def validation_score(
    model: GenerativeModel, train: Batches, validation: Batches, progress: Progress, examples: int
) -> Score:
    """On the first `examples` of the validation split at most; a critic sees as many of the training split."""
    was_training = model.training
    model.eval()
    try:
        with torch.random.fork_rng(), torch.no_grad():
            seed_global(model.device, "validation")  # the same noise each time: scores can be compared
            batch = validation.take(torch.arange(min(len(validation.split), examples)))
            model.calibrate(generator(model.device, "calibrate"), thorough=False)
            if model.selection == "likelihood" and isinstance(model, HasLogProb):
                return Score("nats", -_mean_log_prob(model, batch))
            if model.selection == "samples":
                return _of_samples(model, train.first(len(batch.x)), batch)
        with torch.random.fork_rng():
            seed_global(model.device, "validation")
            return Score("loss", float(model.loss(batch, progress).total.detach()))
    finally:
        model.train(was_training)


def _mean_log_prob(model: HasLogProb, batch: Batch) -> float:
    def of(part: tuple[Tensor, Tensor | None]) -> float:
        found = model.log_prob(*part, generator=generator(batch.x.device, "validation"))
        return float(found.nats.double().sum())

    ys = [None] * len(batch.x) if batch.y is None else batch.y.split(500)
    return sum(parallel.spread(zip(batch.x.split(500), ys, strict=False), of)) / len(batch.x)


def _of_samples(model: GenerativeModel, train: Batch, held_out: Batch) -> Score:
    fake = model.sample(len(held_out.x), held_out.y, seed=1)
    facts = sample_facts(held_out.x.flatten(1).float(), fake.flatten(1).float())
    distance, resolution = facts.pop(ENERGY), facts.pop(RESOLUTION)
    if isinstance(model, HasCritic):
        facts |= critic_facts(model, train, held_out, fake)
    return Score(ENERGY, distance, resolution, facts)
