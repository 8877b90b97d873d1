"""Products of the faster library: the same numbers, gradients, and gradients of gradients."""

from __future__ import annotations

import time

import pytest
import torch

from pangen.networks import linear as module
from pangen.networks.linear import WORTHWHILE, Linear, is_wide, linear

if not torch.backends.mkldnn.is_available():
    pytest.skip("needs a torch with oneDNN", allow_module_level=True)


@pytest.fixture
def products(monkeypatch):
    """Lists the shapes that went to oneDNN, which is used whatever the processor."""
    found, apply = [], module._Product.apply
    monkeypatch.setattr(module, "onednn_is_faster", lambda: True)
    monkeypatch.setattr(module._Product, "apply", lambda *args: found.append(args[0].shape) or apply(*args))
    return found


def reference(*args):
    return torch.nn.functional.linear(*args)


@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_are_those_of_torch(products, bias):
    torch.manual_seed(0)
    x, layer = torch.randn(6, 50, 130, requires_grad=True), Linear(130, 70, bias=bias)
    inputs = (x, *layer.parameters())
    found, expected = layer(x), reference(x, *layer.parameters())
    assert len(products) == 1
    assert torch.allclose(found, expected, atol=1e-5)  # sums of 130 terms of order 0.1
    for weights in (torch.ones_like(found), torch.randn_like(found)):
        ours, theirs = (torch.autograd.grad(y, inputs, weights, retain_graph=True) for y in (found, expected))
        for a, b in zip(ours, theirs, strict=True):
            assert a.shape == b.shape
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-4)  # sums of 300 terms of order 1


def test_gradients_have_gradients(products):
    """A penalty on the gradient, as critics and scores need it."""
    torch.manual_seed(0)
    x, W = torch.randn(400, 90, requires_grad=True), torch.randn(80, 90, requires_grad=True)

    def penalty(layer):
        (g,) = torch.autograd.grad(layer(x, W).tanh().sum(), x, create_graph=True)
        return torch.autograd.grad(g.square().mean(), (x, W))

    for ours, theirs in zip(penalty(linear), penalty(reference), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-5)
    assert len(products) > 3


@pytest.mark.parametrize("moving", [(0,), (1,), (0, 1, 2)])
def test_derivatives_along_a_direction(products, moving):
    """Forward mode, in all factors or one, and the gradient of what it finds."""
    torch.manual_seed(0)
    factors = [torch.randn(shape, requires_grad=True) for shape in ((400, 90), (80, 90), (80,))]
    directions = tuple(torch.randn_like(factors[i]) for i in moving)

    def both(layer):
        def moved(*some):
            return layer(*(dict(zip(moving, some, strict=True)).get(i, f) for i, f in enumerate(factors)))

        _, found = torch.func.jvp(moved, tuple(factors[i] for i in moving), directions)
        gradients = torch.autograd.grad(found.square().mean(), factors, allow_unused=True)
        return found, *(torch.zeros(()) if g is None else g for g in gradients)

    for ours, theirs in zip(both(linear), both(reference), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4)
    assert products


def test_transposed_factors_are_the_same(products):
    a, W = torch.randn(200, 130), torch.randn(130, 200)
    assert torch.allclose(linear(a, W.T), a @ W, atol=1e-4)
    assert products


def test_small_and_other_numbers_stay_with_torch(products):
    few = WORTHWHILE // 10_000 - 1
    for x, W in (
        (torch.randn(few, 100), torch.randn(100, 100)),
        (torch.randn(400, 100).double(), torch.randn(100, 100).double()),
    ):
        assert torch.equal(linear(x, W), reference(x, W))
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(torch.randn(400, 100), torch.randn(100, 100)).dtype == torch.bfloat16
    assert not products


@pytest.mark.parametrize(
    ("vendor", "family", "wide"),
    [("AuthenticAMD", 25, False), ("AuthenticAMD", 26, True), ("GenuineIntel", 26, False)],
)
def test_only_processors_of_amd_that_multiply_512_bits_at_once_are_wide(vendor, family, wide):
    """Those before Zen 5 do it in two halves, and MKL is as fast on them."""
    assert is_wide(f"vendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: 17\n") == wide


def test_repeated_rows_are_multiplied_as_fast_as_others(products):
    """oneDNN has a path for them that takes a thousand times as long; here they may take ten times as long."""

    def seconds(x: torch.Tensor) -> float:
        x, W = x.requires_grad_(), torch.randn(256, 256, requires_grad=True)
        best = float("inf")
        for _ in range(5):
            began = time.perf_counter()
            linear(x, W).sum().backward()
            best = min(best, time.perf_counter() - began)
        return best

    row = torch.randn(1, 256)
    assert seconds(row.expand(256, -1)) < 10 * seconds(row.repeat(256, 1)) + 1e-3
    assert products
