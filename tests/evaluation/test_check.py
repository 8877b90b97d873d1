"""`check` finds what is right, and what is broken on purpose."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn

import pangen
from pangen.data import Data, Split
from pangen.errors import PangenError
from pangen.evaluation.check import INTERVALS, _states
from pangen.space import Space

SMALL = {"model.width": 16, "training.validations": 1}


def vectors(dims: int = 2, n: int = 60) -> Data:
    noise = torch.randn(3, n, dims, generator=torch.Generator().manual_seed(0)) * 0.5 + 3
    return Data("vectors", "vector", *[Split(x) for x in noise])


def bits(n: int = 40) -> Data:
    noise = torch.rand(3, n, 1, 2, 4, generator=torch.Generator().manual_seed(0)) < 0.3
    return Data("bits", "image", *[Split(x.to(torch.uint8)) for x in noise], levels=2)


def fitted(model: str, data: Data, **recipe):
    return pangen.fit(model, data, steps=5, device="cpu", recipe={**SMALL, **recipe})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_right_flow_passes(dtype):
    data = vectors()
    checks = pangen.check(fitted("realnvp", data, dtype=dtype), data)["checks"]
    total = checks["normalisation"]
    assert total["total"] == pytest.approx(1, abs=1e-3)
    assert total["coarse"] == pytest.approx(1, abs=1e-3)
    assert total["points"] == (INTERVALS + 1) ** 2
    assert checks["invertibility"]["float32"]["largest"] < 1e-4
    assert checks["invertibility"]["float64"]["largest"] < 1e-12
    assert checks["log_determinant"]["largest"] < 1e-10


def test_a_wrong_volume_is_found():
    """A log-determinant that is log 2 too large: p adds up to 2, and autograd disagrees."""
    data = vectors()
    run = fitted("realnvp", data)
    base = run.model.flow.transform

    class Wrong(nn.Module):
        def __init__(self, right: nn.Module) -> None:
            super().__init__()
            self.right, self.parts, self.inverse = right, right.parts, right.inverse

        def forward(self, x, context=None):
            z, log_det = self.right(x, context)
            return z, log_det + math.log(2)

    run.model.flow.transform = Wrong(base)
    checks = pangen.check(run, data)["checks"]
    assert checks["normalisation"]["total"] == pytest.approx(2, abs=2e-3)
    assert checks["log_determinant"]["largest"] == pytest.approx(math.log(2), abs=1e-6)


def test_a_wrong_inverse_is_found(monkeypatch):
    data = vectors(5)
    run = fitted("realnvp", data)
    decode = type(run.model.flow).decode
    monkeypatch.setattr(type(run.model.flow), "decode", lambda self, z, y=None: decode(self, z, y) + 0.25)
    checks = pangen.check(run, data)["checks"]
    assert checks["invertibility"]["float64"]["median"] == pytest.approx(0.25)
    assert "quadrature" in checks["normalisation"]["not checked"]


def test_a_small_discrete_space_is_enumerated():
    data = bits()
    result = pangen.check(fitted("made", data), data)
    total = result["checks"]["normalisation"]
    assert total == {"total": pytest.approx(1, abs=1e-5), "kind": "exact", "by": "enumeration", "points": 256}
    assert "no code" in result["checks"]["invertibility"]["not checked"]


def test_sequences_are_counted_once_each():
    """Of length up to 3 over one letter and an end: "", a, aa, aaa."""
    states = _states(Space("tokens", (3,), levels=2, end=1))
    assert sorted(states.tolist()) == [[0, 0, 0], [0, 0, 1], [0, 1, 1], [1, 1, 1]]
    grid = _states(Space("real", (1, 1, 2), levels=3))
    assert grid.shape == (9, 1, 1, 2)
    assert set(grid.flatten().tolist()) == {-1.0, 0.0, 1.0}


def test_a_continuous_flow_is_checked_up_to_its_tolerance():
    data = vectors(3)
    checks = pangen.check(fitted("ffjord", data), data)["checks"]
    assert checks["log_determinant"]["largest"] < 1e-3
    estimated = pangen.check(fitted("ffjord", data, **{"model.exact": 2}), data)["checks"]
    assert "estimated" in estimated["log_determinant"]["not checked"]


def test_nothing_to_check_is_one_sentence():
    data = vectors(5)
    with pytest.raises(PangenError, match="nothing to check of this gan: gan has no likelihood") as error:
        pangen.check(fitted("gan", data), data)
    assert "\n" not in str(error.value)


def test_results_are_json():
    data = vectors()
    assert json.loads(json.dumps(pangen.check(fitted("nice", data), data)))["model"] == "nice"
