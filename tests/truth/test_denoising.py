"""Members of the diffusion family: their losses, couplings, likelihoods, codes and ways of sampling."""

import itertools
import math

import pytest
import torch
from denoisers import Mixture, generator

from pangen.errors import PangenError
from pangen.families.diffusion.ddpm import DDPM
from pangen.families.diffusion.edm import EDM, SIGMA_MAX, SIGMA_MIN
from pangen.families.diffusion.flow_matching import FlowMatching
from pangen.families.diffusion.score import Score
from pangen.networks.preconditioning import V
from pangen.samplers.coupling import optimal
from pangen.space import Batch, Progress, Space, class_space

PLANE = Space("real", (2,))
MEMBERS = [DDPM, EDM, Score, FlowMatching]
every_member = pytest.mark.parametrize("family", MEMBERS)


def member(family, space: Space = PLANE, **settings):
    """With weights that are not those of the start, where all outputs are 0."""
    torch.manual_seed(0)
    model = family(space, width=16, **settings)
    model.initialize(Batch(1 + 2 * torch.randn(500, *space.shape)))
    torch.nn.init.normal_(model.net.net.net.head.weight, std=0.1)
    return model.eval().requires_grad_(False)


# -- losses -----------------------------------------------------------------------------------------


def test_preconditioning_is_table_1():
    """Karras et al. 2022, the last column, with sigma_data = 1; the sign of F is free."""
    sigma = torch.logspace(-2, 2, 9, dtype=torch.float64)
    c_skip, c_out = V.coefficients(sigma)
    assert torch.allclose(c_skip, 1 / (sigma**2 + 1))
    assert torch.allclose(-c_out, sigma / (sigma**2 + 1).sqrt())
    weight = (sigma**2 + 1) / sigma**2  # lambda(sigma)
    assert torch.allclose(weight * c_out**2, torch.ones(9).double())
    assert (
        EDM(PLANE, width=16).schedule(torch.tensor(0.5), torch.tensor(SIGMA_MIN), torch.tensor(SIGMA_MAX))
        == 0.6
    )
    assert math.exp(-1.2) / 0.5 == pytest.approx(0.6, abs=0.01)


def drawn(model, x: torch.Tensor):
    """The loss, and what it was made of: unit examples, levels and noise."""
    torch.manual_seed(5)
    loss = model.loss(Batch(x), Progress(0, 1)).total
    torch.manual_seed(5)
    t = (torch.rand(()) + torch.arange(len(x)) / len(x)) % 1
    sigma, e = model.schedule(t, model.low, model.high), torch.randn_like(x)
    return loss.item(), model.net.unit(x), sigma[:, None], e


def test_score_matching():
    """lambda |s - grad log p(x_t given x0)|^2 with lambda the noise's variance (Song et al. 2021b, Eq. 7)."""
    for sde in ("ve", "vp", "subvp"):
        model, x = member(Score, sde=sde), 1 + 2 * torch.randn(64, 2)
        found, x0, sigma, e = drawn(model, x)
        scale = model.net.scale
        s = model.score(model.net.data(x0 + sigma * e), (sigma * scale)[:, 0])  # of x, not of unit x
        expected = ((sigma * scale) ** 2 * (s + e / (sigma * scale)).square()).mean()
        assert found == pytest.approx(expected.item(), rel=2e-3)  # float32 at sigma down to 0.01


def test_flow_matching():
    """|v - (e - x0)|^2 at x_t = (1 - t) x0 + t e (Lipman et al. 2023, Eq. 23)."""
    model, x = member(FlowMatching), 1 + 2 * torch.randn(64, 2)
    found, x0, sigma, e = drawn(model, x)
    t = sigma / (1 + sigma)
    line = (1 - t) * x0 + t * e
    v = (line - model.net.estimate(line / (1 - t), sigma[:, 0])) / t
    assert found == pytest.approx((v - (e - x0)).square().mean().item(), rel=2e-3)


# -- couplings --------------------------------------------------------------------------------------


def test_coupling_is_the_best_of_all_assignments():
    x0 = torch.randn(5, 3, generator=generator())
    torch.manual_seed(3)
    _, dealt = optimal(x0, None)
    torch.manual_seed(3)
    e = torch.randn(5, 3)
    costs = [(x0 - e[list(order)]).square().sum() for order in itertools.permutations(range(5))]
    assert (x0 - dealt).square().sum() == pytest.approx(min(costs).item(), rel=1e-6)
    assert torch.equal(dealt.sort(0).values, e.sort(0).values)


@pytest.mark.parametrize(
    "y", [torch.tensor([0, 1, 0, 1, 1]), torch.tensor([0.0, 1.0, 0.0, 1.0, 1.0])[:, None]]
)
def test_coupling_stays_within_a_label(y):
    x0, label = torch.randn(5, 3, generator=generator()), y.flatten()
    torch.manual_seed(3)
    _, dealt = optimal(x0, y)
    torch.manual_seed(3)
    e = torch.randn(5, 3)
    costs = [
        (x0 - e[list(order)]).square().sum()
        for order in itertools.permutations(range(5))
        if torch.equal(label[list(order)], label)
    ]
    assert (x0 - dealt).square().sum() == pytest.approx(min(costs).item(), rel=1e-6)


def test_coupled_noise_allows_no_fresh_noise():
    model = member(FlowMatching, coupling="optimal")
    assert model.sample(2, sampler="ddim", steps=3).isfinite().all()
    for how in ({"sampler": "ancestral"}, {"churn": 1.0}, {"sampler": "ddim", "eta": 0.5}):
        with pytest.raises(PangenError, match="draw no more"):
            model.sample(1, **how)


# -- sampling ---------------------------------------------------------------------------------------


@every_member
def test_evaluations_are_those_it_makes(family):
    space = Space("real", (2,), condition=class_space(3))
    model, calls = member(family, space), []
    model.net.net.register_forward_hook(lambda *_: calls.append(1))
    for how in ({}, {"sampler": "heun", "steps": 4}, {"guidance": 2.0, "steps": 3}):
        calls.clear()
        model.sample(1, torch.tensor([1]), **how)
        twice = 2 if how.pop("guidance", 1) != 1 else 1
        assert len(calls) == twice * model.sampler(how.pop("sampler", None), **how).evaluations


@every_member
def test_the_first_samples_do_not_depend_on_how_many_are_drawn(family):
    model = member(family)
    for how in ({}, {"sampler": "adaptive", "tolerance": 1e-2}, {"sampler": "dpmpp-sde", "spacing": "log"}):
        assert torch.equal(model.sample(3, seed=2, **how), model.sample(70, seed=2, **how)[:3])


def test_guidance_needs_labels_and_moves_along_them():
    with pytest.raises(PangenError, match="trained without labels"):
        member(EDM).sample(1, guidance=2.0)
    model, y = member(EDM, Space("real", (2,), condition=class_space(3))), torch.tensor([0, 1, 2])
    null = model.space.no_condition(3)
    at = {w: model.sample(3, y, guidance=w, sampler="euler", steps=1) for w in (0.0, 1.0, 3.0)}
    assert torch.allclose(at[0.0], model.sample(3, null, sampler="euler", steps=1), atol=1e-5)
    assert torch.allclose(at[3.0], at[0.0] + 3 * (at[1.0] - at[0.0]), atol=1e-4)


def test_samples_stay_in_the_range_of_the_data_whatever_the_guidance():
    space = Space("real", (1, 2, 2), levels=5, condition=class_space(2))
    model = member(EDM, space)
    assert model.sample(4, torch.tensor([0, 1, 0, 1]), guidance=9.0, steps=4).abs().max() <= 1


def test_spacings_by_name():
    model = member(FlowMatching)
    low_high = model.sigma_min / float(model.net.scale), model.sigma_max / float(model.net.scale)
    t = torch.tensor(
        [s / (1 + s) for s in model.sampler(spacing="time", steps=5).spacing(5, *low_high).tolist()]
    )
    assert torch.allclose(t.diff(), t.diff().mean().expand(4), atol=1e-6)
    ratio = model.sampler(spacing="log", steps=5).spacing(5, *low_high).log().diff()
    assert torch.allclose(ratio, ratio.mean().expand(4))


# -- likelihoods and codes --------------------------------------------------------------------------


@pytest.mark.parametrize("family", [EDM, Score, FlowMatching])
def test_likelihood_with_the_exact_denoiser_is_the_density(family, monkeypatch):
    """By the exact trace in the plane: to 1e-2 nat."""
    model, truth = member(family).double(), Mixture()
    monkeypatch.setattr(model, "denoise", truth.denoise)
    x = torch.cat([truth.centres, 0.6 * torch.randn(5, 2, generator=generator(), dtype=torch.float64)])
    found = model.log_prob(x)
    assert found.kind == "exact"
    exact = truth.log_prob(x, model.sigma_min)
    start = 3 / model.sigma_max  # it starts around 0, not around the mean
    assert (found.nats - exact).abs().max() < 1e-2 + start


@pytest.mark.parametrize(("exact", "kind"), [(8, "lower bound"), (0, "estimate")])
def test_bound_of_levels_never_claims_more_than_all_probability(exact, kind):
    """The probabilities of all 27 pictures, in the mean over draws of noise."""
    space = Space("real", (1, 1, 3), levels=3)
    every = torch.tensor(list(itertools.product((-1.0, 0.0, 1.0), repeat=3))).view(-1, *space.shape)
    model = EDM(space, width=16, exact=exact)
    model.initialize(Batch(every))
    torch.nn.init.normal_(model.net.net.net.head.weight, std=0.1)
    model.eval().requires_grad_(False).tolerance = 1e-3
    found = [model.log_prob(every, generator=generator(i)) for i in range(3)]
    assert {f.kind for f in found} == {kind}
    assert 0 < torch.stack([f.nats for f in found]).mean(0).exp().sum().item() < 1


@every_member
def test_codes_lead_back(family):
    """There and back by the adaptive solver: nearer with a smaller tolerance."""
    model, x = member(family).double(), 1 + 2 * torch.randn(6, 2, generator=generator(), dtype=torch.float64)
    errors = []
    for model.tolerance in (1e-3, 1e-6):
        errors.append((model.decode(model.encode(x)) - x).abs().max().item())
    assert errors[1] < errors[0] / 10
    assert errors[1] < 1e-3
    assert model.encode(x).shape == (6, 2)
