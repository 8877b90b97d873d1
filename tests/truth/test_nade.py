"""NADE: its law by enumeration and by the paper's loop, what sees what, samples, memory."""

from __future__ import annotations

import itertools

import pytest
import torch

from pangen.families.autoregressive import nade
from pangen.families.autoregressive.nade import NADE
from pangen.samplers.tokens import NextToken
from pangen.space import Batch, Progress, Space, class_space

BINARY = Space("binary", (1, 2, 4), levels=2)
LABELLED = Space("binary", (1, 2, 3), levels=2, condition=class_space(2))
GREY = Space("tokens", (1, 2, 2), levels=4, condition=class_space(2))
SPACES = pytest.mark.parametrize("space", [BINARY, LABELLED, GREY], ids=["binary", "labelled", "grey"])


def shaken(space: Space, width: int = 8) -> NADE:
    """Weights far enough from their start that every term counts, in float64."""
    torch.manual_seed(1)
    model = NADE(space, width=width).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return model


def everything(space: Space) -> torch.Tensor:
    x = torch.tensor(list(itertools.product(range(space.levels), repeat=space.dims))).view(-1, *space.shape)
    return x.float() if space.kind == "binary" else x


def labels(space: Space) -> tuple[int | None, ...]:
    return (None, *range(space.classes + 1 if space.classes else 0))


@SPACES
@torch.no_grad()
def test_all_states_together_have_probability_one(space):
    model, x = shaken(space), everything(space)
    for y in labels(space):
        given = None if y is None else torch.full((len(x),), y)
        assert abs(float(model.log_prob(x, given).nats.exp().sum()) - 1) < 1e-6


@torch.no_grad()
def test_log_prob_is_the_papers_loop():
    """Uria et al. 2016, Section 2, one bit and one sum at a time, without sharing anything."""
    model, x = shaken(LABELLED), everything(LABELLED)
    W, V, b = model.W[:, 0], model.V[:, 0], model.b[:, 0]
    for y in range(3):
        for row, found in zip(
            x.flatten(1).double(), model.log_prob(x, torch.full((len(x),), y)).nats, strict=True
        ):
            log_p = 0.0
            for d in range(LABELLED.dims):
                h = torch.sigmoid(model.c.weight[y] + row[:d] @ W[:d])
                p = torch.sigmoid(V[d] @ h + b[d])
                log_p += torch.log(p if row[d] else 1 - p)
            assert abs(float(found - log_p)) < 1e-12


@torch.no_grad()
def test_categories_are_one_hot_columns():
    """More than two levels by a loop: value k > 0 adds its column of W, value 0 has logit 0."""
    model, x = shaken(GREY), everything(GREY)
    for row, found in zip(x.flatten(1).tolist(), model.log_prob(x).nats, strict=True):
        a, log_p = model.c.weight[GREY.classes].clone(), 0.0
        for d, value in enumerate(row):
            scores = [torch.zeros(()).double(), *(model.V[d] @ a.sigmoid() + model.b[d])]
            log_p += torch.stack(scores).log_softmax(0)[value]
            if value:
                a += model.W[d, value - 1]
        assert abs(float(found - log_p)) < 1e-12


def test_a_dimension_sees_exactly_those_before_it():
    """The gradient of a logit by what each dimension adds to the sum, by finite change of values and by autograd."""
    model = shaken(BINARY)
    x = everything(BINARY)[[137]].flatten(1).long()
    for d in range(BINARY.dims):
        seen = torch.autograd.grad(model.logits(x | 1, None)[0, d, 1], model.W)[0].abs().sum((1, 2)) > 0
        assert torch.equal(seen, (torch.arange(BINARY.dims) < d) & (x[0] | 1).bool())
    with torch.no_grad():
        logits = model.logits(x, None)
        for d in range(BINARY.dims):
            changed = x.clone()
            changed[:, d] = 1 - changed[:, d]
            moved = (model.logits(changed, None) != logits).any(-1)[0]
            assert not moved[: d + 1].any()
            assert moved[d + 1 :].all()


@SPACES
@torch.no_grad()
def test_the_running_sum_is_the_whole_pass(space):
    model = shaken(space)
    x = everything(space)[::5].flatten(1)
    y = torch.arange(len(x)) % (space.classes + 1)
    full, cache = model.logits(x.long(), y), None
    for t in range(space.dims):
        logits, cache = model.next_logits(x[:, :t], cache, y)
        assert torch.allclose(logits, full[:, t], atol=1e-12)
        assert torch.allclose(model.next_logits(x[:, :t], None, y)[0], full[:, t], atol=1e-12)
    _, cache = model.next_logits(x[:, :1], None, y)  # two values at once, after one
    assert torch.allclose(model.next_logits(x[:, :3], cache, y)[0], full[:, 3], atol=1e-12)


@SPACES
@torch.no_grad()
def test_samples_have_the_enumerated_frequencies(space):
    model, x, n = shaken(space), everything(space), 6000
    y = torch.full((n,), space.classes)
    draws = [
        list(NextToken(cached=cached)(model, n, space.dims, y, generator=torch.Generator().manual_seed(0)))[
            -1
        ]
        for cached in (True, False)
    ]
    assert torch.equal(*draws)
    place = space.levels ** torch.arange(space.dims - 1, -1, -1)
    seen = torch.bincount((draws[0] * place).sum(1), minlength=len(x))
    expected = model.log_prob(x).nats.exp() * n
    kept = expected > 5
    assert kept.sum() > 10
    chi2 = ((seen - expected) ** 2 / expected)[kept].sum()
    assert chi2 < kept.sum() + 4 * (2 * kept.sum()) ** 0.5  # four standard deviations


@pytest.mark.parametrize("kept", [2**27, 0], ids=["kept", "computed again"])
def test_pieces_and_recomputation_change_nothing(monkeypatch, kept):
    """However many dimensions are computed at once, value and gradient are those of one piece."""
    model, x, y = shaken(LABELLED), everything(LABELLED), torch.arange(64) % 3

    def value_and_gradients() -> list[torch.Tensor]:
        model.zero_grad()
        value = model.log_prob(x, y).nats.mean()
        value.backward()
        return [value.detach(), *(p.grad.clone() for p in model.parameters())]

    whole = value_and_gradients()
    monkeypatch.setattr(nade, "KEPT", kept)
    for dims in (1, 4):
        monkeypatch.setattr(nade, "PIECE", dims * len(x) * 8)
        for a, b in zip(value_and_gradients(), whole, strict=True):
            assert torch.allclose(a, b, atol=1e-12)


def test_what_is_computed_again_is_not_kept(monkeypatch):
    """Then only the sums between pieces are held for the backward pass, not D H hidden units an example."""
    model, x = NADE(Space("binary", (1, 8, 8), levels=2), width=64), torch.ones(16, 1, 8, 8)
    monkeypatch.setattr(nade, "PIECE", 8 * 16 * 64)

    def held(kept: int) -> int:
        """Numbers in all storages that autograd holds."""
        monkeypatch.setattr(nade, "KEPT", kept)
        storages = {}

        def pack(t: torch.Tensor) -> torch.Tensor:
            storages[t.untyped_storage().data_ptr()] = t  # alive, so that no address is used twice
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            model.loss(Batch(x), Progress(0, 1))
        return sum(t.untyped_storage().nbytes() // 4 for t in storages.values())

    assert held(2**27) > 16 * 64 * 64
    assert held(0) < 16 * 64 * 64 / 2


@SPACES
def test_it_starts_at_the_frequencies_of_the_data(space):
    """With V = 0 it is the product of each dimension's smoothed frequencies."""
    model = NADE(space, width=8)
    x = everything(space)[
        torch.randint(len(everything(space)), (40,), generator=torch.Generator().manual_seed(0))
    ]
    model.initialize(Batch(x))
    torch.nn.init.zeros_(model.V)
    counts = torch.stack([(x.flatten(1) == k).sum(0) + 1 for k in range(space.levels)], 1)
    expected = (counts / counts.sum(1, keepdim=True)).log()
    assert torch.allclose(
        model.logits(x.flatten(1).long(), None).log_softmax(2), expected.expand(40, -1, -1), atol=1e-6
    )


def test_learns_a_law():
    """Two of eight bits are copies of others and one their parity: 5 coins, 5 log 2 nats; 250 steps, under 1 s."""
    torch.manual_seed(0)
    coins = torch.randint(2, (2000, 1, 5)).float()
    parity = (coins[..., 0] + coins[..., 4]) % 2
    x = torch.cat([coins, coins[..., :2], parity[..., None]], 2).view(-1, 1, 2, 4)
    model = NADE(BINARY, width=32)
    model.initialize(Batch(x))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for step in range(250):
        optimizer.zero_grad()
        model.loss(Batch(x[(step * 64) % 1900 :][:64]), Progress(step, 250)).total.backward()
        optimizer.step()
    regret = float(-model.log_prob(x).nats.detach().mean()) - 5 * 0.693147
    assert regret < 0.1  # what is not learnt costs log 2 nats for each bit
