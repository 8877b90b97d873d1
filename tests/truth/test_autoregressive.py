"""MADE, GPT and the token sampler: probabilities that sum to 1, causality, caches, cuts."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from pangen.errors import PangenError
from pangen.families.autoregressive.gpt import GPT
from pangen.families.autoregressive.made import MADE
from pangen.networks.masked import MaskedResidual
from pangen.networks.transformer import Attention, CausalTransformer
from pangen.samplers.tokens import NextToken, inverse_cdf, until_end
from pangen.space import Batch, Progress, Space, class_space

BINARY = Space("binary", (1, 2, 3), levels=2)
GREY = Space("tokens", (1, 2, 2), levels=4, condition=class_space(2))
COLOUR = Space("tokens", (2, 1, 2), levels=3)
WORDS = Space("tokens", (5,), levels=3)
LINES = Space("tokens", (4,), levels=3, end=2)


def shaken(model):
    """Weights far enough from their start that every term counts, and no outcome is certain."""
    torch.manual_seed(1)
    scale = 0.15 if isinstance(model, MADE) else 0.4
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(scale * torch.randn_like(parameter))
    return model.eval().requires_grad_(False)


def everything(space: Space) -> torch.Tensor:
    """Every example of a small space; of those with an end, each once."""
    levels = range(space.levels)
    x = torch.tensor(list(itertools.product(levels, repeat=space.dims)))
    if space.end is not None:
        x = torch.where(until_end(x, space.end), x, space.end).unique(dim=0)
    x = x.view(-1, *space.shape)
    return x.float() if space.kind == "binary" else x


@pytest.mark.parametrize("space", [BINARY, GREY, COLOUR])
@pytest.mark.parametrize("orderings", [1, 3])
def test_made_sums_to_one(space, orderings):
    """In every class and without one; the mixture of orderings averages probabilities."""
    model = shaken(MADE(space, width=16, orderings=orderings))
    x = everything(space)
    for y in (None, *range(space.classes + 1 if space.classes else 0)):
        labels = None if y is None else torch.full((len(x),), y)
        # float32 sums of some hundred terms
        assert abs(float(model.log_prob(x, labels).nats.double().exp().sum()) - 1) < 1e-5


@pytest.mark.parametrize("space", [GREY, COLOUR, WORDS, LINES])
def test_gpt_sums_to_one(space):
    model = shaken(GPT(space, width=16))
    x = everything(space)
    for y in (None, *range(space.classes + 1 if space.classes else 0)):
        labels = None if y is None else torch.full((len(x),), y)
        assert abs(float(model.log_prob(x, labels).nats.double().exp().sum()) - 1) < 1e-5


@pytest.mark.parametrize(("family", "space"), [(MADE, GREY), (GPT, GREY)])
def test_classes_differ_and_no_class_is_the_null(family, space):
    model, x = shaken(family(space, width=16)), everything(space)
    a, b, null = (model.log_prob(x, torch.full((len(x),), y)).nats for y in range(3))
    assert not torch.allclose(a, b, atol=0.1)
    assert torch.equal(model.log_prob(x).nats, null)


def test_made_sees_exactly_what_comes_before():
    """The Jacobian of outputs by inputs is zero where the rank is not smaller, and only there."""
    torch.manual_seed(0)
    ranks = torch.stack([torch.arange(6), torch.tensor([3, 0, 5, 1, 4, 2])])
    net = MaskedResidual(ranks, inputs=2, outputs=3, width=24, depth=2).double().eval()
    for ordering, rank in enumerate(ranks):
        x = torch.randn(1, 6, 2, dtype=torch.double)
        jacobian = torch.autograd.functional.jacobian(lambda v, o=ordering: net(v, ordering=o), x)
        seen = jacobian[0, :, :, 0].abs().sum((1, 3)) > 0  # (output dimension, input dimension)
        assert torch.equal(seen, rank[:, None] > rank[None])


@pytest.mark.parametrize("width", [4, 24])
@pytest.mark.parametrize("depth", [0, 2])
def test_made_step_by_step_is_made_in_one_pass(width, depth):
    """In every order, told a context or not, also where some ranks have no hidden unit of their own."""
    torch.manual_seed(0)
    ranks = torch.stack([torch.arange(6), torch.tensor([3, 0, 5, 1, 4, 2])])
    for context in (None, torch.randn(5, 3, dtype=torch.double)):
        told = 0 if context is None else 3
        net = MaskedResidual(ranks, inputs=2, outputs=3, width=width, depth=depth, context=told)
        net, x = net.double().eval().requires_grad_(False), torch.randn(5, 6, 2, dtype=torch.double)
        for ordering, rank in enumerate(ranks):
            cache, found = net.start(5, context, ordering), torch.empty(5, 6, 3, dtype=torch.double)
            for d in rank.argsort().tolist():
                found[:, d] = net.ahead(cache)
                net.advance(cache, x[:, d])
            assert torch.allclose(found, net(x, context, ordering))


@pytest.mark.parametrize("space", [GREY, COLOUR, WORDS])
def test_gpt_does_not_see_the_future(space):
    model = shaken(GPT(space, width=16))
    x = torch.randint(space.levels, (1, space.dims), generator=torch.Generator().manual_seed(0))
    logits = model.logits(x, None)
    for t in range(space.dims):
        changed = x.clone()
        changed[:, t] = (changed[:, t] + 1) % space.levels
        # other values at the same shape: equal to the last bit until t, different right after
        moved = (model.logits(changed, None) != logits).any(-1)[0]
        assert not moved[: t + 1].any()
        assert moved[t + 1 :].all()


@pytest.mark.parametrize("space", [GREY, COLOUR, WORDS, LINES])
def test_cache_is_the_full_forward(space):
    model = shaken(GPT(space, width=16, depth=3))
    x = torch.randint(space.levels, (7, space.dims), generator=torch.Generator().manual_seed(0))
    y = torch.arange(7) % (space.classes + 1)
    full, cache = model.logits(x, y), None
    for t in range(space.dims):
        logits, cache = model.next_logits(x[:, :t], cache, y)
        assert torch.allclose(logits, full[:, t], atol=1e-5, rtol=1e-5)
    _, cache = model.next_logits(x[:, :1], None, y)  # three tokens at once, after one
    assert torch.allclose(model.next_logits(x[:, :3], cache, y)[0], full[:, 3], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("space", [GREY, WORDS, LINES])
def test_cached_samples_are_uncached_samples(space):
    model, y = shaken(GPT(space, width=16)), None
    draws = [
        list(
            NextToken(cached=cached)(
                model, 50, space.dims, y, end=space.end, generator=torch.Generator().manual_seed(3)
            )
        )[-1]
        for cached in (True, False)
    ]
    assert torch.equal(*draws)


@pytest.mark.parametrize("reads", ["itself", "its past", "a memory", "a part of a memory"])
def test_attention_is_torchs(reads):
    torch.manual_seed(0)
    ours, oracle = Attention(16, 4), nn.MultiheadAttention(16, 4, batch_first=True)
    with torch.no_grad():
        oracle.in_proj_weight.copy_(ours.qkv.weight)
        oracle.in_proj_bias.copy_(ours.qkv.bias.normal_())
        oracle.out_proj.load_state_dict(ours.project.state_dict())
    x, memory = torch.randn(3, 9, 16), torch.randn(3, 7, 16)
    future = torch.ones(9, 9, dtype=torch.bool).triu(1)
    seen = torch.arange(7) < torch.tensor([[7], [3], [1]])
    found, expected = {
        "itself": lambda: (ours(x), oracle(x, x, x)),
        "its past": lambda: (ours(x, causal=True), oracle(x, x, x, attn_mask=future)),
        "a memory": lambda: (ours(x, memory), oracle(x, memory, memory)),
        "a part of a memory": lambda: (
            ours(x, memory, seen[:, None, None]), oracle(x, memory, memory, key_padding_mask=~seen),
        ),
    }[reads]()  # fmt: skip
    assert torch.allclose(found, expected[0], atol=1e-6)


def test_transformer_starts_as_gpt2_does():
    torch.manual_seed(0)
    net = CausalTransformer(256, 8, 4)
    for name, weight in net.named_parameters():
        if weight.dim() == 2:
            expected = 0.02 / 4 if name.endswith(("project.weight", "narrow.weight")) else 0.02
            assert abs(float(weight.detach().std()) / expected - 1) < 0.02  # 65,536 draws or more: 0.3 %


@pytest.mark.parametrize("family", [MADE, GPT])
def test_samples_follow_the_model(family):
    """Frequencies of all 256 images against their probabilities, by class: a chi-square test."""
    model, x = shaken(family(GREY, width=16)), everything(GREY)
    n = 8192
    y = torch.arange(n) % 2
    model.chunk = 1024
    drawn = model.sample(n, y, seed=0).flatten(1)
    place = (drawn * 4 ** torch.arange(3, -1, -1)).sum(1)
    for label in (0, 1):
        p = model.log_prob(x, torch.full((256,), label)).nats.double().exp()
        seen = torch.bincount(place[y == label], minlength=256)
        kept = p * n / 2 > 5
        chi2 = ((seen - p * n / 2) ** 2 / (p * n / 2))[kept].sum()
        degrees = kept.sum()
        assert degrees > 20
        assert chi2 < degrees + 4 * (2 * degrees) ** 0.5  # four standard deviations


def test_made_with_orderings_samples_their_mixture():
    model, x = shaken(MADE(BINARY, width=16, orderings=3)), everything(BINARY)
    model.chunk = 4096
    drawn = model.sample(4096, seed=0).flatten(1).long()
    seen = torch.bincount((drawn * 2 ** torch.arange(5, -1, -1)).sum(1), minlength=64)
    expected = model.log_prob(x).nats.double().exp() * 4096
    kept = expected > 5
    chi2 = ((seen - expected) ** 2 / expected)[kept].sum()
    assert chi2 < kept.sum() + 4 * (2 * kept.sum()) ** 0.5


@pytest.mark.parametrize(("family", "space"), [(MADE, GREY), (MADE, BINARY), (GPT, GREY), (GPT, LINES)])
def test_the_first_samples_do_not_depend_on_how_many(family, space):
    model = shaken(family(space, width=16))
    model.chunk = 8
    few, many = model.sample(5, seed=2), model.sample(20, seed=2)
    assert few.shape == (5, *space.shape)
    assert few.dtype == (torch.float32 if space.kind == "binary" else torch.int64)
    assert torch.equal(few, many[:5])
    assert not torch.equal(few, model.sample(5, seed=3))


def test_a_line_ends_once():
    """After the first end a sampled line holds ends, and what stands there has no say in its probability."""
    model = shaken(GPT(LINES, width=16))
    x = model.sample(40, seed=0)
    assert torch.equal(torch.where(until_end(x, 2), x, 2), x)
    a, b = torch.tensor([[0, 2, 2, 2]]), torch.tensor([[0, 2, 1, 0]])
    assert torch.equal(model.log_prob(a).nats, model.log_prob(b).nats)
    first = model.next_logits(a[:, :0])[0].log_softmax(1)[0, 0]
    second = model.next_logits(a[:, :1])[0].log_softmax(1)[0, 2]
    assert torch.allclose(model.log_prob(a).nats, first + second, atol=1e-5)


def test_training_hides_some_classes():
    """The null condition is learnt from examples whose class is hidden; with `unlabelled` 1 from all."""
    x, y = torch.zeros(16, 1, 2, 2, dtype=torch.long), torch.zeros(16, dtype=torch.long)
    for family in (MADE, GPT):
        model = shaken(family(GREY, width=16, unlabelled=1.0, dropout=0.0)).train()
        scale = 1 if family is MADE else GREY.dims
        loss = float(model.loss(Batch(x, y), Progress(0, 1)).total) * scale
        assert abs(loss + float(model.log_prob(x).nats.mean())) < 1e-4


class Fixed:
    """A model of text that predicts the same at each place."""

    def __init__(self, p: list[float]) -> None:
        self.logits = torch.tensor(p).log()

    def next_logits(self, tokens, cache=None, y=None):
        return self.logits.expand(len(tokens), -1), None


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        (NextToken(), [0.4, 0.3, 0.2, 0.1]),
        (NextToken(temperature=0.5), [16 / 30, 9 / 30, 4 / 30, 1 / 30]),  # squares
        (NextToken(temperature=0), [1, 0, 0, 0]),
        (NextToken(top_k=2), [4 / 7, 3 / 7, 0, 0]),
        (NextToken(top_p=0.65), [4 / 7, 3 / 7, 0, 0]),  # 0.4 does not reach it, 0.7 does
        (NextToken(top_p=0.75), [4 / 9, 3 / 9, 2 / 9, 0]),
        (NextToken(top_p=1e-9), [1, 0, 0, 0]),
    ],
)
def test_sharper_samplers_draw_from_what_they_say(sampler, expected):
    n, length = 200, 100
    tokens = list(sampler(Fixed([0.4, 0.3, 0.2, 0.1]), n, length, generator=torch.Generator().manual_seed(0)))
    seen = torch.bincount(tokens[-1].flatten(), minlength=4) / (n * length)
    # five standard errors of 20,000 draws
    assert torch.allclose(seen, torch.tensor(expected).float(), atol=5 * 0.5 / (n * length) ** 0.5)
    assert torch.equal(seen == 0, torch.tensor(expected) == 0)


def test_stopping_early_does_not_move_the_noise():
    """A row is the same beside rows that end at once and beside rows that never do."""

    class Ends(Fixed):
        def __init__(self, lively: torch.Tensor) -> None:
            super().__init__([0.4, 0.3, 0.2, 0.1])
            self.lively = lively

        def next_logits(self, tokens, cache=None, y=None):
            never = self.logits.clone()
            never[3] = -torch.inf
            at_once = torch.tensor([-torch.inf, -torch.inf, -torch.inf, 0.0])
            return torch.where(self.lively[:, None], never, at_once), None

    def rows(lively):
        states = NextToken()(Ends(lively), 4, 12, end=3, generator=torch.Generator().manual_seed(0))
        return list(states)

    alone, together = rows(torch.tensor([True, False, False, False])), rows(torch.ones(4, dtype=torch.bool))
    assert torch.equal(alone[-1][0], together[-1][0])
    assert len(rows(torch.zeros(4, dtype=torch.bool))) == 1


def test_inverse_cdf_never_takes_the_impossible():
    logits = torch.tensor([-torch.inf, 0.0, -torch.inf, 1.0, -torch.inf])
    u = torch.tensor([0.0, 0.2, 0.5, 1 - 2**-24])
    assert inverse_cdf(logits.expand(4, -1), u).tolist() == [1, 1, 3, 3]


def test_settings_that_cannot_be_are_refused():
    for settings in ({"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}):
        with pytest.raises(PangenError):
            NextToken(**settings)
    with pytest.raises(PangenError, match="multiple"):
        GPT(WORDS, width=10, heads=4)
