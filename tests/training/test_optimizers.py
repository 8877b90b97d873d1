"""Our optimizers move weights as torch's own do, to the bit, whatever weights have gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from pangen.threads import threads
from pangen.training import optimizers
from pangen.training.optimizers import LARGE, SGD, AdamW

SHAPES = [(3, 4), (4,), (), (2, 3, 3)]
SETTINGS = {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.1}


def weights(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype)) for shape in SHAPES]


def walk(optimizer, own, steps, seed=1, without=()):
    """Gradients for all but some of the weights at each step."""
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        for i, w in enumerate(own):
            g = torch.randn(w.shape, generator=generator, dtype=w.dtype)
            w.grad = None if (step, i) in without else g
        optimizer.step()


def same(ours, theirs):
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("without", [(), {(0, 0), (2, 1), (2, 2), (3, 0)}, {(s, 1) for s in range(5)}])
def test_weights_move_as_by_torchs_own(dtype, without):
    ours, theirs = weights(dtype), weights(dtype)
    one, other = AdamW([{"params": ours}], **SETTINGS), torch.optim.AdamW(theirs, fused=True, **SETTINGS)
    for optimizer, own in ((one, ours), (other, theirs)):
        walk(optimizer, own, 5, without=without)
    assert same(ours, theirs)
    for a, b in zip(ours, theirs, strict=True):
        for key, found in other.state[b].items():
            assert torch.equal(one.state[a][key], found)


@pytest.mark.parametrize("how", ["ours to torch's", "torch's to ours", "a copy"])
def test_a_state_goes_on_where_it_was(how):
    kinds = [
        lambda own: AdamW([{"params": own}], **SETTINGS),
        lambda own: torch.optim.AdamW(own, fused=True, **SETTINGS),
    ]
    first, second = kinds[:: -1 if how == "torch's to ours" else 1]
    own, all_along = weights(), weights()
    before, whole = first(own), second(all_along)
    walk(before, own, 3)
    if how == "a copy":
        own, after = copy.deepcopy((own, before))
    else:
        after = second(own)
        after.load_state_dict(before.state_dict())
    walk(whole, all_along, 3)
    for optimizer, these in ((after, own), (whole, all_along)):
        walk(optimizer, these, 2, seed=2)
    assert same(own, all_along)
    assert float(after.state[own[0]]["step"]) == 5


def test_small_weights_are_moved_by_one_thread(monkeypatch):
    """And large ones by all; afterwards there are as many as before."""
    small, large = weights(), [nn.Parameter(torch.zeros(2 * LARGE)), nn.Parameter(torch.zeros(3))]
    before, seen = torch.get_num_threads(), []
    monkeypatch.setattr(optimizers, "threads", lambda count: seen.append(count) or threads(count))
    for make in (AdamW, SGD):
        for own in (small, large):
            for w in own:
                w.grad = torch.ones_like(w)
            make([{"params": own}], lr=0.1, weight_decay=0.0).step()
    assert seen == [1, None, 1, None]
    assert torch.get_num_threads() == before


def test_sgd_is_torchs():
    ours, theirs = weights(), weights()
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "fused": True}
    walk(SGD([{"params": ours}], **settings), ours, 4)
    walk(torch.optim.SGD(theirs, **settings), theirs, 4)
    assert same(ours, theirs)
