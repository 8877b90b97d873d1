"""GPT against GPT-2 and the formulas of its positions; texts longer than its context; codecs of text."""

from __future__ import annotations

import itertools
import math
import random

import pytest
import torch
from torch import nn

import pangen
from pangen.codecs import codec_from_json
from pangen.codecs.subwords import Bytes, Subwords, letters
from pangen.codecs.text import Characters
from pangen.data import Data, Split
from pangen.errors import PangenError
from pangen.families.autoregressive.gpt import GPT
from pangen.families.autoregressive.rnn import RNN
from pangen.networks.positions import Rotary, sinusoids
from pangen.samplers.tokens import NextToken
from pangen.space import Batch, Progress, Space

POSITIONS = ("learned", "sinusoidal", "rotary")
WORDS = Space("tokens", (5,), levels=3)
GREY = Space("tokens", (1, 2, 2), levels=3)
SETTINGS = [{"positions": p, "tied": t} for p in POSITIONS for t in (True, False)]


def shaken(model):
    """Weights far enough from their start that every term counts."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    return model.eval().requires_grad_(False)


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -- the model ------------------------------------------------------------------------------------


def test_gpt_is_gpt2():
    """With GPT-2's weights in the places of ours: what GPT-2 predicts after a first token of its own."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    L, K = 12, 19
    config = transformers.GPT2Config(
        vocab_size=K + 1, n_positions=L, n_embd=32, n_layer=3, n_head=4, activation_function="gelu",
        resid_pdrop=0, embd_pdrop=0, attn_pdrop=0,
    )  # fmt: skip
    theirs = transformers.GPT2LMHeadModel(config).eval()
    ours = GPT(Space("tokens", (L,), levels=K), width=32, depth=3, heads=4, dropout=0).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        ours.before.label.weight.zero_()
        ours.before.embed[0].weight.copy_(theirs.transformer.wte.weight)
        ours.position.copy_(theirs.transformer.wpe.weight)
        places = {"norm1": "ln_1", "norm2": "ln_2", "attention.qkv": "attn.c_attn"}
        places |= {"attention.project": "attn.c_proj", "widen": "mlp.c_fc", "narrow": "mlp.c_proj"}
        for block, other in zip(ours.transformer.blocks, theirs.transformer.h, strict=True):
            for name, place in places.items():
                mine, its = block.get_submodule(name), other.get_submodule(place)
                mine.weight.copy_(its.weight.T if isinstance(mine, nn.Linear) else its.weight)
                mine.bias.copy_(its.bias)
        ours.transformer.norm.load_state_dict(theirs.transformer.ln_f.state_dict())
        x = torch.randint(K, (4, L), generator=noise())
        first = torch.full((4, 1), K)  # the token that stands where there is none
        expected = theirs(torch.cat([first, x[:, :-1]], 1)).logits[..., :K]
        assert torch.allclose(ours.logits(x, None), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("space", [WORDS, GREY], ids=["words", "grey"])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_every_setting_sums_to_one_and_goes_on_from_its_cache(settings, space):
    model = shaken(GPT(space, width=16, depth=2, **settings))
    x = torch.tensor(list(itertools.product(range(3), repeat=space.dims))).view(-1, *space.shape)
    assert abs(float(model.log_prob(x).nats.double().exp().sum()) - 1) < 1e-5  # float32 sums of 243 terms
    tokens, cache = x.flatten(1)[::20], None
    full = model.logits(tokens, None)
    for t in (0, 1, 3):
        logits, cache = model.next_logits(tokens[:, :t], cache)
        assert torch.allclose(logits, full[:, t], atol=1e-5, rtol=1e-5)


def test_what_belongs_to_no_example_costs_nothing():
    """Padding has no say in the likelihood of the tokens before it, in the loss, or in the bias at the start."""
    for family in (GPT, RNN):
        model = shaken(family(WORDS, width=16, dropout=0.0))
        x = torch.tensor([[0, 1, 2, 3, 3], [2, 1, 3, 3, 3]])
        first = torch.stack([model.next_logits(x[:, :t])[0].log_softmax(1) for t in range(3)], 1)
        of = first.gather(2, x[:, :3, None].clamp(max=2))[..., 0]
        expected = torch.stack([of[0].sum(), of[1, :2].sum()])
        assert torch.allclose(model.log_prob(x).nats, expected, atol=1e-5)
        loss = float(model.loss(Batch(x), Progress(0, 1)).total)
        assert loss == pytest.approx(-float(expected.mean()) / WORDS.dims, abs=1e-5)
        frequency = model.log_frequency(x, pooled=True).exp()
        # five tokens and, at each of five places, one of each kind
        assert torch.allclose(frequency, torch.tensor([[6.0, 7.0, 7.0]]) / 20)


@pytest.mark.parametrize("positions", POSITIONS)
def test_bfloat16_rounds_training_alone(positions):
    """The loss and its gradient to the 8 bits that are left; likelihoods are the same to the last bit."""
    space, losses, slopes, nats = Space("tokens", (12,), levels=7), [], [], []
    x = torch.randint(7, (8, 12), generator=noise())
    for precision in ("full", "bfloat16"):
        torch.manual_seed(0)
        model = GPT(space, width=16, dropout=0.0, positions=positions, precision=precision).train()
        loss = model.loss(Batch(x), Progress(0, 1)).total
        loss.backward()
        losses.append(float(loss.detach()))
        slopes.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
        nats.append(model.eval().log_prob(x).nats.detach())
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=2**-8)
    assert float((slopes[0] - slopes[1]).norm() / slopes[0].norm()) < 0.02  # a few roundings of 2^-9 each
    assert torch.equal(*nats)


# -- positions ------------------------------------------------------------------------------------


def test_sinusoids_are_their_formula():
    table = sinusoids(50, 6)
    for t, i in itertools.product((0, 1, 7, 49), range(3)):
        angle = t / 10_000 ** (2 * i / 6)
        # float32 of numbers up to 1
        assert float(table[t, 2 * i]) == pytest.approx(math.sin(angle), abs=1e-6)
        assert float(table[t, 2 * i + 1]) == pytest.approx(math.cos(angle), abs=1e-6)
    assert sinusoids(4, 5).shape == (4, 5)


def test_a_shift_of_sinusoids_is_a_rotation():
    """PE(t + k) = M_k PE(t), one matrix for all t: found from four places, it holds at all others."""
    table, k = sinusoids(64, 4).double(), 5
    matrix = torch.linalg.lstsq(table[:32], table[k : 32 + k]).solution
    assert torch.allclose(table[:-k] @ matrix, table[k:], atol=1e-5)
    assert torch.allclose(matrix @ matrix.T, torch.eye(4, dtype=torch.float64), atol=1e-4)


def test_rotary_scores_depend_on_the_distance_alone():
    turn = Rotary(40, 8)
    q, k = torch.randn(2, 8, generator=noise())
    score = turn(q.expand(40, 8)) @ turn(k.expand(40, 8)).T
    for distance in (-7, 0, 3):
        same = score.diagonal(distance)
        assert torch.allclose(same, same[:1].expand_as(same), atol=1e-5)
    assert score.std() > 0.1
    assert torch.equal(turn(q.expand(3, 8), first=11), turn(q.expand(40, 8))[11:14])


@pytest.mark.parametrize("positions", POSITIONS)
def test_positions_tell_the_order(positions):
    """Without them a block would see a set: two past tokens changed round must matter to the third."""
    model = shaken(GPT(WORDS, width=16, depth=1, positions=positions))
    a, b = (model.next_logits(torch.tensor([tokens]))[0] for tokens in ([0, 1, 2], [1, 0, 2]))
    assert not torch.allclose(a, b, atol=1e-3)


# -- drawing --------------------------------------------------------------------------------------


class Watched(nn.Module):
    """Keeps the logits that another model gives."""

    def __init__(self, model):
        super().__init__()
        self.model, self.seen = model, []

    def next_logits(self, tokens, cache=None, y=None):
        logits, cache = self.model.next_logits(tokens, cache, y)
        self.seen.append(logits)
        return logits, cache


@pytest.mark.parametrize("prompt", [None, [0, 1], [2] * 11], ids=["empty", "short", "long"])
@pytest.mark.parametrize("family", [*POSITIONS, "rnn"])
def test_beyond_the_context_the_cache_changes_nothing(family, prompt):
    """Same tokens, and logits equal to 1e-5, over three fillings of the context."""
    space = Space("tokens", (9,), levels=6)
    model = shaken(RNN(space, width=16) if family == "rnn" else GPT(space, width=16, positions=family))
    drawn, logits = [], []
    for cached in (True, False):
        watched = Watched(model)
        steps = NextToken(cached=cached, repetition=1.1).stream(
            watched, 16, 25, prompt=None if prompt is None else torch.tensor(prompt), context=9, generator=noise(3)
        )  # fmt: skip
        drawn.append(torch.stack([step.token for step in steps], 1))
        logits.append(torch.stack(watched.seen, 1))
    assert torch.equal(*drawn)
    assert torch.allclose(*logits, atol=1e-5, rtol=1e-5)


def test_a_full_context_leaves_its_last_half():
    seen = []

    class Model:
        def next_logits(self, tokens, cache=None, y=None):
            seen.append((tokens.shape[1], cache is None))
            return torch.zeros(len(tokens), 4), True

    list(NextToken().stream(Model(), 2, 12, context=6, generator=noise()))
    assert [length for length, _ in seen] == [0, 1, 2, 3, 4, 5, 3, 4, 5, 3, 4, 5]
    assert [fresh for _, fresh in seen] == [True] + [False] * 5 + [True, False, False] * 2


def test_a_longer_text_begins_as_a_shorter_one():
    model = shaken(GPT(Space("tokens", (9,), levels=6), width=16))
    short, long = (
        torch.stack([s.token for s in NextToken().stream(model, 4, n, context=9, generator=noise())], 1)
        for n in (7, 20)
    )
    assert torch.equal(short, long[:, :7])


def test_repetition_lowers_what_was_there_by_the_power_it_says():
    """p(repeated) is raised to the power 2 and all are normalised, whatever constant the logits have."""
    p = torch.tensor([0.4, 0.3, 0.2, 0.1])
    expected = torch.tensor([0.16, 0.3, 0.04, 0.1])
    n = 20_000
    u = torch.rand(n, generator=noise())
    for shift in (0.0, 7.0):
        logits = (p.log() + shift).expand(n, -1)
        found = NextToken(repetition=2.0).choose(logits, u, torch.tensor([[0, 2, 0]]).expand(n, -1))
        share = torch.bincount(found, minlength=4) / n
        assert torch.allclose(share, expected / expected.sum(), atol=5 * 0.5 / n**0.5)  # five standard errors
    with pytest.raises(PangenError, match="repetition"):
        NextToken(repetition=0.5)


# -- codecs ---------------------------------------------------------------------------------------


def words(n: int, seed: int) -> tuple[str, ...]:
    """Strings of code points of every length in UTF-8, and of words."""
    pick = random.Random(seed)
    kinds = [(0x20, 0x7F), (0, 0x20), (0xA0, 0x800), (0x800, 0xD800), (0xE000, 0x10000), (0x10000, 0x110000)]

    def one() -> str:
        spelled = [chr(pick.randrange(*pick.choice(kinds))) for _ in range(pick.randrange(20))]
        return "".join(spelled) + pick.choice(["", " the cat", "\n\nthe  cat's 1234", "été "])

    return tuple(one() for _ in range(n))


@pytest.fixture(scope="module")
def lines() -> Data:
    return Data("lines", "text", *[Split(words(n, n)) for n in (200, 40, 41)])


@pytest.fixture(scope="module")
def stream() -> Data:
    """Windows of 12 characters, in which some are of several bytes."""
    text = "the cat sat on the mat; l'été à côté. " * 60
    parts = [tuple(part[i : i + 12] for i in range(0, len(part) - 11, 12)) for part in (text, text[5:300])]
    return Data("stream", "text", Split(parts[0]), Split(parts[1]), Split(parts[1]), window=12)


@pytest.mark.parametrize("codec", [Bytes, Subwords, Characters])
def test_text_comes_back_unchanged(codec, lines, stream):
    for data in (lines, stream):
        fitted = codec.fit(data)
        raw = data.train.x
        assert fitted.decode(fitted.encode(raw).x) == raw
        assert codec_from_json(fitted.to_json()) == fitted
        assert fitted.dims(raw) == sum(map(len, raw)) + (len(raw) if fitted.lines else 0)


@pytest.mark.parametrize("codec", [Bytes, Subwords])
def test_any_text_has_tokens(codec, stream):
    """Code points that the training split lacks, and empty text, too; half a surrogate pair is none."""
    pytest.importorskip("tokenizers")
    fitted = codec.fit(stream)
    for text in (*words(200, 7), "", "\x00", "<|endoftext|>"):
        assert fitted.text(fitted.tokens(text)) == text
    assert fitted.text([0xC3]) == "\ufffd"
    with pytest.raises(PangenError, match="surrogate"):
        fitted.tokens("a\ud800")


def test_letters_are_those_of_byte_level_bpe():
    tokenizers = pytest.importorskip("tokenizers")
    assert sorted(letters()) == sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    assert letters()[ord("a")] == "a"


def test_subwords_are_as_many_as_asked_and_learnt_from_training_text_alone(stream):
    fitted = Subwords.fit(stream, vocabulary=270)
    assert fitted.symbols == 270
    assert len(fitted.tokens("the cat sat on the mat")) < len("the cat sat on the mat")
    other = Data("other", "text", stream.train, Split(("xyzxyzxyzxyz",)), Split(("xyzxyzxyzxyz",)), window=12)
    assert Subwords.fit(other, vocabulary=270).merges == fitted.merges


def test_bits_per_dim_are_of_characters_for_every_codec(stream):
    """And log p of subwords is a lower bound: other tokens spell the same text."""
    for codec, kind in (("characters", "exact"), ("bytes", "exact"), ("bpe", "lower bound")):
        run = pangen.fit("ngram", stream, codec=codec)
        assert run.codec.dims(stream.test.x) == 12 * len(stream.test.x)
        found = run.log_prob(stream.test.x)
        assert found.kind == kind
        assert found.nats.isfinite().all()


def test_a_text_is_at_least_as_probable_as_its_canonical_tokens(stream):
    """Summed over every way to spell it, of a model small enough for that."""
    data = Data("tiny", "text", *[Split(("abab", "abba", "baab") * 9) for _ in range(3)], window=4)
    codec = Subwords.fit(data, vocabulary=258)
    spelled = [codec._spelled[t] for t in range(codec.symbols)]

    def ways(rest: bytes):
        if not rest:
            yield []
        for token, piece in enumerate(spelled):
            if rest.startswith(piece):
                yield from ([token, *others] for others in ways(rest[len(piece) :]))

    for text in ("abab", "baab"):
        every = list(ways(text.encode()))
        longest = max(map(len, every))
        wide = Space("tokens", (longest,), codec.symbols)
        model = shaken(GPT(wide, width=16))
        x = torch.tensor([way + [codec.symbols] * (longest - len(way)) for way in every])
        nats = model.log_prob(x).nats
        canonical = nats[every.index(codec.tokens(text))]
        assert len(every) > 1
        assert canonical < nats.logsumexp(0) <= 0


def test_codec_settings_are_recipe_fields(stream):
    fields = {"codec.vocabulary": 300, "model.width": 16, "training.validations": 1}
    run = pangen.fit("gpt", stream, codec="bpe", steps=2, recipe=fields)
    assert run.recipe.codec == {"name": "bpe", "vocabulary": 300}
    assert run.codec.symbols <= 300
    for wrong, match in (
        ({"codec.vocabulary": 10}, "'codec.vocabulary' = 10"),
        ({"codec.vocabular": 300}, "did you mean 'codec.vocabulary'"),
    ):
        with pytest.raises(PangenError, match=match):
            pangen.fit("gpt", stream, codec="bpe", steps=2, recipe=wrong)
    with pytest.raises(PangenError, match="no settings"):
        pangen.fit("gpt", stream, steps=2, recipe={"codec.vocabulary": 300})
