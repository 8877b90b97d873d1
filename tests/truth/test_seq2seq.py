"""seq2seq, its beam and its pairs: probabilities that sum to 1, padding without a say, searches that find the best."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest
import torch

import pangen
from pangen.codecs import choose_codec, codec_from_json
from pangen.codecs.words import Words
from pangen.data import load_data
from pangen.data.pairs import TOYS
from pangen.errors import PangenError
from pangen.families.autoregressive.gpt import GPT
from pangen.families.autoregressive.seq2seq import Seq2Seq
from pangen.networks.labels import hide
from pangen.registry import get
from pangen.samplers.beam import Beam
from pangen.samplers.tokens import NextToken, until_end
from pangen.space import Batch, Progress, Space

SOURCE = Space("tokens", (5,), levels=4, end=3)
SPACE = Space("tokens", (4,), levels=3, end=2, condition=SOURCE)
Y = torch.tensor([[0, 1, 2, 0, 3], [2, 3, 3, 3, 3], [3, 3, 3, 3, 3], [1, 1, 0, 3, 3]])
both = pytest.mark.parametrize("architecture", ["transformer", "rnn"])


def shaken(architecture: str, **settings: object) -> Seq2Seq:
    """Weights far enough from their start that every term counts, and no outcome is certain."""
    torch.manual_seed(1)
    model = Seq2Seq(SPACE, architecture=architecture, width=16, **settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval().requires_grad_(False)


def everything() -> torch.Tensor:
    x = torch.tensor(list(itertools.product(range(3), repeat=4)))
    return torch.where(until_end(x, 2), x, 2).unique(dim=0)


@both
def test_sums_to_one_given_every_source(architecture):
    model, x = shaken(architecture), everything()
    totals = [model.log_prob(x, y.expand(len(x), -1)).nats.double().exp().sum() for y in Y]
    assert torch.allclose(torch.stack(totals), torch.ones(len(Y)).double(), atol=1e-5)  # float32 sums
    found = torch.stack([model.log_prob(x, y.expand(len(x), -1)).nats for y in Y])
    assert (found - found[:1]).abs().amax(1)[1:].min() > 0.1  # and tells sources apart
    assert torch.equal(model.log_prob(x).nats, model.log_prob(x, Y[2].expand(len(x), -1)).nats)


@both
def test_what_follows_the_end_of_a_source_has_no_say(architecture):
    model, x = shaken(architecture), everything()[:4]
    other = torch.where(until_end(Y, 3), Y, 1)
    assert torch.equal(model.log_prob(x, Y).nats, model.log_prob(x, other).nats)
    # nor how much padding there is, up to the order of float32 sums
    short = model.log_prob(x[1:], Y[1:, :4]).nats
    assert torch.allclose(model.log_prob(x[1:], Y[1:]).nats, short, atol=1e-5)


@both
def test_logits_see_all_of_the_source_and_only_the_past_of_the_target(architecture):
    model = shaken(architecture)
    x, y = torch.tensor([[0, 1, 1, 0]]), Y[:1]
    logits = model.logits(x, y)
    for t in range(4):
        changed = x.clone()
        changed[:, t] = 1 - changed[:, t]
        moved = (model.logits(changed, y) != logits).any(-1)[0]
        assert not moved[: t + 1].any()
        assert moved[t + 1 :].all()
    for s in range(4):
        changed = y.clone()
        changed[:, s] = (changed[:, s] + 1) % 3
        assert (model.logits(x, changed) != logits).any(-1).all()


@both
def test_cache_is_the_full_forward(architecture):
    model, x = shaken(architecture), everything()[[3, 9, 17, 25]]
    full, cache = model.logits(x, Y), None
    for t in range(4):
        logits, cache = model.next_logits(x[:, :t], cache, Y)
        assert torch.allclose(logits, full[:, t], atol=1e-5)
    rows = torch.tensor([2, 2, 0])
    _, cache = model.next_logits(x[:, :2], None, Y)
    logits, _ = model.next_logits(x[rows, :3], cache.take(rows), Y[rows])
    assert torch.allclose(logits, model.logits(x[rows], Y[rows])[:, 3], atol=1e-5)


@both
def test_sampling_follows_the_model(architecture):
    """Frequencies of all targets of one source: a chi-square test; and greedy is temperature 0."""
    model, x, n = shaken(architecture), everything(), 4096
    model.chunk = n
    drawn = model.sample(n, Y[:1].expand(n, -1), seed=0)
    expected = n * model.log_prob(x, Y[:1].expand(len(x), -1)).nats.double().exp()
    seen = (drawn[:, None] == x).all(2).sum(0)
    kept = expected > 5
    chi2 = ((seen - expected) ** 2 / expected)[kept].sum()
    assert chi2 < kept.sum() + 4 * (2 * kept.sum()) ** 0.5  # four standard deviations
    greedy = list(
        NextToken(temperature=0)(model, 4, 4, Y, end=2, generator=torch.Generator().manual_seed(0))
    )[-1]
    assert torch.equal(Beam(1)(model, 4, 4, Y, end=2, device=model.device)[0], greedy)


@both
@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_a_beam_as_wide_as_the_tree_finds_the_best(architecture, penalty):
    model, x = shaken(architecture), everything()
    beam = Beam(len(x), penalty)
    found, nats = beam(model, len(Y), 4, Y, end=2, device=model.device)
    lengths = until_end(x, 2).sum(1)
    for y, best, value in zip(Y, found, nats, strict=True):
        log_p = model.log_prob(x, y.expand(len(x), -1)).nats
        top = (log_p / ((5 + lengths) / 6) ** penalty).argmax()  # Wu et al. 2016, Eq. 14
        assert torch.equal(best, x[top])
        assert abs(float(value - log_p[top])) < 1e-5


def test_a_beam_needs_no_cache_that_can_be_rearranged_and_rows_do_not_meet():
    torch.manual_seed(0)
    model = GPT(Space("tokens", (4,), levels=3, end=2), width=16).eval().requires_grad_(False)
    x = everything()
    found, _ = Beam(len(x), 0.0)(model, 1, 4, None, end=2, device=model.device)
    assert torch.equal(found[0], x[model.log_prob(x).nats.argmax()])
    model = shaken("transformer")
    together = Beam(2)(model, 4, 4, Y, end=2, device=model.device)[0]
    changed = Y.clone()
    changed[1:] = Y[2]
    assert torch.equal(together[0], Beam(2)(model, 4, 4, changed, end=2, device=model.device)[0][0])


def test_smoothing_is_in_the_loss_alone():
    x = everything()[[3, 9, 17, 25]]
    plain, smooth = (shaken("transformer", smoothing=s, dropout=0.0) for s in (0.0, 0.3))
    assert torch.equal(plain.log_prob(x, Y).nats, smooth.log_prob(x, Y).nats)
    tokens = until_end(x, 2).sum()
    mean = -plain.log_prob(x, Y).nats.sum() / tokens
    assert torch.allclose(plain.loss(Batch(x, Y), Progress(0, 1)).total, mean, atol=1e-5)
    uniform = -(plain.logits(x, Y).log_softmax(-1).mean(-1) * until_end(x, 2)).sum() / tokens
    expected = 0.7 * mean + 0.3 * uniform
    assert torch.allclose(smooth.loss(Batch(x, Y), Progress(0, 1)).total, expected, atol=1e-5)


def test_a_condition_is_a_space():
    """The null condition of each kind, and hiding of each."""
    assert SPACE.classes == 0
    assert SPACE.no_condition(2).tolist() == [[3] * 5] * 2
    assert Space("real", (2,)).no_condition(2) is None
    vector = Space("real", (2,), condition=Space("real", (3,)))
    assert vector.no_condition(4).isnan().all()
    torch.manual_seed(0)
    hidden = hide(Y.repeat(500, 1), SPACE, 0.25)
    gone = (hidden == 3).all(1)[Y.repeat(500, 1)[:, 0] != 3]
    assert abs(float(gone.double().mean()) - 0.25) < 0.05  # four standard errors of 1500
    assert Space.from_json(SPACE.to_json()) == SPACE


def test_toys_follow_their_rules_and_never_repeat():
    for name, rule in TOYS.items():
        data = load_data(name)
        splits = [data.split(s) for s in ("train", "validation", "test")]
        assert all(split.x == tuple(map(rule, split.y)) for split in splits)
        sources = [y for split in splits for y in split.y]
        assert len(set(sources)) == len(sources)


def test_codecs_of_pairs_come_back():
    texts = [
        ("Der Hund bellt, laut!", "The dog barks, loudly!"),
        ("Ein  Kind\tlacht 5×", "A  child laughs 5×"),
    ] * 8
    data = pangen.data.memory_data(texts)
    for name in ("bpe-pairs", "character-pairs"):
        codec = choose_codec(get("seq2seq"), data, name=name)
        assert codec_from_json(json.loads(json.dumps(codec.to_json()))) == codec
        assert codec.decode(codec.encode(data.test.x).x) == data.test.x
        assert codec.encode_condition(data.test.y).shape == (len(data.test), *codec.condition.shape)
        with pytest.raises(PangenError, match="give it in parts"):
            codec.encode_condition(("Hund " * 50,))
    words = Words.fit(data)
    assert words.decode(words.encode(data.test.x).x) == data.test.x
    assert words.tokens("Zeus")  # never seen: spelled, and unknown letters escaped
    assert float(words.encode(("Zq",)).log_volume) < -10


@both
def test_two_thousand_real_pairs_are_learnt_and_scored(architecture, local_data):
    """A few steps on captions in two languages: held-out ones cost less than at the start, and BLEU has something to say."""
    bleu = pytest.importorskip("sacrebleu").corpus_bleu
    local_data("multi30k")
    data = load_data("multi30k")
    data = replace(data, train=data.train.first(2000), validation=data.validation.first(50))
    recipe = {
        "model.architecture": architecture,
        "model.width": 32,
        "model.depth": 1,
        "codec.vocabulary": 500,
    }
    recipe |= {"training.validations": 1, "training.batch": 32, "training.lr": 5e-3, "training.warmup": 0}
    runs = [pangen.fit("seq2seq", data, steps=steps, device="cpu", recipe=recipe) for steps in (1, 50)]
    start, end = (run.card["best"]["score"] for run in runs)
    assert end < 0.9 * start
    found = pangen.translate(runs[1], data.test.y[:20], beam=2)
    assert len(found) == 20
    assert 0 <= bleu(found, [list(data.test.x[:20])]).score <= 100
