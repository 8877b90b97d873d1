"""bert and filling in: what is asked for is not seen, and right conditionals give the right joint."""

from __future__ import annotations

import itertools

import pytest
import torch

import pangen
from pangen.errors import PangenError
from pangen.families.autoregressive.bert import BERT, Hidden
from pangen.samplers.mask_predict import Gibbs, MaskPredict
from pangen.space import Batch, Progress, Space

WINDOWS = Space("tokens", (6,), levels=5)
LINES = Space("tokens", (6,), levels=5, end=4)
X = torch.tensor([[0, 1, 2, 3, 1, 4], [2, 2, 4, 4, 4, 4], [4, 4, 4, 4, 4, 4], [3, 0, 1, 4, 4, 4]])


def shaken(space: Space, **settings: object) -> BERT:
    """Weights far enough from their start that every term counts."""
    torch.manual_seed(1)
    model = BERT(space, width=16, **settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval().requires_grad_(False)


class Table:
    """The exact conditionals of a joint distribution of three tokens, hidden ones summed out."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.p = (1.5 * torch.randn(3, 3, 3)).flatten().softmax(0).view(3, 3, 3)
        self.seen: list[torch.Tensor] = []

    def masked_logits(self, tokens: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
        self.seen.append(masked)
        rows = []
        for row, hidden in zip(tokens.tolist(), masked.tolist(), strict=True):
            p = self.p
            for place in range(3):
                if not hidden[place]:
                    only = torch.zeros(3).index_fill(0, torch.tensor(row[place]), 1.0)
                    p = p * only.view([-1 if i == place else 1 for i in range(3)])
            rows.append(torch.stack([p.sum([j for j in range(3) if j != i]) for i in range(3)]).log())
        return torch.stack(rows)


@pytest.mark.parametrize("sweeps", [1, 3])
def test_gibbs_with_conditionals_of_one_joint_samples_it(sweeps):
    table, n = Table(), 600
    start, missing = torch.zeros(n, 3, dtype=torch.long), torch.ones(n, 3, dtype=torch.bool)
    *_, x = Gibbs(sweeps)(table, start, missing, generator=torch.Generator().manual_seed(0))
    seen = torch.bincount((x * torch.tensor([9, 3, 1])).sum(1), minlength=27)
    expected = n * table.p.flatten()
    kept = expected > 5
    chi2 = ((seen - expected) ** 2 / expected)[kept].sum()
    assert kept.sum() > 8
    assert chi2 < kept.sum() + 4 * (2 * kept.sum()) ** 0.5  # four standard deviations


def test_gibbs_leaves_what_is_given():
    table, n = Table(), 400
    start = torch.tensor([[0, 2, 0]]).repeat(n, 1)
    missing = torch.tensor([[True, False, True]]).repeat(n, 1)
    *_, x = Gibbs(2)(table, start, missing, generator=torch.Generator().manual_seed(0))
    assert (x[:, 1] == 2).all()
    p = table.p[:, 2] / table.p[:, 2].sum()
    seen = torch.bincount(x[:, 0], minlength=3) / n
    assert torch.allclose(seen, p.sum(1), atol=4 * 0.5 / n**0.5)


def test_mask_predict_asks_again_for_the_least_certain():
    """N (T - t) / T tokens are masked in round t, those drawn with the least probability."""
    table = Table()
    start, missing = torch.zeros(8, 3, dtype=torch.long), torch.ones(8, 3, dtype=torch.bool)
    states = list(MaskPredict(3, 0.0)(table, start, missing, generator=torch.Generator().manual_seed(0)))
    assert [masked.sum(1).unique().tolist() for masked in table.seen] == [[3], [2], [1]]
    first = Table().masked_logits(start, missing).softmax(-1).amax(-1)
    assert torch.equal(table.seen[1], first < first.amax(1, keepdim=True))
    assert len(states) == 3
    # in one round each token comes from its own marginal
    n = 2000
    *_, x = MaskPredict(1)(
        Table(), torch.zeros(n, 3, dtype=torch.long), torch.ones(n, 3, dtype=torch.bool),
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    seen = torch.bincount(x[:, 2], minlength=3) / n
    assert torch.allclose(seen, table.p.sum((0, 1)), atol=4 * 0.5 / n**0.5)


@pytest.mark.parametrize("space", [WINDOWS, LINES])
def test_what_is_asked_for_is_not_seen(space):
    """Logits do not depend on masked tokens, nor on what follows the end; they do on all others."""
    model = shaken(space)
    x = X[:1]
    for t in range(5):
        masked = torch.zeros_like(x, dtype=torch.bool)
        masked[:, t] = True
        changed = x.clone()
        changed[:, t] = (changed[:, t] + 1) % 4
        logits = model.masked_logits(x, masked)
        assert torch.equal(logits, model.masked_logits(changed, masked))
        others = x.clone()
        others[:, (t + 1) % 5] = (others[:, (t + 1) % 5] + 1) % 4
        assert not torch.equal(logits[:, t], model.masked_logits(others, masked)[:, t])
    if space.end is not None:
        a, b = torch.tensor([[0, 1, 4, 4, 4, 4]]), torch.tensor([[0, 1, 4, 2, 0, 1]])
        none = torch.zeros_like(a, dtype=torch.bool)
        assert torch.equal(model.masked_logits(a, none)[:, :3], model.masked_logits(b, none)[:, :3])
        assert (model.masked_logits(a, none)[..., 4] == -torch.inf).all()


def test_shares_of_what_is_hidden():
    """15 % of the tokens, of them 80 % masked, 10 % another by chance, 10 % as they were; never an end."""
    torch.manual_seed(0)
    space = Space("tokens", (50,), levels=41, end=40)
    x = torch.randint(40, (4000, 50))
    x[:, 45:] = 40
    shown, chosen = BERT(space, width=8, heads=2).hidden(x)
    n = 4000 * 45
    assert not chosen[:, 45:].any()
    assert torch.equal(shown[~chosen], x[~chosen])
    count = int(chosen.sum())
    assert abs(count / n - 0.15) < 4 * (0.15 * 0.85 / n) ** 0.5
    masked, same = (shown == 42)[chosen].double().mean(), (shown == x)[chosen].double().mean()
    slack = 4 * (0.16 / count) ** 0.5
    assert abs(float(masked) - 0.8) < slack
    assert abs(float(same) - (0.1 + 0.1 / 40)) < slack  # one in 40 others is the token itself
    shown, chosen = BERT(space, width=8, heads=2, masking="uniform").hidden(x)
    assert (shown[chosen] == 42).all()
    shares = chosen[:, :45].double().mean(1)
    assert abs(float(shares.mean()) - 0.5) < 4 * (1 / 12 / 4000) ** 0.5
    assert float(shares.std()) > 0.27  # of a uniform share 0.289, of a fixed one 0.07


def test_only_chosen_places_enter_the_loss():
    model = shaken(LINES, dropout=0.0, short=0.0)
    chosen = torch.zeros_like(X, dtype=torch.bool)
    chosen[0, 2] = chosen[3, 0] = True
    model.hidden = lambda x: Hidden(x.masked_fill(chosen, model.mask), chosen)
    log_p = model.masked_logits(X, chosen).log_softmax(-1)
    expected = -(log_p[0, 2, 2] + log_p[3, 0, 3]) / 2
    assert torch.allclose(model.loss(Batch(X), Progress(0, 1)).total, expected, atol=1e-6)


@pytest.mark.parametrize("space", [WINDOWS, LINES])
def test_pseudo_log_prob_masks_one_place_at_a_time(space):
    model = shaken(space)
    x = X if space.end is not None else X.clamp(max=3)
    total = torch.zeros(len(x))
    for row, t in itertools.product(range(len(x)), range(6)):
        if space.end is None or int(x[row, t]) != 4:
            masked = torch.zeros(1, 6, dtype=torch.bool)
            masked[:, t] = True
            log_p = model.masked_logits(x[row : row + 1], masked).log_softmax(-1)
            total[row] += log_p[0, t, x[row, t]]
    assert torch.allclose(model.pseudo_log_prob(x), total, atol=1e-5)


def test_training_finds_the_conditionals():
    """Of two tokens with a known joint: p(second given first) and back, and the marginals, to 0.05."""
    torch.manual_seed(0)
    p = torch.tensor([[0.3, 0.1, 0.0], [0.05, 0.05, 0.2], [0.1, 0.1, 0.1]])
    pairs = torch.arange(9).repeat_interleave((100 * p).round().long().flatten())  # as often as p has them
    x = torch.stack([pairs // 3, pairs % 3], 1).repeat(3, 1)
    chosen = torch.tensor([[True, False], [False, True], [True, True]]).repeat_interleave(len(pairs), 0)
    model = BERT(Space("tokens", (2,), levels=3), width=16, depth=1, dropout=0.0, short=0.0)
    model.hidden = lambda x: Hidden(x.masked_fill(chosen, model.mask), chosen)  # every gap of every pair
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(200):
        optimizer.zero_grad()
        model.loss(Batch(x), Progress(step, 200)).total.backward()
        optimizer.step()
    every = torch.arange(3)
    for place, joint in ((1, p), (0, p.T)):
        tokens = torch.zeros(3, 2, dtype=torch.long)
        tokens[:, 1 - place] = every
        masked = torch.zeros(3, 2, dtype=torch.bool)
        masked[:, place] = True
        found = model.eval().masked_logits(tokens, masked)[:, place].softmax(1)
        assert torch.allclose(found, joint / joint.sum(1, keepdim=True), atol=0.05)
        both = model.masked_logits(tokens, masked | True)[0, place].softmax(0)
        assert torch.allclose(both, joint.sum(0), atol=0.05)


@pytest.mark.parametrize("sampler", ["mask-predict", "gibbs"])
def test_samples_have_the_lengths_of_the_data(sampler):
    model = shaken(LINES)
    model.initialize(Batch(X))
    x = model.sample(300, seed=0, sampler=sampler, rounds=2)
    lengths = (x != 4).sum(1)
    assert ((x == 4).cumsum(1)[:, :-1] <= (x[:, 1:] == 4).long().cumsum(1)).all()  # ends follow ends
    assert torch.equal(lengths.unique(), torch.tensor([0, 2, 3, 5]))


def test_gaps_are_filled():
    texts = ["a cat sat on a mat", "a dog sat on a log", "a cat ran on a mat", "a dog ran on a log"] * 30
    run = pangen.fit(
        "bert", texts, steps=150, device="cpu", recipe={"training.lr": 5e-3, "training.warmup": 10}
    )
    found = pangen.fill(run, "a cat sat on a ___", 2)
    assert found.text == "a cat sat on a mat"
    assert found.gaps[0][0].text == " mat"
    assert len(found.gaps[0]) == 2
    assert found.gaps[0][0].probability > 0.9
    verb = {one.text: one.probability for one in pangen.fill(run, "a dog ___ on a log").gaps[0]}
    assert abs(verb[" sat"] - 0.5) < 0.2
    assert pangen.fill(run, "a ___ sat on a ___").text in texts
    for text, why in (("a cat", "no gap"), ("___ " * 50, "shorten it")):
        with pytest.raises(PangenError, match=why):
            pangen.fill(run, text)
    with pytest.raises(PangenError, match="has no likelihood"):
        run.log_prob(("a cat",))
