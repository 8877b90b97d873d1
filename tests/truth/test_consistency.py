"""Consistency from a teacher: its path, the end of it, the gaps of tuning, and what becomes of the teacher."""

import copy

import pytest
import torch
from denoisers import MEAN, STD, Gaussian
from torch import Tensor

from pangen.errors import PangenError
from pangen.families.consistency.consistency import Consistency
from pangen.families.consistency.distillation import heun, seen
from pangen.families.consistency.levels import HIGHEST, LOWEST, grid, log_normal_gaps, uniform_neighbours
from pangen.families.diffusion.ddpm import DDPM
from pangen.families.diffusion.edm import EDM
from pangen.families.diffusion.flow_matching import FlowMatching
from pangen.networks.preconditioning import Preconditioned, V, column
from pangen.networks.roles import Architecture
from pangen.space import Batch, Progress, Space

SPACE = Space("real", (3,))


class Exact(torch.nn.Module, Gaussian):
    """A teacher that knows N(MEAN, STD^2), and has a weight that could learn."""

    sigma_min, sigma_max = 1e-4, 1e4

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()), requires_grad=False)

    def denoise(self, x: Tensor, sigma: Tensor, y: Tensor | None = None) -> Tensor:
        return self.weight * Gaussian.denoise(self, x, sigma, y)


def path(x: Tensor, sigma: Tensor, end: Tensor) -> Tensor:
    """Where the probability flow of N(MEAN, STD^2) leads: the deviation keeps its rank."""
    scale = ((STD**2 + column(end, x) ** 2) / (STD**2 + column(sigma, x) ** 2)).sqrt()
    return MEAN + scale * (x - MEAN)


def units(scale: float = 1.0) -> Preconditioned:
    net = Preconditioned(SPACE, Architecture(16), V.coefficients).double()
    net.mean.copy_(torch.tensor([0.5, 0.0, -1.0]))
    net.scale.fill_(scale)
    return net


def student(method: str = "distil", **settings) -> Consistency:
    return Consistency(SPACE, width=16, method=method, teacher="a run", **settings)


def examples(n: int = 500) -> Batch:
    return Batch(STD * torch.randn(n, 3) + MEAN)


# -- distillation -----------------------------------------------------------------------------------


def error_of_a_step(N: int, net: Preconditioned) -> float:
    """The largest over all intervals of the grid, in the units of the noise there."""
    sigmas = grid(N, torch.zeros(1, 3).double())
    lower, upper = sigmas[:-1], sigmas[1:]
    x = MEAN + (STD**2 + (net.scale * upper)[:, None] ** 2).sqrt() * torch.tensor([1.0, -0.7, 2.0])
    found = net.data(heun(seen(Exact().double(), net), net.unit(x), upper, lower))
    true = path(x, net.scale * upper, net.scale * lower)
    return float(((found - true) / (net.scale * upper)[:, None]).abs().max())


@pytest.mark.parametrize("scale", [1.0, 1.7])
def test_the_lower_point_is_on_the_teachers_path(scale):
    """Up to Heun's error, whose part in one step is of third order; the units are the student's own."""
    errors = [error_of_a_step(N, units(scale)) for N in (80, 160, 320)]
    assert errors[0] < 2e-3
    assert errors[0] / errors[1] > 6
    assert errors[1] / errors[2] == pytest.approx(8, rel=0.15)


def test_a_distilled_student_knows_the_end_of_the_path():
    """From a linear-Gaussian teacher, after a short training: at each level within a tenth of the deviation."""
    torch.manual_seed(0)
    model = Consistency(SPACE, width=64, method="distil", teacher="a run")
    model.initialize(examples(2000))
    model.learn_from(Exact())
    steps = 250
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    errors = [error_at_the_end(model)]
    for step in range(steps):
        optimizer.zero_grad()
        model.loss(examples(128), Progress(step, steps)).total.backward()
        optimizer.step()
        schedule.step()
    errors.append(error_at_the_end(model))
    assert errors[0] > 0.5
    assert errors[1] < 0.1


@torch.no_grad()
def error_at_the_end(model: Consistency) -> float:
    """Root mean square, in deviations of the data, of jumps from all levels."""
    found = []
    for level in (0.3, 1.0, 5.0, HIGHEST):
        sigma = torch.full((500,), level * float(model.net.scale))
        x = MEAN + (STD**2 + sigma[:, None] ** 2).sqrt() * torch.randn(500, 3)
        end = path(x, sigma, torch.full((500,), model.sigma_min))
        found.append((model.denoise(x, sigma) - end) / STD)
    return float(torch.cat(found).square().mean().sqrt())


def test_the_teacher_learns_nothing_and_is_no_part_of_its_student():
    model, teacher = student(), Exact()
    names = set(model.state_dict())
    model.learn_from(teacher)
    assert set(model.state_dict()) == names
    assert all(p is not teacher.weight for p in model.parameters())
    assert copy.deepcopy(model).taught is model.taught  # an average of its weights has no copy of the teacher
    model.loss(examples(), Progress(0, 1)).total.backward()
    assert teacher.weight.grad is None
    assert all(p.grad is not None for p in model.players()["model"])


def test_without_its_teacher_a_student_samples_and_does_not_learn():
    model = student()
    assert model.sample(3).isfinite().all()
    with pytest.raises(PangenError, match="beside its teacher a run"):
        model.loss(examples(), Progress(0, 1))


# -- tuning -----------------------------------------------------------------------------------------


def test_gaps_shrink_from_all_to_a_share_of_the_level():
    x = torch.zeros(2000, 3)
    lower, upper = log_normal_gaps(1, x)
    assert torch.equal(lower, torch.full((2000,), LOWEST))  # diffusion: the target is the example
    lower, upper = log_normal_gaps(256, x)
    gap = (1 - lower / upper)[lower > LOWEST] * 256  # n(sigma), from 1 + 8 / 2 to 1
    assert 0.99 < gap.min() < 1.1  # float32: 1 - lower / upper loses two digits
    assert 4.7 < gap.max() < 5.01
    assert ((lower < upper) & (upper <= HIGHEST)).all()


def test_neighbours_are_intervals_of_the_grid_each_as_often():
    lower, upper = uniform_neighbours(5, torch.zeros(20_000, 3))
    sigmas = grid(5, torch.zeros(1))
    i = torch.searchsorted(sigmas, lower)
    assert torch.equal(sigmas[i], lower)
    assert torch.equal(sigmas[i + 1], upper)
    share = torch.bincount(i, minlength=5) / 20_000
    assert torch.allclose(share, torch.full((5,), 0.2), atol=4 * (0.16 / 20_000) ** 0.5)


@pytest.mark.parametrize("family", [EDM, FlowMatching])
def test_tuning_starts_from_the_teachers_estimate(family):
    """Moved by sigma_min, at which it becomes x itself."""
    teacher = family(SPACE, width=16)
    teacher.initialize(examples())
    torch.nn.init.normal_(teacher.net.net.net.head.weight)
    model = student("tune", **{k: v for k, v in Consistency.like(teacher).items() if k != "width"})
    model.initialize(examples(20))
    model.learn_from(teacher)
    x, sigma = torch.randn(6, 3), torch.full((6,), 3.0)
    # what it knows beforehand differs by LOWEST / sigma, of numbers of order one
    assert torch.allclose(model.denoise(x, sigma), teacher.denoise(x, sigma), atol=0.05)
    end = torch.full((6,), model.sigma_min)
    assert torch.allclose(model.denoise(x, end), x, atol=1e-5)


def test_what_a_teacher_cannot_teach_is_refused():
    for settings, match in (
        ({"method": "tune"}, "needs the run"),
        ({"teacher": "a run"}, "leave out model.teacher"),
        ({"time": "continuous", "precision": "bfloat16"}, "do not bear rounding"),
        ({"time": "continuous", "finest": 40}, r"is not cut: leave out model\.finest"),
    ):
        with pytest.raises(PangenError, match=match):
            Consistency(SPACE, **settings)
    with pytest.raises(PangenError, match="no diffusion model"):
        student().learn_from(student())
    with pytest.raises(PangenError, match=r"do not fit: take model\.method = distil"):
        student("tune").learn_from(DDPM(SPACE, width=16, target="eps"))
    with pytest.raises(PangenError, match=r"model\.width = 32 and model\.target = v"):
        student("tune").learn_from(EDM(SPACE, width=32))
    fresh = student(target="velocity")
    before = copy.deepcopy(fresh.state_dict())
    fresh.learn_from(EDM(SPACE, width=16))  # along the path any network can learn
    assert all(torch.equal(v, before[k]) for k, v in fresh.state_dict().items())
