"""Reflow: pairs that a teacher makes, how straight their paths become, and what one step is then worth."""

import copy

import pytest
import torch
from denoisers import MEAN, STD, Gaussian, Mixture, end, generator
from torch import Tensor

from pangen.errors import PangenError
from pangen.families.diffusion.edm import EDM
from pangen.families.diffusion.flow_matching import FlowMatching
from pangen.families.diffusion.masked_diffusion import MaskedDiffusion
from pangen.networks.labels import hide
from pangen.samplers.coupling import reflow
from pangen.samplers.solvers import DPMSolver, Euler
from pangen.space import Batch, Progress, Space, class_space

PLANE = Space("real", (2,))
RUN = {"coupling": "reflow", "teacher": "a run"}


class Two:
    """The exact denoiser of N(3, 1) with the label 0 and N(-3, 1) with 1; between them without one."""

    sigma_min, sigma_max = 0.01, 100.0

    def denoise(self, x: Tensor, sigma: Tensor, y: Tensor | None = None) -> Tensor:
        mean = torch.tensor([3.0, -3.0, 0.0])[y][:, None]
        return mean + (x - mean) / (1 + sigma[:, None] ** 2)


def mixture(n: int, draw: torch.Generator) -> Tensor:
    k = torch.multinomial(Mixture.weights, n, replacement=True, generator=draw)
    return Mixture.centres[k].float() + Mixture.std * torch.randn(n, 2, generator=draw)


class Exact(EDM, Mixture):
    """A diffusion model that knows the mixture."""

    sigma_min, sigma_max, calls = Mixture.sigma_min, Mixture.sigma_max, 0
    denoise = Mixture.denoise


def test_pairs_are_noise_and_where_the_path_leads():
    """For Gaussian data to MEAN + STD e, of the same rank; the noise is standard normal."""
    unit = lambda x: (x - 5) / 2  # noqa: E731
    x0, e = reflow(Gaussian(), DPMSolver(60, order=3), unit)(torch.zeros(4000, 3), None)
    assert torch.allclose(2 * x0 + 5, MEAN + STD * e, atol=0.02)  # the solver's error
    assert (e.mean(0).abs() < 4 / 4000**0.5).all()
    assert ((e.std(0) - 1).abs() < 4 / 8000**0.5).all()


def test_pairs_are_those_of_the_label_that_is_seen():
    """Where the label is hidden the teacher has none either."""
    y = hide(torch.arange(600) % 2, Space("real", (1,), condition=class_space(2)), 0.3)
    x0, e = reflow(Two(), DPMSolver(60, order=3), lambda x: x)(torch.zeros(600, 1), y)
    assert (y == 2).any()
    assert torch.allclose(x0, torch.tensor([3.0, -3.0, 0.0])[y][:, None] + e, atol=0.05)


@torch.no_grad()
def crookedness(model, n: int = 1000, steps: int = 60) -> float:
    """Mean square of v(x_t, t) less its mean over a path (Liu et al. 2023, Eq. 7), over that of the mean."""
    x, v = torch.randn(n, 2, generator=generator()), []
    for i in range(steps):  # Euler's method in t, x_t = (1 - t) x0 + t e
        t = 1 - (i + 0.5) / steps
        x0 = model.denoise(x / (1 - t), torch.full((n,), t / (1 - t)))
        v.append((x - x0) / t)
        x = x - v[-1] / steps
    v = torch.stack(v)
    return float((v - v.mean(0)).square().mean() / v.mean(0).square().mean())


def energy(a: Tensor, b: Tensor) -> float:
    """Energy distance of two sets of points: 0 for equal laws."""
    return float(2 * torch.cdist(a, b).mean() - torch.cdist(a, a).mean() - torch.cdist(b, b).mean())


def test_a_reflow_is_straighter_and_its_single_step_nearer_the_truth():
    """Than its teacher, which here is exact."""
    torch.manual_seed(0)
    model, teacher = FlowMatching(PLANE, width=64, path=20, **RUN), Exact(PLANE, width=16)
    data, steps = mixture(2000, generator(1)), 120
    model.initialize(Batch(data[:512]))
    model.learn_from(teacher)
    optimizer = torch.optim.Adam(model.parameters(), lr=6e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        optimizer.zero_grad()
        model.loss(Batch(data[:128]), Progress(step, steps)).total.backward()
        optimizer.step()
        schedule.step()
    noise = torch.randn(1000, 2, generator=generator(2))
    with torch.no_grad():
        one = {name: end(Euler(1), m, noise) for name, m in (("reflow", model), ("teacher", teacher))}
    far = {name: energy(x, data) for name, x in one.items()}
    assert crookedness(teacher) > 1
    assert crookedness(model) < 0.03
    assert far["teacher"] > 0.5  # to which one step is the mean
    assert far["reflow"] < 0.03


def test_a_reflow_starts_at_the_weights_of_a_teacher_of_its_kind():
    """And the teacher is no part of it."""
    teacher = FlowMatching(PLANE, width=16).requires_grad_(False)
    teacher.initialize(Batch(mixture(200, generator())))
    torch.nn.init.normal_(teacher.net.net.net.head.weight)
    model = FlowMatching(PLANE, width=16, **RUN)
    names = set(model.state_dict())
    model.initialize(Batch(mixture(50, generator(1))))
    model.learn_from(teacher)
    assert set(model.state_dict()) == names
    x, sigma = torch.randn(5, 2), torch.full((5,), 2.0)
    assert torch.equal(model.denoise(x, sigma), teacher.denoise(x, sigma))
    assert copy.deepcopy(model).couple is model.couple
    model.loss(Batch(x), Progress(0, 1)).total.backward()
    assert all(p.grad is None for p in teacher.parameters())


def test_without_its_teacher_a_reflow_samples_and_does_not_learn():
    model = FlowMatching(PLANE, width=16, **RUN)
    assert model.sample(3).isfinite().all()
    with pytest.raises(PangenError, match="only beside its teacher"):
        model.loss(Batch(torch.zeros(4, 2)), Progress(0, 1))


def test_what_cannot_be_reflowed_is_refused():
    for settings, match in (({"coupling": "reflow"}, "needs the run"), ({"teacher": "a run"}, "leave out")):
        with pytest.raises(PangenError, match=match):
            FlowMatching(PLANE, **settings)
    tokens = MaskedDiffusion(Space("tokens", (4,), levels=3), width=16)
    with pytest.raises(PangenError, match="a run holds no diffusion model"):
        FlowMatching(PLANE, width=16, **RUN).learn_from(tokens)
