"""Series and sound as rows of real numbers: codecs whose likelihoods are of the data, and models behind them."""

import math

import pytest
import torch

import pangen
from pangen.codecs.series import Columns, Scale
from pangen.codecs.sound import LEVELS, MuLaw, Waveform, amplitude
from pangen.data import Data, Split
from pangen.data.series import Clock, Series, series_data
from pangen.errors import PangenError
from pangen.tasks.latent import decode, encode, interpolate, mean_squared_error

CLIPS = (torch.tensor([0.1, -0.5, 1.0]), torch.empty(0), torch.tensor([-1.0, 0.0, 0.25, 0.3, -0.2]))


def test_a_waveform_is_the_mu_laws_levels_on_a_grid():
    """The same levels in the same place, so that probabilities and bits a sample can be compared."""
    wave, law = (codec(rate=8000, length=6, ends=True) for codec in (Waveform, MuLaw))
    x, volume = wave.encode(CLIPS)
    tokens = law.encode(CLIPS).x
    assert not volume.any()
    assert x.shape == (3, *wave.space.shape) == (3, 2, 6)
    assert wave.space.is_grid
    assert wave.space.levels == LEVELS
    levels = (x[:, 0] + 1) * (255 / 2)
    assert torch.allclose(levels, levels.round(), atol=1e-4)
    assert torch.equal(levels.round().long()[tokens < LEVELS], tokens[tokens < LEVELS])
    assert torch.equal(x[:, 1], torch.where(tokens < LEVELS, 1.0, -1.0))
    assert wave.dims(CLIPS) == law.dims(CLIPS) == 8 + 3
    once = wave.decode(x)
    assert all(map(torch.equal, once, law.decode(tokens)))
    assert all(map(torch.equal, once, wave.decode(wave.encode(once).x)))
    assert torch.equal(wave.ready(CLIPS, "cpu")(torch.tensor([2, 0])), x[[2, 0]])
    with pytest.raises(PangenError, match="--seconds"):
        wave.encode((torch.zeros(6),))


def test_clips_of_one_length_have_no_end():
    codec = Waveform(rate=8000, length=3, ends=False)
    assert codec.space.shape == (1, 3)
    assert [len(clip) for clip in codec.decode(3 * torch.randn(4, 1, 3))] == [3] * 4


def test_an_end_is_where_it_fits_best():
    """A doubtful number in the middle of a clip does not cut it off."""
    codec = Waveform(rate=8000, length=6, ends=True)
    lasting = torch.tensor([[1.1, 0.9, -0.2, 1.0, -0.9, -1.0], [-1.0, -1.0, 0.3, -1.0, -1.0, -1.0]])
    clips = codec.decode(torch.stack([torch.zeros(2, 6), lasting], 1))
    assert [len(clip) for clip in clips] == [4, 0]
    assert float(clips[0].abs().max()) <= float(amplitude(torch.tensor(128.0)))  # silence


def test_columns_have_mean_0_and_scale_1_and_their_volume():
    values = torch.randn(2, 300) * torch.tensor([[3.0], [0.5]]) + torch.tensor([[10.0], [-1.0]])
    data = series_data("two", Series(values, ("a", "b"), Clock()), 10)
    codec = Columns.fit(data)
    assert not Scale.applies(data)  # which is of one column
    raw = data.test.x[:3]
    x, volume = codec.encode(raw)
    train = codec.encode(data.train.x[::10]).x
    assert train.mean((0, 2)).tolist() == pytest.approx([0, 0], abs=0.02)
    assert train.std((0, 2)).tolist() == pytest.approx([1, 1], abs=0.02)
    slope = -10 * sum(math.log(std) for std in codec.std)
    assert volume.tolist() == pytest.approx([slope] * 3, rel=1e-6)
    assert torch.allclose(codec.decode(x), raw, atol=1e-5)


@pytest.fixture(scope="module")
def tones():
    """A model of short tones that differ in length."""
    clips = [torch.sin(0.3 * torch.arange(6.0 + i % 9)) / 2 for i in range(60)]
    parts = (Split(tuple(clips[a:b])) for a, b in ((0, 40), (40, 50), (50, 60)))
    data = Data("tones", "sound", *parts, rate=8000)
    small = {"model.width": 16, "model.chain": 2, "training.validations": 1}
    return pangen.fit("ddpm", data, steps=2, device="cpu", recipe=small), data


def test_sound_has_codes_and_comes_back_from_them(tones):
    """Up to the solver's tolerance, ends too; silence counts where a clip has ended."""
    run, data = tones
    clips = data.test.x
    z = encode(run, clips)
    assert z.shape == (10, 2 * 15)
    again = decode(run, z)
    assert [len(clip) for clip in again] == [len(clip) for clip in clips]
    assert mean_squared_error(run, clips, again) < 1e-3
    assert mean_squared_error(run, clips[:1], (torch.zeros(1),)) == pytest.approx(
        float(clips[0].square().mean()), rel=1e-5
    )
    rows = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True, padding_value=math.nan)
    assert torch.equal(encode(run, rows), z)  # as an array holds them
    way = interpolate(run, clips[0], clips[4], 3)
    assert [len(way[0]), len(way[2])] == [len(clips[0]), len(clips[4])]
    with pytest.raises(PangenError, match="from -1 to 1"):
        encode(run, (2 * torch.ones(5),))


def test_sound_is_judged_by_what_comes_back(tones):
    found = pangen.evaluate(*tones, samples=12)
    assert found["latent"]["error"]["unit"] == "mean square, log-mel spectrograms"
    assert found["likelihood"]["bits_per_dim"] > 0
