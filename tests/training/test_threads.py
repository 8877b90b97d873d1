"""How many threads a training gets."""

from __future__ import annotations

import pytest
import torch

from pangen.families.adversarial.gan import GAN
from pangen.families.energy.rbm import RBM
from pangen.space import Batch, Space
from pangen.threads import WORTHWHILE, threads, useful_threads


@pytest.fixture
def _two_allowed():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def machine(visible: int, hidden: int) -> RBM:
    return RBM(Space("binary", (1, visible, 1), levels=2), width=hidden, chains=100, k=1)


@pytest.mark.usefixtures("_two_allowed")
def test_a_second_thread_only_for_large_products():
    """A step of CD on 100 examples is 4 products of 100 x V by V x H, each of 200 V H operations."""
    for hidden, expected in ((64, 1), (1024, 2)):
        rbm = machine(784, hidden)
        assert (200 * 784 * hidden >= WORTHWHILE) == (expected == 2)
        assert useful_threads(rbm, Batch(torch.zeros(100, 1, 784, 1))) == expected


@pytest.mark.usefixtures("_two_allowed")
def test_many_small_products_are_not_worth_a_second_thread():
    """A hundred of 200 x 64 x 64 x 2 operations are as much as a few large ones."""
    rbm = RBM(Space("binary", (1, 64, 1), levels=2), width=64, chains=100, k=100)
    assert 200 * 200 * 64 * 64 >= WORTHWHILE > 200 * 64 * 64
    assert useful_threads(rbm, Batch(torch.zeros(100, 1, 64, 1))) == 1


@pytest.mark.usefixtures("_two_allowed")
def test_counting_goes_with_gradient_penalties():
    gan = GAN(Space("real", (3,)), width=16)
    assert useful_threads(gan, Batch(torch.zeros(8, 3))) == 1


@pytest.mark.usefixtures("_two_allowed")
def test_a_limit_is_lifted_again_and_never_exceeds_what_is_allowed():
    with threads(1):
        assert torch.get_num_threads() == 1
        with threads(8):
            assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    with threads(None):
        assert torch.get_num_threads() == 2
