"""Ways between codes: end points, length, and what a straight way loses."""

import torch

from pangen.samplers.interpolation import spherical, straight


def codes(dims: int = 50) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(6, dims, generator=generator, dtype=torch.float64) for _ in range(2))


def test_both_ways_begin_and_end_at_the_codes():
    a, b = codes()
    for way in (straight, spherical):
        for t, end in ((torch.zeros(6), a), (torch.ones(6), b)):
            assert (way(a, b, t) - end).abs().max() < 1e-12


def test_the_sphere_keeps_what_a_chord_cuts_short():
    a, b = codes()
    half = torch.full((6,), 0.5)
    mean_length = (a.norm(dim=1) + b.norm(dim=1)) / 2
    assert (spherical(a, b, half).norm(dim=1) - mean_length).abs().max() < 1e-9
    assert (straight(a, b, half).norm(dim=1) < 0.85 * mean_length).all()  # near 1 / sqrt(2)


def test_equal_opposite_and_zero_codes_have_a_way():
    a, _ = codes()
    for b in (a, -a, torch.zeros_like(a)):
        assert spherical(a, b, torch.linspace(0, 1, 6)).isfinite().all()
    assert torch.allclose(spherical(a, a, torch.full((6,), 0.3)), a)
