"""WaveNet and the mu-law: sums to 1, causality and reach, rings against whole passes, the estimate of the loss."""

from __future__ import annotations

import itertools
import math
import time

import pytest
import torch

from pangen.codecs.sound import LEVELS, MuLaw, amplitude, compress, expand, quantise
from pangen.errors import PangenError
from pangen.families.autoregressive import wavenet
from pangen.families.autoregressive.wavenet import WaveNet
from pangen.samplers.tokens import NextToken, until_end
from pangen.space import Batch, Progress, Space, class_space

CLIPS = Space("tokens", (5,), levels=3, end=2)
WINDOWS = Space("tokens", (4,), levels=3, condition=class_space(2))
LONG = Space("tokens", (60,), levels=5, end=4, condition=class_space(2))
SHAPES = pytest.mark.parametrize(
    "shape", [{"dilations": 3, "cycles": 2}, {"dilations": 2, "cycles": 2, "kernel": 3}, {"dilations": 1, "cycles": 1}]
)  # fmt: skip


def shaken(space: Space, **settings) -> WaveNet:
    """Weights far enough from their start that every term counts."""
    torch.manual_seed(1)
    model = WaveNet(space, **{"channels": 6, "skip": 8, "dilations": 2, "cycles": 2, **settings})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def some(space: Space, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random examples, which end at chance, and labels, the null one among them."""
    x = torch.randint(space.levels, (n, *space.shape), generator=torch.Generator().manual_seed(0))
    x[0] = x[0].clamp(max=space.levels - 2)
    x = torch.where(until_end(x, space.end), x, space.end or 0)
    return x, torch.arange(n) % (space.classes + 1)


@pytest.mark.parametrize("space", [CLIPS, WINDOWS])
@torch.no_grad()
def test_all_sequences_together_have_probability_one(space):
    model = shaken(space)
    x = torch.tensor(list(itertools.product(range(space.levels), repeat=space.dims)))
    if space.end is not None:
        x = torch.where(until_end(x, space.end), x, space.end).unique(dim=0)
    for y in (None, *range(space.classes + 1 if space.classes else 0)):
        labels = None if y is None else torch.full((len(x),), y)
        # float32 sums of some hundred terms
        assert abs(float(model.log_prob(x, labels).nats.double().exp().sum()) - 1) < 1e-5


@SHAPES
def test_a_sample_depends_on_those_in_reach_and_on_no_other(shape):
    """The Jacobian of logits by what is read: R = 1 + (kernel - 1) cycles (2^dilations - 1) before, none after."""
    model = shaken(Space("tokens", (24,), levels=4), **shape).double()
    R = 1 + (shape.get("kernel", 2) - 1) * shape["cycles"] * (2 ** shape["dilations"] - 1)
    assert model.reach == R
    told = model.told(None, 1)
    values = torch.randn(1, 6, 24 + R, dtype=torch.double)  # place t + R holds token t, before them none
    past = model.stack.start(torch.zeros(1, 6, 1, dtype=torch.double), told)

    def logits(read: torch.Tensor) -> torch.Tensor:
        return model.show(model.stack(read, told, [part.clone() for part in past]))

    jacobian = torch.autograd.functional.jacobian(logits, values)[0, :, :, 0].abs().sum((1, 2)) > 0
    back = torch.arange(24 + R)[:, None] - torch.arange(24 + R)
    assert torch.equal(jacobian, (back >= 0) & (back < R))


@SHAPES
@torch.no_grad()
def test_rings_are_the_whole_pass(shape):
    """Logits, from any place on and several tokens at once; the rings turn many times."""
    model = shaken(LONG, **shape)
    x, y = some(LONG, 4)
    x = x.clamp(max=3)
    full, cache = model.logits(x, y), None
    for t in range(60):
        logits, cache = model.next_logits(x[:, :t], cache, y)
        assert torch.allclose(logits, full[:, t], atol=1e-5)
    _, cache = model.next_logits(x[:, :17], None, y)
    assert torch.allclose(model.next_logits(x[:, :29], cache, y)[0], full[:, 29], atol=1e-5)


@SHAPES
def test_cached_samples_are_uncached_samples(shape):
    model = shaken(LONG, **shape)
    draws = [
        list(NextToken(cached=cached)(model, 6, 60, end=4, generator=torch.Generator().manual_seed(3)))[-1]
        for cached in (True, False)
    ]
    assert torch.equal(*draws)


@torch.no_grad()
def test_pieces_are_the_whole(monkeypatch):
    """A likelihood that is computed in pieces is that of the sequence, and of each row by itself."""
    model = shaken(LONG)
    x, y = some(LONG, 5)
    whole = (model.nats(model.logits(x, y), x)).sum(1)
    monkeypatch.setattr(wavenet, "PIECE", 7)
    found = model.log_prob(x, y).nats
    assert torch.allclose(found, whole, atol=1e-4)
    assert torch.equal(found[2:3], model.log_prob(x[2:3], y[2:3]).nats)


@pytest.mark.parametrize("crop", [7, 100])
@torch.no_grad()
def test_the_loss_estimates_nats_a_sample_without_bias(crop):
    model = shaken(LONG, crop=crop, unlabelled=0.0)
    x, y = some(LONG, 4)
    true = -model.log_prob(x, y).nats.sum() / until_end(x, 4).sum()
    draws = torch.stack(
        [model.loss(Batch(x, y), Progress(0, 1)).total for _ in range(300 if crop < 60 else 1)]
    )
    # four standard errors; with whole sequences there is nothing to estimate
    assert abs(draws.mean() - true) < (4 * draws.std() / len(draws) ** 0.5 if len(draws) > 1 else 1e-5)


def test_training_hides_some_labels():
    model = shaken(LONG, unlabelled=1.0).train()
    x, _ = some(LONG, 4)
    a, b = (float(model.loss(Batch(x, torch.full((4,), y)), Progress(0, 1)).total.detach()) for y in (0, 1))
    assert a == b


@torch.no_grad()
def test_a_step_costs_the_same_however_many_came_before():
    """Late samples of a sequence take no longer than early ones, which a growing past would make them do."""
    model = shaken(Space("tokens", (4000,), levels=8), dilations=3, cycles=1)
    took = []
    began, steps = (
        time.process_time(),
        NextToken()(model, 1, 1500, generator=torch.Generator().manual_seed(0)),
    )
    for t, _ in enumerate(steps):
        if t % 500 == 499:
            took.append(time.process_time() - began)
            began = time.process_time()
    assert took[-1] < 2 * took[0]  # recomputing the past would be 5 times


def test_a_kernel_that_reaches_nothing_is_refused():
    with pytest.raises(PangenError, match="at least 2"):
        WaveNet(CLIPS, kernel=1)


def test_a_tone_is_learnt_to_its_entropy():
    """Clips of one of two pitches, told by the label: but for phase and length nothing is left to chance."""
    torch.manual_seed(0)
    space = Space("tokens", (48,), levels=16, condition=class_space(2))
    model = WaveNet(space, channels=8, skip=16, dilations=3, cycles=1, crop=48)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)

    def tones(n: int) -> Batch:
        y = torch.randint(2, (n,))
        wave = (torch.arange(48) * (0.5 + 0.4 * y[:, None]) + 6.28 * torch.rand(n, 1)).sin()
        return Batch(((wave + 1) * 7.5).round().long(), y)

    for step in range(100):
        optimizer.zero_grad()
        loss = model.loss(tones(16), Progress(step, 100)).total
        loss.backward()
        optimizer.step()
    assert (
        float(loss.detach()) < 0.7
    )  # of ln 16 = 2.8 nats; the next sample of a tone by its last alone leaves 1.2


def test_mu_law_is_the_formula_and_its_inverse():
    """ITU-T G.711 as van den Oord et al. (2016) have it: sign(x) ln(1 + 255 |x|) / ln 256."""
    x = torch.linspace(-1, 1, 2001, dtype=torch.double)
    assert torch.allclose(compress(x), x.sign() * torch.log(1 + 255 * x.abs()) / math.log(256), atol=1e-12)
    assert torch.allclose(expand(compress(x)), x, atol=1e-12)


def test_levels_round_trip_within_half_a_bin_keep_order_and_stay():
    x = torch.linspace(-1, 1, 20001, dtype=torch.double)
    level = quantise(x)
    assert level.min() == 0
    assert level.max() == LEVELS - 1
    assert (level.diff() >= 0).all()
    assert ((compress(amplitude(level.double())) - compress(x)).abs() <= 1 / 255 + 1e-9).all()
    every = torch.arange(LEVELS)
    assert torch.equal(quantise(amplitude(every.double())), every)
    assert torch.equal(quantise(amplitude(every.float())), every)  # as WAV files are read


def test_clips_pass_the_codec():
    """Idempotent: what was decoded is encoded and decoded to the last bit; ends and empty clips are kept."""
    codec = MuLaw(rate=8000, length=6, ends=True)
    clips = (torch.tensor([0.1, -0.5, 1.0]), torch.empty(0), torch.tensor([-1.0, 0.0, 0.25, 0.3, -0.2]))
    x, volume = codec.encode(clips)
    assert x[1].tolist() == [256] * 6
    assert not volume.any()
    once = codec.decode(x)
    twice = codec.decode(codec.encode(once).x)
    assert [len(clip) for clip in once] == [3, 0, 5]
    assert all(map(torch.equal, once, twice))
    assert codec.dims(clips) == 8 + 3
    assert torch.equal(codec.ready(clips, "cpu")(torch.tensor([2, 0])), x[[2, 0]])
    with pytest.raises(PangenError, match="--seconds"):
        codec.encode((torch.zeros(6),))
