"""Energy-based models under a rate that is far too large: one sentence, and weights that still sample."""

import pytest
import torch

import pangen
from pangen.data import Data, Split
from pangen.errors import PangenError


def bits(dims: int) -> Data:
    """Rows of stripes, in each of which all bits agree."""
    generator = torch.Generator().manual_seed(0)
    splits = [
        (torch.rand(n, 1, 1, 1, generator=generator) < 0.5).repeat(1, 1, 1, dims) for n in (200, 50, 50)
    ]
    return Data("bits", "image", *[Split(x.to(torch.uint8)) for x in splits], levels=2)


def vectors() -> Data:
    generator = torch.Generator().manual_seed(0)
    return Data("vectors", "vector", *[Split(torch.randn(n, 2, generator=generator)) for n in (200, 50, 50)])


@pytest.mark.parametrize(
    ("model", "data", "recipe"),
    [
        ("rbm", bits(12), {}),
        ("rbm", bits(40), {"model.width": 32}),
        ("boltzmann", bits(6), {}),
        ("boltzmann", bits(40), {}),
        ("dbm", bits(40), {"model.hidden": [32, 16]}),
        ("ebm", vectors(), {}),
    ],
    ids=["rbm-summed", "rbm", "boltzmann-summed", "boltzmann", "dbm", "ebm"],
)
def test_a_runaway_is_named_and_good_weights_are_kept(model, data, recipe, tmp_path):
    recipe = {"training.lr": 3e4, "training.schedule": "constant", "training.ema": 0.0, "training.validations": 30,
              "model.sweeps": 5, "model.temperatures": 10, **recipe}  # fmt: skip
    with pytest.raises(PangenError, match=r"(ran away|became \w+) at step \d+.*weights") as error:
        pangen.fit(model, data, steps=300, out=tmp_path / "run", device="cpu", recipe=recipe)
    assert "\n" not in str(error.value)
    run = pangen.load_run(tmp_path / "run", device="cpu")
    assert run.card["state"] == "failed"
    assert all(p.isfinite().all() for p in run.model.parameters())
    assert len(run.sample(2, sweeps=3)) == 2
