"""float64 from the first weight to the last sample, in memory and from the folder of a run."""

from __future__ import annotations

import pytest
import torch

import pangen
from pangen.data import Data, Split
from pangen.errors import PangenError
from pangen.run import check_precision, load_run


def vectors(n: int = 80) -> Data:
    noise = torch.randn(3, n, 2, generator=torch.Generator().manual_seed(0)) * 2 + 5
    return Data("vectors", "vector", *[Split(x) for x in noise])


def images(n: int = 80) -> Data:
    noise = torch.randint(4, (3, n, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    return Data("images", "image", *[Split(x.to(torch.uint8)) for x in noise], levels=4)


MODELS = {
    "realnvp": vectors, "ffjord": vectors, "tarflow": images, "vae": vectors, "made": images, "mixture": vectors,
}  # fmt: skip
"""Flows, and one of each other kind that has a likelihood."""


@pytest.mark.parametrize("name", MODELS)
def test_a_run_is_of_its_recorded_type(name, tmp_path):
    data = MODELS[name]()
    recipe = {"training.validations": 2}
    run = pangen.fit(name, data, steps=4, dtype="float64", device="cpu", out=tmp_path / "run", recipe=recipe)
    assert torch.get_default_dtype() == torch.float32
    again = load_run(tmp_path / "run", device="cpu")
    assert again.recipe.dtype == "float64"
    for model in (run.model, again.model):
        floats = [v.dtype for v in model.state_dict().values() if v.is_floating_point()]
        assert set(floats) == {torch.float64}
    samples = run.sample(3, seed=1)
    assert torch.equal(samples, again.sample(3, seed=1))
    assert samples.dtype == data.test.x.dtype
    if "log_prob" in run.entry.capabilities:
        nats = run.log_prob(data.test.x[:9]).nats
        assert torch.equal(nats, again.log_prob(data.test.x[:9]).nats)


def test_the_type_is_float32_unless_asked(tmp_path):
    run = pangen.fit("realnvp", vectors(), steps=2, device="cpu")
    assert run.recipe.dtype == "float32"
    assert run.model.flow.transform.parts[0].parts[0].b.dtype == torch.float32


def test_evaluation_respects_it():
    data = vectors()
    run = pangen.fit("realnvp", data, steps=4, dtype="float64", device="cpu")
    assert pangen.evaluate(run, data, samples=20)["likelihood"]["nats"] < 0


def test_an_unknown_type_is_one_sentence():
    with pytest.raises(PangenError, match=r"'dtype'.*float64"):
        pangen.fit("realnvp", vectors(), steps=2, dtype="float16", device="cpu")


def test_a_device_without_it_is_one_sentence():
    check_precision("float32", torch.device("mps"))
    with pytest.raises(PangenError, match="no float64"):
        check_precision("float64", torch.device("mps"))
