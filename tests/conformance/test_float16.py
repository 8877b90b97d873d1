"""Every model that may multiply factors of float16 learns from them nearly what it learns from full ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from cases import CASES, ONE_EACH, Case

from pangen.data.batches import Batches
from pangen.networks.rounding import needs_scale
from pangen.recipes import build_model, settings_of
from pangen.training.loop import State, train_step

KNOWN = {"rbm", "dbm"}
"""Models that hand over a gradient which is known, and goes back through nothing."""
LARGER = "image-1x17x16-3"
"""For models that convolve."""
ENOUGH = 256.0
"""A scale at which nothing here vanishes, and nothing overflows."""
HALVES = [
    case
    for case in CASES
    if (case in ONE_EACH or case.network or case.data_name == LARGER)
    and "precision" in settings_of(case.entry.name).__dataclass_fields__
]


def first_gradient(case: Case, precision: str) -> tuple[State, torch.Tensor]:
    """Of the first player in the first step."""
    recipe = case.recipe(clip=None, ema=0.0)
    recipe = recipe.override({f"model.{k}": 0.0 for k in ("dropout",) if k in recipe.model})
    recipe = recipe.override({"model.precision": precision})
    train = Batches(case.data.train, case.codec, 32, 0, "cpu")
    model = build_model(recipe, case.codec.space).train()
    torch.manual_seed(0)
    with torch.no_grad():
        model.initialize(train.first(100))
    state = State.start(model, recipe.training)
    for scale in state.scales.values():
        scale.value = ENOUGH
    train_step(state, train.pieces(0, 1), recipe.training)
    first = next(iter(state.players.values()))
    return state, torch.cat([w.grad.flatten() for w in first if w.grad is not None])


@pytest.mark.parametrize("case", HALVES, ids=str)
def test_float16_learns_what_full_precision_does(case: Case):
    (_, exact), (state, found) = (first_gradient(case, precision) for precision in ("full", "float16"))
    assert needs_scale(state.model) != (case.entry.name in KNOWN)
    assert state.scales.keys() == (state.players.keys() if needs_scale(state.model) else set())
    assert all(scale.taken for scale in state.scales.values())
    assert all(w.isfinite().all() for w in state.model.parameters())
    assert exact.norm() > 0
    assert (exact - found).norm() < 0.02 * exact.norm()


def test_the_page_names_these_models():
    text = (Path(__file__).parents[2] / "docs" / "runs.md").read_text()
    listed = text.partition("These models have the setting:")[2].partition("\n\n")[0]
    assert set(re.findall("`(.*?)`", listed)) == {case.entry.name for case in HALVES}
