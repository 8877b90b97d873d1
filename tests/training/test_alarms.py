"""What is wrong with samples, and whether a training was long enough: each fault put in, and healthy runs silent."""

from __future__ import annotations

import math

import pytest
import torch

import pangen
from pangen.cli.main import main
from pangen.data import Data, Split, load_data
from pangen.families.diffusion.edm import EDM
from pangen.run import load_run
from pangen.training.averages import Follower
from pangen.training.convergence import falling_warnings, lag_warnings, noise
from pangen.training.looks import drawn, looks_of, sample_alarms

DIGITS = load_data("digits")
LOOKS = looks_of(DIGITS)
MOONS = load_data("moons")


def kinds(x, **how) -> set[str]:
    return set(sample_alarms(x, LOOKS, **how))


def digits(n: int = 16, of: int | None = None) -> torch.Tensor:
    x, y = DIGITS.validation.x, DIGITS.validation.y
    return (x if of is None else x[y == of])[:n]


def random(*shape: int) -> torch.Tensor:
    return torch.randint(17, shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8)


@pytest.mark.parametrize("of", [None, *range(10)])
def test_real_examples_raise_no_alarm(of):
    """Of all classes, or of one; of one they are more alike than the data, which is no fault of theirs."""
    assert kinds(digits(of=of)) == set()


@pytest.mark.parametrize("name", ["digits-binary", "bars-and-stripes", "ising4x4", "moons", "gaussians8"])
def test_other_real_examples_raise_none_either(name):
    data = load_data(name)
    looks = looks_of(data)
    for start in range(0, 160, 16):
        assert sample_alarms(data.test.x[start : start + 16], looks) == {}


@pytest.mark.parametrize(("level", "tone"), [(0, "black"), (16, "white"), (8, "grey")])
def test_one_tone_is_named(level, tone):
    x = torch.full((16, 1, 8, 8), level, dtype=torch.uint8)
    x[:2] = digits(2)
    (found,) = sample_alarms(x, LOOKS).items()
    assert found[0] == "flat"
    assert found[1].startswith(f"14 of 16 samples are {tone} ")


def test_saturated_samples_blame_guidance_where_there_is_some():
    x = torch.where(digits() >= 8, 16, 0).to(torch.uint8)
    assert "lower --guidance" in sample_alarms(x, LOOKS, guidance=8.0)["saturated"]
    assert "leave the range" in sample_alarms(x, LOOKS)["saturated"]


def test_noise_and_copies_are_named():
    assert kinds(random(16, 1, 8, 8)) == {"noise"}
    noisy = torch.where(
        torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(1)) < 0.1,
        random(16, 1, 8, 8),
        digits(),
    )
    assert kinds(noisy) == set()  # a tenth of the pixels
    assert kinds(digits(1).expand(16, -1, -1, -1)) == {"alike"}
    assert kinds(random(4, 1, 8, 8)) == set()  # too few to tell


def test_vectors_that_are_far_or_alike_or_no_numbers():
    looks, x = looks_of(MOONS), MOONS.test.x[:16]
    assert set(sample_alarms(8 * x, looks)) == {"outside"}
    assert set(sample_alarms(x[:1].expand(16, 2), looks)) == {"alike"}
    assert set(sample_alarms(x * math.nan, looks)) == {"not finite"}


def test_text_is_not_looked_at():
    assert looks_of(Data("t", "text", *[Split(("a", "b"))] * 3)) is None


@pytest.fixture
def edm(tmp_path, monkeypatch):
    """With the best of all denoisers for the training split: the mean of its examples, by how near they are."""
    monkeypatch.setattr(EDM, "denoise", nearest)
    settings = {"training.batch": 8, "model.width": 16, "model.steps": 8, "training.validation_examples": 8}
    return pangen.fit("edm", "digits", steps=1, out=tmp_path / "edm", recipe=settings)


def nearest(self, x, sigma, y=None):
    real, labels = DIGITS.train.x.flatten(1) / 8 - 1, DIGITS.train.y
    logits = -torch.cdist(x.flatten(1), real).square() / (2 * sigma[:, None] ** 2)
    if y is not None:
        logits = logits.masked_fill((labels != y[:, None]) & (y[:, None] < 10), -math.inf)
    return (logits.softmax(1) @ real).view_as(x)


def test_a_healthy_run_is_silent_and_keeps_how_its_data_look(edm):
    assert edm.card["warnings"] == []
    assert load_run(edm.path).card["looks"] == LOOKS


def test_guidance_of_thirty_saturates(edm, capsys):
    command = ["sample", str(edm.path), "-n", "16", "-o", str(edm.path / "x.png")]
    for more in ([], ["--given", "1"]):
        assert main([*command, *more]) == 0
        assert "warning" not in "".join(capsys.readouterr())
    assert main([*command, "--guidance", "30"]) == 0
    found = capsys.readouterr()
    assert "guidance is too high: lower --guidance" in found.err
    assert "warning" not in found.out


def test_a_wrong_range_is_an_alarm_of_the_training(monkeypatch):
    """Estimates ten times as large as the data leave the range and are cut off at its ends."""
    from pangen.networks.preconditioning import Preconditioned

    right = Preconditioned.data
    monkeypatch.setattr(Preconditioned, "data", lambda self, x: 10 * right(self, x))
    run = pangen.fit("edm", "digits", steps=2, recipe={"model.width": 64, "model.steps": 3})
    assert set(sample_alarms(drawn(run, 60), LOOKS)) & {"saturated", "flat"}


def test_drawing_gives_up_after_its_time(edm):
    assert drawn(edm, 0.0) is None
    assert len(drawn(edm, 60.0)) == 16


def course(*values: float) -> list[tuple[int, float]]:
    return [(10 * (i + 1), value) for i, value in enumerate(values)]


def bends(rate: float, n: int = 20, wobble: float = 0.0) -> list[float]:
    return [math.exp(-rate * i / n) + wobble * (-1) ** i for i in range(n)]


def test_a_score_still_falling_at_the_end_is_told_with_its_share():
    (found,) = falling_warnings(course(*bends(1.0)), "nats")
    assert "raise --budget" in found
    v = bends(1.0)
    assert f"{(v[14] - v[19]) / (v[0] - v[19]):.0%}" in found
    assert falling_warnings(course(*bends(8.0)), "nats") == []  # flat at the end
    assert falling_warnings(course(*bends(1.0), 0.9), "nats") == []  # the best is not the last
    assert falling_warnings(course(*bends(1.0, n=7)), "nats") == []  # too few
    assert falling_warnings(course(*reversed(bends(1.0))), "nats") == []


def test_noise_is_no_fall():
    """A course that has stood still since its half: whatever the noise does at the end is within it."""
    for seed in range(20):
        values = torch.tensor([1.0] + [0.0] * 19) + 0.1 * torch.randn(
            20, generator=torch.Generator().manual_seed(seed)
        )
        assert falling_warnings(course(*values.tolist()), "nats") == []


def test_noise_is_its_standard_deviation():
    values = torch.linspace(1, 0, 4000).double() + 0.1 * torch.randn(
        4000, generator=torch.Generator().manual_seed(0)
    )
    assert noise(values.tolist()) == pytest.approx(0.1, rel=0.1)  # a median of 2000 bends


def test_an_average_that_lags_is_told():
    scores = course(*bends(2.0))
    last = scores[-1][1]
    assert lag_warnings(scores, lambda: last - 0.01, "loss") == []
    assert "lower training.ema" in lag_warnings(scores, lambda: last - 0.3, "loss")[0]


def test_a_long_average_of_a_short_training_lags_without_its_warm_up(monkeypatch):
    """With it, an average of 0.99999 over 40 steps is no alarm."""
    settings = {"training.ema": 0.99999, "training.batch": 32, "training.validations": 10}
    told = {"steps": 40, "recipe": settings}
    assert not any("lags" in text for text in pangen.fit("nice", MOONS, **told).card["warnings"])
    right = Follower.follow
    monkeypatch.setattr(Follower, "follow", lambda self, decay, step: right(self, decay, 10**9))
    assert any("lags" in text for text in pangen.fit("nice", MOONS, **told).card["warnings"])


def test_scores_are_remembered_through_an_interruption(tmp_path):
    import signal

    from pangen.files import read_tensors

    def interrupt(event):
        if event.step == 7:
            signal.raise_signal(signal.SIGINT)

    told = {"steps": 12, "recipe": {"training.validations": 12, "training.batch": 16}}
    whole = pangen.fit("nice", MOONS, out=tmp_path / "whole", **told)
    pangen.fit("nice", MOONS, out=tmp_path / "part", report=interrupt, **told)
    part = pangen.fit("nice", MOONS, out=tmp_path / "part", resume=True)
    facts = [
        read_tensors(tmp_path / name / "checkpoint.safetensors")[1]["scores"] for name in ("whole", "part")
    ]
    assert facts[0] == facts[1]
    assert len(facts[0]) == 12
    assert part.card["warnings"] == whole.card["warnings"]
