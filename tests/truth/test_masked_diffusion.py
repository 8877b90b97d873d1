"""Masked diffusion: the bound is that of every order of tokens, and samples are drawn in such orders."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from pangen.errors import PangenError
from pangen.families.diffusion.masked_diffusion import EARLIEST, SCHEDULES, MaskedDiffusion
from pangen.networks.neighbours import Neighbours
from pangen.samplers.tokens import written
from pangen.samplers.unmasking import Unmask
from pangen.space import Batch, Progress, Space, class_space

SPACE = Space("tokens", (3,), levels=3)
LINES = Space("tokens", (5,), levels=4, end=3)
EVERY = torch.tensor(list(itertools.product(range(3), repeat=3)))
MASKS = [torch.tensor(m) for m in itertools.product([False, True], repeat=3)]


class Joint:
    """The exact conditionals of three tokens with a known joint law `p` (3, 3, 3)."""

    def __init__(self) -> None:
        self.p = (1.5 * torch.randn(3, 3, 3, generator=torch.Generator().manual_seed(0))).exp()
        self.p /= self.p.sum()

    def masked_logits(self, tokens: Tensor, masked: Tensor, y: Tensor | None = None) -> Tensor:
        agrees = ((tokens[:, None] == EVERY) | masked[:, None]).all(2) * self.p.flatten()  # (B, 27)
        return torch.einsum("bs,slk->blk", agrees, torch.nn.functional.one_hot(EVERY).float()).log()


def shaken(space: Space = SPACE, **settings: object) -> MaskedDiffusion:
    """Weights far enough from their start that every term counts."""
    torch.manual_seed(1)
    model = MaskedDiffusion(space, width=16, **settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    return model.eval().requires_grad_(False)


def known(monkeypatch: pytest.MonkeyPatch, **settings: object) -> tuple[MaskedDiffusion, Joint]:
    model, joint = MaskedDiffusion(SPACE, width=16, **settings), Joint()
    monkeypatch.setattr(model, "masked_logits", joint.masked_logits)
    model.initialize(Batch(EVERY))
    return model, joint


def bound(model: MaskedDiffusion) -> Tensor:
    """Of every x: the mean over all masks, of k places with the weight 1 / (k C(3, k))."""
    total = torch.zeros(27)
    for mask in MASKS[1:]:
        k = int(mask.sum())
        total += model.nats(EVERY, mask.expand(27, -1), None) / (k * math.comb(3, k))
    return total


def by_orders(masked_logits) -> Tensor:
    """log p `(6, 27)` of every x in each of the orders in which its tokens can be drawn one by one."""
    found = []
    for order in itertools.permutations(range(3)):
        masked, log_p = torch.ones(27, 3, dtype=torch.bool), torch.zeros(27)
        for place in order:
            each = masked_logits(EVERY, masked)[:, place].log_softmax(1)
            log_p = log_p + each.gather(1, EVERY[:, place : place + 1])[:, 0]
            masked[:, place] = False
        found.append(log_p)
    return torch.stack(found)


# -- the bound --------------------------------------------------------------------------------------


def test_with_exact_conditionals_the_bound_is_the_likelihood(monkeypatch):
    model, joint = known(monkeypatch)
    assert torch.allclose(bound(model), joint.p.flatten().log(), atol=1e-5)


def test_the_bound_is_the_mean_over_orders_and_never_above_what_is_drawn():
    """E over orders of log p is at most log of E over orders of p, the law of samples; and both sum to 1 at most."""
    model = shaken()
    orders = by_orders(model.masked_logits)
    assert torch.allclose(bound(model), orders.mean(0), atol=1e-4)
    law = orders.logsumexp(0) - math.log(6)
    assert (bound(model) < law).all()
    assert law.exp().sum().item() == pytest.approx(1, abs=1e-5)
    assert bound(model).exp().sum() < 0.999


@pytest.mark.parametrize("draws", [1, 4])
def test_draws_of_masks_tend_to_the_bound(draws):
    model = shaken(draws=draws)
    exact, n = bound(model), 150
    found = torch.stack(
        [model.log_prob(EVERY, generator=torch.Generator().manual_seed(i)).nats for i in range(n)]
    )
    assert model.log_prob(EVERY).kind == "lower bound"
    off = (found.mean(0) - exact) / (found.std(0) / n**0.5)
    assert off.abs().max() < 4.5  # of 27 means, in standard errors


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_loss_is_the_bound_under_every_schedule(schedule):
    """Integrated over t, alpha' / (1 - alpha) times the masked cross-entropy does not depend on alpha."""
    model = shaken(schedule=schedule)
    t = ((torch.arange(20_000) + 0.5) / 20_000).double()
    alpha, rate = model.kept(t)
    total = torch.zeros(27).double()
    for mask in MASKS[1:]:
        k = int(mask.sum())
        share = rate / (1 - alpha) * (1 - alpha) ** k * alpha ** (3 - k)
        total += share.mean() * model.nats(EVERY, mask.expand(27, -1), None).double()
    assert torch.allclose(total, bound(model).double(), rtol=1e-4)
    torch.manual_seed(0)
    losses = torch.stack([model.loss(Batch(EVERY.repeat(8, 1)), Progress(0, 1)).total for _ in range(150)])
    missed = EARLIEST * 3  # a few nats a token, in the time before the first
    assert (
        abs(float(losses.mean() * 3 + bound(model).mean())) < 4 * float(losses.std() * 3) / 150**0.5 + missed
    )


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_mask_nothing_at_first_and_all_at_last(schedule):
    t = torch.linspace(0, 1, 101).double().requires_grad_()
    alpha, rate = SCHEDULES[schedule](t)
    (slope,) = torch.autograd.grad(alpha.sum(), t)
    assert torch.allclose(-slope, rate)
    assert alpha[[0, -1]].tolist() == pytest.approx([1, 0], abs=1e-12)
    assert (alpha.diff() < 0).all()


def test_masks_are_as_frequent_as_the_schedule_says(monkeypatch):
    model, seen = MaskedDiffusion(Space("tokens", (50,), levels=5), width=16, schedule="cosine"), []

    def nats(x: Tensor, masked: Tensor, y: Tensor | None) -> Tensor:
        seen.append(masked)
        return torch.zeros(len(x))

    monkeypatch.setattr(model, "nats", nats)
    model.loss(Batch(torch.zeros(2000, 50, dtype=torch.long)), Progress(0, 1))
    found = seen[0].double().mean(1).sort().values  # times are stratified: row by row, but for their order
    expected = ((torch.arange(2000) + 0.5) / 2000 * math.pi / 2).sin()  # 1 - alpha(t) = cos(pi (1 - t) / 2)
    assert float(found.mean() - expected.mean()) == pytest.approx(0, abs=4 * 0.5 / (2000 * 50) ** 0.5 + 1e-3)
    assert torch.allclose(found, expected.double(), atol=0.2)  # binomial of 50: four standard errors


# -- lengths ----------------------------------------------------------------------------------------


def test_the_bound_covers_lines_of_all_lengths():
    """Summed over all lines of every length the bound stays below 1, and nothing behind the end matters."""
    model = shaken(LINES, draws=60)
    lines = [(*line, *[3] * (5 - n)) for n in range(6) for line in itertools.product(range(3), repeat=n)]
    x = torch.tensor(lines)
    model.initialize(Batch(x[x[:, 4] == 3]))
    assert model.lengths.exp().sum().item() == pytest.approx(1, abs=1e-6)
    nats = model.log_prob(x, generator=torch.Generator().manual_seed(0)).nats
    assert 0.1 < nats.exp().sum() < 1
    empty = torch.tensor([[3, 3, 3, 3, 3]])
    assert model.log_prob(empty).nats.item() == pytest.approx(model.lengths[0].item(), abs=1e-6)
    a, b = torch.tensor([[0, 1, 3, 3, 3], [0, 1, 3, 2, 0]])[:, None]
    same = [model.log_prob(v, generator=torch.Generator().manual_seed(3)).nats for v in (a, b)]
    assert torch.equal(*same)


def test_what_is_behind_a_part_of_a_window_is_not_known():
    """Padding is not text: it costs nothing and looks like a mask."""
    model = shaken(Space("tokens", (5,), levels=3))
    part = torch.tensor([[0, 1, 3, 3, 3]])
    none, behind = torch.zeros(1, 5, dtype=torch.bool), torch.tensor([[False, False, True, True, True]])
    assert torch.equal(model.masked_logits(part, none), model.masked_logits(part, behind))
    assert written(part, model.space).sum() == 2


def test_samples_are_as_long_as_texts():
    model = shaken(LINES)
    x = torch.tensor([[0, 1, 3, 3, 3]] * 3 + [[2, 0, 1, 1, 3]])
    model.initialize(Batch(x))
    n = (model.sample(640, seed=0, steps=2) != 3).sum(1)
    seen = torch.bincount(n, minlength=6) / 640
    assert torch.allclose(seen, model.lengths.exp(), atol=4 * 0.5 / 640**0.5)
    full = shaken()
    full.initialize(Batch(EVERY))
    assert full.lengths.exp().tolist() == [0, 0, 0, 1]  # no other number of tokens can be


# -- samples ----------------------------------------------------------------------------------------


def chi2(x: Tensor, p: Tensor) -> tuple[float, int]:
    seen = torch.bincount((x * torch.tensor([9, 3, 1])).sum(1), minlength=27)
    expected = len(x) * p
    kept = expected > 5
    return float(((seen - expected) ** 2 / expected)[kept].sum()), int(kept.sum())


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_one_token_at_a_time_draws_the_joint(monkeypatch, schedule):
    model, joint = known(monkeypatch, schedule=schedule)
    model.chunk = 3000
    found, cells = chi2(model.sample(3000, seed=0, steps=3), joint.p.flatten())
    assert cells > 15
    assert found < cells + 4 * (2 * cells) ** 0.5  # four standard deviations


def test_samples_follow_the_law_that_the_bound_is_below():
    model = shaken()
    model.lengths.copy_(torch.tensor([0.0, 0.0, 0.0, 1.0]).log())
    model.chunk = 3000
    law = by_orders(model.masked_logits).exp().mean(0)
    found, cells = chi2(model.sample(3000, seed=0), law)
    assert found < cells + 4 * (2 * cells) ** 0.5


def test_all_at_once_draws_the_marginals(monkeypatch):
    model, joint = known(monkeypatch)
    model.chunk = 3000
    x = model.sample(3000, seed=0, steps=1)
    product = torch.einsum("a,b,c->abc", joint.p.sum((1, 2)), joint.p.sum((0, 2)), joint.p.sum((0, 1)))
    found, cells = chi2(x, product.flatten())
    assert found < cells + 4 * (2 * cells) ** 0.5


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_steps_unmask_at_the_rate_of_the_schedule(schedule):
    """After step s of S the share alpha(1 - s / S) is there, in binomial numbers."""
    L, n, steps = 40, 500, 4
    masks: list[Tensor] = []

    class Coin:
        def masked_logits(self, tokens: Tensor, masked: Tensor) -> Tensor:
            masks.append(masked)
            return torch.zeros(*tokens.shape, 2)

    start, missing = torch.zeros(n, L, dtype=torch.long), torch.ones(n, L, dtype=torch.bool)
    for order in ("random", "surest"):
        masks.clear()
        by = Unmask(steps, SCHEDULES[schedule], order)
        *_, x = by(Coin(), start, missing, generator=torch.Generator().manual_seed(0))
        for s, mask in enumerate(masks):
            alpha = float(SCHEDULES[schedule](torch.tensor(1 - s / steps))[0])
            there = (~mask).double().sum(1)
            assert float(there.mean()) == pytest.approx(L * alpha, abs=4 * (L / 4 / n) ** 0.5)
            variance = L * alpha * (1 - alpha)
            assert float(there.var()) == pytest.approx(variance, rel=4 * (2 / n) ** 0.5, abs=1e-6)
        assert len(masks) == steps
        assert not torch.equal(x, start)


def test_the_surest_is_drawn_first_and_what_is_given_stays(monkeypatch):
    _, joint = known(monkeypatch)
    given, missing = (
        torch.tensor([[0, 2, 0]]).repeat(500, 1),
        torch.tensor([[True, False, True]]).repeat(500, 1),
    )
    *_, x = Unmask(3)(joint, given, missing, generator=torch.Generator().manual_seed(0))
    assert (x[:, 1] == 2).all()
    p = joint.p[:, 2] / joint.p[:, 2].sum()
    assert torch.allclose(torch.bincount(x[:, 0], minlength=3) / 500, p.sum(1), atol=4 * 0.5 / 500**0.5)
    by = Unmask(3, order="surest", temperature=0.0)
    first, *_ = by(joint, given[:1], missing[:1] | True, generator=torch.Generator().manual_seed(0))
    marginals = torch.stack([joint.p.sum((1, 2)), joint.p.sum((0, 2)), joint.p.sum((0, 1))])
    place = int(marginals.amax(1).argmax())
    assert int(first[0, place]) == int(marginals[place].argmax())


def test_settings_that_draw_nothing_are_refused():
    model = shaken()
    for wrong in ({"steps": 0}, {"temperature": -1.0}, {"order": "best"}):
        with pytest.raises(PangenError):
            model.sample(1, **wrong)


# -- the network ------------------------------------------------------------------------------------


def test_what_is_masked_is_not_seen():
    for space in (SPACE, LINES, Space("tokens", (1, 2, 2), levels=3, condition=class_space(2))):
        model = shaken(space)
        x = torch.zeros(1, *space.shape, dtype=torch.long)
        masked = torch.zeros_like(x, dtype=torch.bool)
        masked.view(-1)[1] = True
        changed = x.clone()
        changed.view(-1)[1] = 1
        logits = model.masked_logits(x, masked)
        assert logits.shape == (*x.shape, space.levels)
        assert torch.equal(logits, model.masked_logits(changed, masked))
        changed.view(-1)[0] = 1
        assert not torch.equal(logits, model.masked_logits(changed, masked))
        if space.condition:
            assert not torch.equal(logits, model.masked_logits(x, masked, torch.tensor([1])))


@pytest.mark.parametrize(
    ("space", "seen"), [(Space("tokens", (9,), levels=3), 5), (Space("tokens", (2, 3, 4), levels=3), 10)]
)
def test_a_token_is_embedded_with_its_neighbours(space, seen):
    """Two on either side in text, eight in images and the other channel, in raster order."""
    torch.manual_seed(0)
    net, L = Neighbours(space, 4), space.dims
    x = torch.zeros(1, L, dtype=torch.long)
    h = net(x)[0]
    touched = torch.stack([(net(x + torch.eye(L, dtype=torch.long)[i])[0] != h).any(1) for i in range(L)])
    offsets = touched.nonzero()
    assert len((offsets[:, 1] - offsets[:, 0]).unique()) == (seen if len(space.shape) == 1 else seen + 1)
    assert touched.diagonal().all()
    assert torch.equal(touched, touched.T)
