"""One stated rule from which every model's default sizes and rates come."""

from __future__ import annotations

import math
from typing import Any

from pangen.codecs import Codec
from pangen.data.dataset import Data
from pangen.recipes.recipe import DataSpec, Recipe, Training, settings_of
from pangen.registry import Entry

RULE = """\
D is the number of data dimensions and N that of training examples. Networks are 16 sqrt(D) units
wide, rounded to a power of two from 64 to 512, and so is each hidden layer where a machine has
several; latent vectors have D / 4 entries, from 2 to 64. Batches hold 128 examples or what the
family's file says, at most N / 4.
Samples and likelihoods are computed 8192 / D at a time, rounded down to a power of two from 64 to
512.
Learning rates, averages and everything else are constants of each family's file, the same for all
data. Steps are what the budget allows; the weights kept are those that score best on the validation
split. Networks are compiled where half an hour or more is allowed and a trial shows that this saves
more time than it takes. Nothing looks at the test split."""


def default_recipe(
    entry: Entry,
    data: Data,
    codec: Codec,
    *,
    steps: int | None = None,
    budget: float | None = None,
    seed: int = 0,
) -> Recipe:
    """The recipe that `RULE` gives for this model on this data."""
    dims = codec.space.dims
    width = min(max(2 ** round(math.log2(16 * math.sqrt(dims))), 64), 512)
    sizes = {"width": width, "latent": min(max(dims // 4, 2), 64)}
    cls = entry.load()
    known = settings_of(entry.name).__dataclass_fields__
    named: dict[str, Any] = {k: v for k, v in sizes.items() if k in known}
    if "hidden" in known and isinstance(layers := known["hidden"].default, tuple):
        named["hidden"] = (width,) * len(layers)
    chunk = 2 ** min(max(int(math.log2(8192 / dims)), 6), 9)
    training = dict(cls.training_defaults)
    training["batch"] = max(min(training.get("batch", 128), len(data.train) // 4), 1)
    training |= {"budget": budget} | ({"steps": steps} if steps else {})
    return Recipe.from_json(
        {
            "data": DataSpec(name=data.name, options=dict(data.options), fingerprint=data.fingerprint),
            "codec": {"name": codec.name, **{name: getattr(codec, name) for name in codec.settings()}},
            "model": {"name": entry.name, **named},
            "training": Training(**training),
            "seed": seed,
            "chunk": chunk,
            "conditional": codec.condition is not None,
        }
    )
