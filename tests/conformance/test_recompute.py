"""Blocks that are computed again change nothing but what is kept for the gradient, whatever the model."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from cases import ONE_EACH, Case

import pangen
from pangen.data.batches import Batches, Piece
from pangen.errors import PangenError
from pangen.model import GenerativeModel
from pangen.precision import precision
from pangen.recipes import Training, build_model
from pangen.training.footprint import footprint
from pangen.training.loop import State, start_state, train_step
from pangen.training.recompute import blocks, recompute

ROWS = 14
LEARNING = [case for case in ONE_EACH if "closed_form" not in case.entry.capabilities]
BLOCKS = {
    "ae", "bert", "cnn", "consistency", "ddpm", "ebm", "edm", "flow-matching", "gan", "gpt", "hvae", "iwae",
    "masked-diffusion", "pixelcnn", "r3gan", "score", "seq2seq", "tarflow", "vae", "vampprior", "vdm", "vit", "vqvae",
    "wavenet",
}  # fmt: skip
"""Models that have some, here."""


def one_step(model: GenerativeModel, batch, settings: Training) -> tuple[dict, dict]:
    """What a step tells, and the gradients it leaves."""
    torch.manual_seed(3)
    told = train_step(State.start(model, settings), [Piece(batch)], settings)
    return told, {name: w.grad for name, w in model.named_parameters()}


@pytest.mark.parametrize("case", LEARNING, ids=lambda case: case.entry.name)
def test_what_is_computed_again_is_the_same(case: Case):
    codec = case.codec
    with precision("float64"):
        plain = build_model(replace(case.recipe(), dtype="float64"), codec.space)
        batches = Batches(case.data.train, codec, ROWS, 0, "cpu")
        batch = batches[0]
        if not list(blocks(plain)):
            assert case.entry.name not in BLOCKS
            with pytest.raises(PangenError, match="has no blocks"):
                recompute(plain)
            return
        assert case.entry.name in BLOCKS
        plain.train().initialize(batch)
        for module in plain.modules():  # so that there is some to come out alike
            if hasattr(module, "dropout"):
                module.dropout = 0.2 if isinstance(module.dropout, float) else torch.nn.Dropout(0.2)
        again = copy.deepcopy(plain)
        recompute(again)
        settings = Training(batch=ROWS, steps=100)
        kept, less = (footprint(copy.deepcopy(m), batches, settings).example for m in (plain, again))
        assert less < kept
        (told, expected), (also, found) = (one_step(m, batch, settings) for m in (plain, again))
    assert also == pytest.approx(told, rel=1e-6)
    assert list(plain.state_dict()) == list(again.state_dict())
    for name, gradient in expected.items():
        if gradient is None:
            assert found[name] is None, name
        else:
            torch.testing.assert_close(
                found[name], gradient, rtol=1e-6, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}"
            )


def test_a_copy_computes_its_own_blocks_again():
    case = next(case for case in LEARNING if case.entry.name == "gpt")
    codec = case.codec
    model = build_model(case.recipe(), codec.space).eval()
    recompute(model)
    batch = Batches(case.data.train, codec, ROWS, 0, "cpu")[0]
    other = copy.deepcopy(model)
    for w in other.parameters():
        w.data.zero_()
    assert not torch.equal(model.logits(batch.x, None), other.logits(batch.x, None))
    other.train().loss(batch, None).total.backward()
    assert all(w.grad is None for w in model.parameters())


def test_a_training_computes_blocks_again_where_it_is_asked_to():
    case = next(case for case in LEARNING if case.entry.name == "edm")
    recipe = case.recipe(steps=10, ema=0.5, recompute=True)
    train = Batches(case.data.train, case.codec, ROWS, 0, "cpu")
    asked = start_state(recipe, case.codec, train, torch.device("cpu"))
    plain = start_state(
        replace(recipe, training=replace(recipe.training, recompute=False)),
        case.codec,
        train,
        torch.device("cpu"),
    )
    examples = [footprint(state.model, train, recipe.training).example for state in (asked, plain)]
    assert examples[0] < examples[1]
    losses = [train_step(state, train.pieces(0, 1), recipe.training)["model"] for state in (asked, plain)]
    assert losses[0] == losses[1]


def test_a_model_without_blocks_says_so_before_anything_is_written(tmp_path):
    with pytest.raises(PangenError, match="RealNVP has no blocks"):
        pangen.fit("realnvp", "moons", steps=2, out=tmp_path / "run", recipe={"training.recompute": True})
    assert not (tmp_path / "run").exists()
