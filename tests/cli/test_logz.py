"""`pangen logz`, and what `pangen evaluate` says of chains."""

import pytest
import torch

import pangen as library
from pangen.data import Data, Split


@pytest.fixture
def energy_run(tmp_path):
    """A small machine, whose log Z is a sum, on random bits."""
    x = (torch.rand(120, 1, 3, 4, generator=torch.Generator().manual_seed(0)) < 0.3).to(torch.uint8)
    data = Data("bits", "image", Split(x[:80]), Split(x[80:100]), Split(x[100:]), levels=2)
    recipe = {"model.width": 6, "model.sweeps": 40, "model.temperatures": 100}
    library.fit("rbm", data, steps=30, out=tmp_path / "energy", device="cpu", recipe=recipe)
    return tmp_path / "energy"


def test_logz_is_a_sum_or_between_two_bounds(pangen, energy_run):
    exact = pangen("logz", energy_run, "--json").json
    assert set(exact) == {"log_z", "low", "high", "method"}
    assert exact["method"] == "exact"
    assert exact["low"] == exact["log_z"] == exact["high"]
    found = pangen("logz", energy_run, "--method", "ais", "--chains", 200, "--json").json
    assert found["method"] == "ais"
    assert found["low"] <= found["log_z"] <= found["high"]
    assert found["log_z"] == pytest.approx(exact["log_z"], abs=0.05)
    assert library.log_z(energy_run, "ais", chains=200) == found
    words = pangen("logz", energy_run).out
    assert words.startswith("log Z = ")
    assert "sum over states" in words
    assert "annealed importance sampling" in pangen("logz", energy_run, "--method", "ais").out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--method", "guess"], "unknown method 'guess'"),
        (["--chains", "1"], "at least 2"),
    ],
)
def test_logz_refuses_in_one_sentence(pangen, energy_run, argv, words):
    found = pangen("logz", energy_run, *argv)
    assert found.code == 2
    assert words in found.err
    assert found.err.count("\n") == 1


def test_logz_of_a_model_without_one(pangen, here):
    library.fit("nice", torch.randn(50, 2), steps=1, out=here / "nice", device="cpu")
    found = pangen("logz", "nice")
    assert found.code == 2
    assert "no energy-based model" in found.err


def test_logz_too_large_to_sum(pangen, here):
    x = torch.randint(2, (30, 1, 5, 5), dtype=torch.uint8)
    data = Data("bits", "image", Split(x[:20]), Split(x[20:25]), Split(x[25:]), levels=2)
    recipe = {"model.width": 20, "model.sweeps": 5, "model.temperatures": 5}
    library.fit("rbm", data, steps=1, out=here / "rbm", device="cpu", recipe=recipe)
    found = pangen("logz", "rbm", "--method", "exact")
    assert found.code == 2
    assert "too many to sum" in found.err
