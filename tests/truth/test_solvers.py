"""Samplers of a denoiser, on laws whose denoiser is known: orders, ends, noise, guidance, likelihood."""

import itertools
import math

import pytest
import torch
from denoisers import MEAN, STD, Constant, Gaussian, Mixture, end, generator
from torch import Tensor

from pangen.errors import PangenError
from pangen.samplers.choice import SAMPLERS, choose
from pangen.samplers.diffusion import DDIM, Ancestral, Multistep, PredictorCorrector
from pangen.samplers.guidance import Guided
from pangen.samplers.noise import geometric, in_time, spaced
from pangen.samplers.ode import DormandPrince
from pangen.samplers.probability_flow import carry, directions, log_density
from pangen.samplers.solvers import Adaptive, DPMSolver, Euler, Heun

LOG = in_time(geometric)
every_sampler = pytest.mark.parametrize("name", SAMPLERS)


def plane(n: int = 40) -> Tensor:
    return torch.randn(n, 2, generator=generator(), dtype=torch.float64)


def path_end(model: Mixture, noise: Tensor) -> Tensor:
    """The estimate at the end of the exact path."""
    low, high = model.sigma_min, model.sigma_max
    x = carry(model, noise * high, None, DormandPrince(1e-11, 4000), start=high, end=low, like=noise)
    return model.denoise(x, noise.new_full((len(x),), low))


# -- how fast they converge -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sampler", "order"),
    [(DDIM, 1), (Euler, 1), (Heun, 2), (DPMSolver, 2), (lambda **s: DPMSolver(order=3, **s), 3)],
    ids=["ddim", "euler", "heun", "dpmpp", "dpmpp-3m"],
)
def test_order_of_convergence(sampler, order):
    """Twice the steps divide the error by 2^order, on a law of several modes."""
    model, noise = Mixture(), plane()
    exact = path_end(model, noise)
    errors = [(end(sampler(steps=n, spacing=LOG), model, noise) - exact).norm() for n in (201, 401, 801)]
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert orders[-1] == pytest.approx(order, abs=0.15)  # tends to it with the steps
    assert abs(orders[-1] - order) < abs(orders[0] - order) + 0.05


def test_the_adaptive_solver_is_as_good_as_its_tolerance():
    model, noise = Mixture(), plane()
    errors = [(end(Adaptive(tol), model, noise) - path_end(model, noise)).abs().max() for tol in (1e-3, 1e-6)]
    assert errors[0] < 0.1  # it is relative too, and states begin at 100; later steps forgive
    assert errors[1] < 1e-4


def test_solvers_go_where_the_gaussian_path_goes():
    """Its end is known: the distance to the mean shrinks as the standard deviation does."""
    model, noise = Gaussian(), torch.randn(50, 3, generator=generator(), dtype=torch.float64)
    exact = MEAN + (noise * model.sigma_max - MEAN) * STD / (STD**2 + model.sigma_max**2).sqrt()
    for sampler, error in (
        (Heun(60), 0.02),
        (DPMSolver(60), 0.02),
        (DPMSolver(60, order=3), 0.003),
        (Adaptive(1e-5), 1e-4),
    ):
        assert (end(sampler, model, noise) - exact).abs().max() < error


# -- the same method in other coordinates -----------------------------------------------------------


def test_euler_is_ddim_and_eulers_method_on_straight_lines():
    """In x_t = (1 - t) x0 + t e, with dx/dt = (x_t - x0) / t."""
    model, noise = Mixture(), plane()
    found = end(Euler(20), model, noise)
    assert torch.allclose(found, end(DDIM(20), model, noise), atol=1e-12)
    times = [float(s / (1 + s)) for s in spaced(20, model.sigma_min, model.sigma_max)]
    x = noise * model.sigma_max * (1 - times[0])
    for t, following in itertools.pairwise([*times, 0.0]):
        x0 = model.denoise(x / (1 - t), torch.full((len(x),), t / (1 - t)).double())
        x = x + (following - t) * (x - x0) / t
    assert torch.allclose(found, x, atol=1e-12)


def in_vp(model: Mixture, steps: int) -> tuple[list[float], list[float]]:
    """sqrt(abar) and sqrt(1 - abar) of the levels."""
    alphas = [float((1 + s**2) ** -0.5) for s in LOG(steps, model.sigma_min, model.sigma_max)]
    return alphas, [(1 - a**2) ** 0.5 for a in alphas]


def test_ddim_is_eq_12_of_a_chain_that_keeps_the_variance():
    model, noise = Mixture(), plane()
    alphas, sigmas = in_vp(model, 15)
    x = noise * model.sigma_max * alphas[0]
    for (a, s), (b, r) in itertools.pairwise([*zip(alphas, sigmas, strict=True), (1.0, 0.0)]):
        x0 = model.denoise(x / a, torch.full((len(x),), s / a).double())
        eps = (x - a * x0) / s
        x = b * x0 + r * eps
    assert torch.allclose(end(DDIM(15, spacing=LOG), model, noise), x, atol=1e-10)


def test_the_multistep_solver_is_algorithm_2_of_its_paper():
    """Lu et al. 2022b, DPM-Solver++(2M), in the chain that keeps the variance."""
    model, noise = Mixture(), plane()
    alphas, sigmas = in_vp(model, 12)
    lambdas = [math.log(a / s) for a, s in zip(alphas, sigmas, strict=True)]
    x, estimates = noise * model.sigma_max * alphas[0], []
    for i in range(12):
        estimates.append(model.denoise(x / alphas[i], torch.full((len(x),), sigmas[i] / alphas[i]).double()))
        if i == 11:
            break
        h, D = lambdas[i + 1] - lambdas[i], estimates[i]
        if i:
            r = (lambdas[i] - lambdas[i - 1]) / h
            D = (1 + 1 / (2 * r)) * estimates[i] - 1 / (2 * r) * estimates[i - 1]
        x = sigmas[i + 1] / sigmas[i] * x - alphas[i + 1] * math.expm1(-h) * D
    found = end(DPMSolver(12, spacing=LOG), model, noise)
    assert torch.allclose(found, estimates[-1], atol=1e-10)


def test_special_cases_are_the_simpler_samplers():
    noise = torch.randn(20, 3, generator=generator())
    for special, simple in (
        (DDIM(13, eta=1.0), Ancestral(13)),
        (DPMSolver(13, order=1), DDIM(13)),
        (DPMSolver(13, order=1, noisy=True), Ancestral(13)),
        (PredictorCorrector(13, corrections=0), Ancestral(13)),
        (Heun(13, churn=5.0, s_min=100.0), Heun(13)),
        (Heun(1), DDIM(1)),
    ):
        a, b = (end(sampler, Gaussian(), noise) for sampler in (special, simple))
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6), special


# -- where they end ---------------------------------------------------------------------------------


@every_sampler
def test_samples_have_the_law_of_the_data(name):
    """Shares of the modes, and means and variances within them."""
    n = 6000
    model, noise = Mixture(), torch.randn(n, 2, generator=generator())
    usual = {"name": name, "steps": 30 if name in ("heun", "dpmpp", "dpmpp-3m") else 200}
    x = end(choose(name, usual, {}), model, noise).double()
    mode = torch.cdist(x, model.centres).argmin(1)
    for k, weight in enumerate(model.weights.tolist()):
        inside = x[mode == k]
        assert len(inside) / n == pytest.approx(weight, abs=4 * (weight * (1 - weight) / n) ** 0.5 + 0.005)
        error = model.std / len(inside) ** 0.5
        assert (inside.mean(0) - model.centres[k]).abs().max() < 4 * error + 0.02
        assert (inside.std(0) / model.std - 1).abs().max() < 4 / (2 * len(inside)) ** 0.5 + 0.03


def test_ancestral_steps_draw_from_the_posterior():
    """With x0 known, the state at each noise level has the mean and variance of the noising chain."""
    n, model = 40_000, Constant(0.8)
    noise = torch.randn(n, 1, generator=generator())
    end(Ancestral(8), model, noise)
    start = model.sigma_max
    for sigma, x in model.states:
        mean = 0.8 * (1 - (sigma / start) ** 2)  # the start is around 0, not around x0
        assert x.mean().item() == pytest.approx(mean, abs=4 * sigma / n**0.5)
        assert x.var().item() == pytest.approx(sigma**2, rel=4 * (2 / n) ** 0.5)


@pytest.mark.parametrize(
    ("sampler", "bias"),
    [
        (Ancestral(800), 0.02),
        (Ancestral(6, error=Gaussian().error), 0.0),  # with the variance of Bao et al. 2022, exact
        (DDIM(800, eta=0.5), 0.02),
        (Heun(100, churn=20.0), 0.02),
        (PredictorCorrector(400, ratio=0.3), 0.03),
    ],
)
def test_fresh_noise_keeps_the_law(sampler, bias):
    """At any number of steps where the variance is exact; else as steps grow."""
    n = 8000
    x = end(sampler, Gaussian(), torch.randn(n, 3, generator=generator()))
    assert torch.allclose(x.std(0) / STD, torch.ones(3), atol=4 * (1 / (2 * n)) ** 0.5 + bias)
    assert ((x.mean(0) - MEAN) / STD).abs().max() < 4 / n**0.5


def test_churn_goes_to_a_higher_level_and_adds_what_that_takes():
    n, model = 40_000, Constant(0.0)
    end(Euler(4, churn=1.0, s_noise=1.0), model, torch.randn(n, 1, generator=generator()))
    levels = spaced(4, model.sigma_min, model.sigma_max)
    for (sigma, x), level in zip(model.states, levels.tolist(), strict=True):
        assert sigma == pytest.approx(1.25 * level)
        assert x.std().item() == pytest.approx(sigma, rel=4 / (2 * n) ** 0.5)


# -- what each promises -----------------------------------------------------------------------------


@every_sampler
def test_evaluations_are_counted(name):
    sampler = choose(name, {"steps": 9}, {})
    model = Mixture()
    end(sampler, model, plane(3).float())
    assert sampler.evaluations in (model.calls, None)
    assert (sampler.evaluations is None) == (name == "adaptive")


@every_sampler
def test_a_row_does_not_depend_on_its_neighbours(name):
    sampler, noise = choose(name, {"steps": 9}, {}), plane(6)
    other = torch.cat([noise[:1], 3 * noise[1:].flip(0)])
    assert torch.equal(end(sampler, Mixture(), noise)[0], end(sampler, Mixture(), other)[0])


@every_sampler
def test_deterministic_samplers_draw_no_noise(name):
    sampler, noise = choose(name, {"steps": 9}, {}), plane(4)
    a, b = (list(sampler(Mixture(), noise, generator=generator(seed)))[-1] for seed in (1, 2))
    assert torch.equal(a, b) == sampler.deterministic


@every_sampler
def test_estimates_come_in_the_type_of_the_noise(name):
    states = list(choose(name, {"steps": 7}, {})(Mixture(), plane(2).float(), generator=generator(1)))
    assert len(states) == (1 if name == "adaptive" else 7)
    assert all(s.dtype == torch.float32 and s.shape == (2, 2) for s in states)


def test_settings_are_asked_of_samplers_that_have_them():
    assert choose("heun", {"steps": 18, "error": None}, {"churn": 3.0}) == Heun(18, churn=3.0)
    assert choose("ddim", {"steps": 18}, {"steps": 5, "eta": None}) == DDIM(5)
    with pytest.raises(PangenError, match="heun has no eta; ddim has"):
        choose("heun", {}, {"eta": 1.0})
    with pytest.raises(PangenError, match="did you mean 'heun'"):
        choose("huen", {}, {})
    with pytest.raises(PangenError, match="0 steps"):
        end(Heun(0), Mixture(), plane())
    assert Multistep((80.0, 1.0)).evaluations == 2


# -- guidance ---------------------------------------------------------------------------------------


class Labelled:
    """N(m, 1) given label m, and N(0, 1) without: guidance by w leads to N(w m, 1)."""

    sigma_min, sigma_max = 0.01, 50.0

    def denoise(self, x: Tensor, sigma: Tensor, y: Tensor | None = None) -> Tensor:
        mean = 0.0 if y is None else y[:, None]
        return mean + (x - mean) / (1 + sigma[:, None] ** 2)


def test_guidance_interpolates_and_goes_beyond():
    model, x, sigma, y = Labelled(), plane(5), torch.full((5,), 0.7).double(), torch.arange(5.0).double()
    null, given = model.denoise(x, sigma), model.denoise(x, sigma, y)
    assert torch.equal(Guided(model, 0.0).denoise(x, sigma, y), null)
    assert torch.allclose(Guided(model, 1.0).denoise(x, sigma, y), given, atol=1e-15)
    assert torch.allclose(Guided(model, 3.0).denoise(x, sigma, y), null + 3 * (given - null))


def test_guided_gaussians_move_by_the_weight():
    n, weight = 20_000, 2.5
    noise, y = torch.randn(n, 1, generator=generator()), torch.full((n,), 0.8)
    x = list(Heun(40)(Guided(Labelled(), weight), noise, y, generator=generator(1)))[-1]
    mean = weight * 0.8 * (1 - 1 / (1 + 50**2) ** 0.5)  # the start is around 0
    assert x.mean().item() == pytest.approx(mean, abs=4 / n**0.5 + 0.01)
    assert x.std().item() == pytest.approx(1, abs=4 / (2 * n) ** 0.5 + 0.01)


# -- there and back ---------------------------------------------------------------------------------


def test_encoding_and_back_err_less_with_more_steps():
    model = Mixture()
    x = model.centres + 0.3 * plane(3)
    errors = [(end(DDIM(n), model, DDIM(n).encode(model, x)) - x).norm() for n in (100, 200, 400)]
    assert [float(a / b) for a, b in itertools.pairwise(errors)] == pytest.approx([2, 2], rel=0.15)


def test_codes_of_data_are_standard_normal():
    model, n = Gaussian(), 10_000
    z = DDIM(300).encode(model, MEAN + STD * torch.randn(n, 3, generator=generator()))
    assert torch.allclose(z.std(0), torch.ones(3), atol=4 / (2 * n) ** 0.5 + 0.02)
    assert z.mean(0).abs().max() < 4 / n**0.5 + 0.02  # the mean over sigma_max


@pytest.mark.parametrize("probes", [0, 1], ids=["exact", "estimated"])
def test_probability_flow_likelihood_is_the_density(probes):
    """Of a mixture, to 1e-2 nat by the exact trace, and by Hutchinson's in the mean."""
    model = Mixture()
    x = torch.cat([model.centres, 0.8 * plane(5)]).repeat_interleave(1 if probes == 0 else 400, 0)
    found = log_density(model, x, None, directions(x, probes, generator()), DormandPrince(1e-6))
    gap = (found - model.log_prob(x, model.sigma_min)).view(8, -1)
    if probes:
        assert (gap.mean(1).abs() < 4 * gap.std(1) / 400**0.5 + 1e-2).all()
    else:
        assert gap.abs().max() < 1e-2
        assert (model.log_prob(x, model.sigma_min) - model.log_prob(x)).abs().max() < 1e-2
