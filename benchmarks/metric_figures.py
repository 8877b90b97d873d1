"""The pictures and the table of docs/metrics.md: each metric on samples that are good, that it catches, and that it misses.

    python benchmarks/metric_figures.py
    python benchmarks/metric_figures.py --only frechet

Real examples are 600 of eight Gaussians on a circle, the training set is 600 others. Nothing is trained.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from flow_figures import FAINT, INK, save
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from readme import between
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

import pangen
from pangen.evaluation.classification import scores, synthetic_accuracy
from pangen.evaluation.fidelity import Pairs, density_coverage, frechet_distance, precision_recall
from pangen.evaluation.memorisation import Memory
from pangen.evaluation.sharpness import sharpness
from pangen.evaluation.two_sample import gaussian, mmd, polynomial, sliced_wasserstein, two_sample_hits

DOCS = Path(__file__).parents[1] / "docs"
N, STD = 600, 0.5
GOOD, CAUGHT, MISSED = "#4c72b0", "#55a868", "#c44e52"
ANGLES = torch.arange(8) * math.pi / 4
CENTRES = 4 * torch.stack([ANGLES.cos(), ANGLES.sin()], 1).double()


def ring(n: int, seed: int, modes: int = 8, std: float = STD) -> tuple[Tensor, Tensor]:
    """Points of the first so many Gaussians, and which each is of."""
    noise = torch.Generator().manual_seed(seed)
    which = torch.arange(n) % modes
    return CENTRES[which] + std * torch.randn(n, 2, generator=noise, dtype=torch.float64), which


@cache
def clouds() -> dict[str, Tensor]:
    """What stands for samples, `(N, 2)` each."""
    noise = torch.Generator().manual_seed(9)
    real, _ = ring(N, 0)
    train, _ = ring(N, 1)
    fresh, _ = ring(N, 2)
    root = torch.linalg.cholesky(real.T.cov())
    far = 8 * (2 * torch.rand(N, 2, generator=noise, dtype=torch.float64) - 1)
    outliers = fresh.clone()
    outliers[::10] = far[::10]
    return {
        "fresh": fresh,
        "two modes lost": ring(N, 3, modes=6)[0],
        "too wide": ring(N, 4, std=2.5 * STD)[0],
        "one example": real[:1].expand(N, 2) + 1e-3 * torch.randn(N, 2, generator=noise, dtype=torch.float64),
        "training set": train,
        "same moments": real.mean(0) + torch.randn(N, 2, generator=noise, dtype=torch.float64) @ root.T,
        "10 % outliers": outliers,
        "eight points": CENTRES[torch.arange(N) % 8]
        + 1e-3 * torch.randn(N, 2, generator=noise, dtype=torch.float64),
    }


@cache
def memory() -> Memory:
    return Memory(clouds()["training set"], ring(N, 5)[0])


def of_ring(name: str) -> Callable[[Tensor], float]:
    """A metric of samples `(N, 2)`."""
    real, _ = ring(N, 0)
    metrics: dict[str, Callable[[Tensor], Any]] = {
        "frechet": lambda x: frechet_distance(real, x),
        "kernel_distance": lambda x: mmd(polynomial(Pairs(real, x)))[0],
        "mmd": lambda x: mmd(gaussian(real)(Pairs(real, x)))[0],
        "sliced_wasserstein": lambda x: sliced_wasserstein(real, x)[0],
        "two_sample": lambda x: two_sample_hits(real, x).double().mean(),
        "precision": lambda x: precision_recall(Pairs(real, x)).of_samples.mean(),
        "recall": lambda x: precision_recall(Pairs(real, x)).of_real.mean(),
        "density": lambda x: density_coverage(Pairs(real, x)).of_samples.mean(),
        "coverage": lambda x: density_coverage(Pairs(real, x)).of_real.mean(),
        "near_copies": lambda x: memory().copies(x)[0]["value"],
        "membership": lambda x: memory().membership(x)["value"],
    }
    return lambda x: float(metrics[name](x))


SHOWN = {
    "frechet": ("Fréchet distance", "two modes lost", "same moments"),
    "kernel_distance": ("kernel distance", "two modes lost", "same moments"),
    "mmd": ("MMD", "two modes lost", "training set"),
    "sliced_wasserstein": ("sliced Wasserstein", "two modes lost", "training set"),
    "two_sample": ("two-sample accuracy", "same moments", "training set"),
    "precision": ("precision", "too wide", "one example"),
    "recall": ("recall", "two modes lost", "too wide"),
    "density": ("density", "too wide", "eight points"),
    "coverage": ("coverage", "two modes lost", "training set"),
    "near_copies": ("near copies", "training set", "same moments"),
    "membership": ("membership", "training set", "same moments"),
}
"""Of each metric its name, what it catches, and what it misses."""


def strip(name: str) -> Figure:
    """Three clouds over the real examples, each with the metric's value."""
    title, *kinds = SHOWN[name]
    figure, axes = panels(3)
    real, of = ring(N, 0)[0], of_ring(name)
    for place, kind, colour, word in zip(
        axes, ("fresh", *kinds), (GOOD, CAUGHT, MISSED), ("good", "caught", "missed"), strict=True
    ):
        x = clouds()[kind]
        place.scatter(*real.T, s=2, color=FAINT, lw=0)
        place.scatter(
            *x.T, s=3 if len(x.round(decimals=1).unique(dim=0)) > 20 else 30, color=colour, lw=0, alpha=0.8
        )
        place.set(xlim=(-7.5, 7.5), ylim=(-7.5, 7.5), xticks=[], yticks=[], box_aspect=1)
        place.set_title(f"{word}: {kind}\n{title} {of(x):.3g}", fontsize=8.5, color=INK)
    return figure


def likelihood() -> Figure:
    """Densities: the truth, one that lost two modes, and one that is noise 99 times of 100."""

    def mixture(modes: int) -> MixtureSameFamily:
        parts = Independent(Normal(CENTRES[:modes], torch.tensor(STD).double()), 1)
        return MixtureSameFamily(Categorical(torch.ones(modes).double()), parts)

    real, truth = ring(N, 0)[0], mixture(8)
    noise = math.log(1 / 15**2)  # uniform on the square that is shown
    mostly_noise = torch.logaddexp(
        math.log(0.01) + truth.log_prob(real), torch.tensor(math.log(0.99) + noise)
    )
    square = 15 * torch.rand(N, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 7.5
    shown = (
        ("good: the law itself", clouds()["fresh"], truth.log_prob(real), GOOD),
        ("caught: two modes lost", clouds()["two modes lost"], mixture(6).log_prob(real), CAUGHT),
        ("missed: 99 % noise", torch.cat([square[6:], ring(6, 7)[0]]), mostly_noise, MISSED),
    )
    figure, axes = panels(3)
    for place, (title, x, log_p, colour) in zip(axes, shown, strict=True):
        regret = float((truth.log_prob(real) - log_p).mean())
        place.scatter(*x.T, s=3, color=colour, lw=0, alpha=0.8)
        place.set(xlim=(-7.5, 7.5), ylim=(-7.5, 7.5), xticks=[], yticks=[], box_aspect=1)
        place.set_title(f"{title}\nregret {abs(regret):.3g} nats", fontsize=8.5, color=INK)
    return figure


def sharp() -> Figure:
    """Digits; digits under a blur; and digits whose quarters were exchanged."""
    x = pangen.load_data("digits").test.x[:200].double() / 16
    blurred = torch.nn.functional.avg_pool2d(x, 3, 1, 1)
    quarters = x.roll((4, 3), (2, 3)).flip(2)
    figure, axes = panels(3)
    for place, (title, images) in zip(
        axes,
        (("good: real digits", x), ("caught: blurred", blurred), ("missed: cut up and turned", quarters)),
        strict=True,
    ):
        framed = torch.nn.functional.pad(images[:16, 0], (1, 1, 1, 1), value=0.3)
        place.imshow(torch.cat([torch.cat(list(row), 1) for row in framed.split(4)]), cmap="gray_r")
        place.set(xticks=[], yticks=[])
        value = sharpness(x, images, "figure")["value"]
        place.set_title(f"{title}\nsharpness {value:.3g}", fontsize=8.5, color=INK)
    return figure


def synthetic() -> Figure:
    """Labelled samples: the law's, with labels drawn by chance, and one for each class."""
    real, real_y = ring(N, 0)
    x, y = ring(N, 2)
    drawn = torch.randint(8, (N,), generator=torch.Generator().manual_seed(0))
    figure, axes = panels(3)
    shown = (
        ("good: fresh", x, y),
        ("caught: labels by chance", x, drawn),
        ("missed: one point a class", CENTRES.repeat(20, 1), torch.arange(160) % 8),
    )
    for place, (title, points, labels) in zip(axes, shown, strict=True):
        value = synthetic_accuracy(points, labels, real, real_y).double().mean()
        place.scatter(*points.T, c=labels, cmap="tab10", s=4 if len(points) > 200 else 30, lw=0)
        place.set(xlim=(-7.5, 7.5), ylim=(-7.5, 7.5), xticks=[], yticks=[], box_aspect=1)
        place.set_title(f"{title}\naccuracy {float(value):.3g}", fontsize=8.5, color=INK)
    return figure


def calibration() -> Figure:
    """Probabilities that are meant; the same, sharpened; and those of somebody who only knows how often classes occur."""
    noise = torch.Generator().manual_seed(0)
    honest = (2 * torch.randn(5000, 2, generator=noise)).log_softmax(1)
    y = torch.multinomial(honest.exp(), 1, generator=noise)[:, 0]
    ignorant = (torch.bincount(y).double() / len(y)).log().expand(len(y), 2)
    figure, axes = panels(3)
    for place, (title, log_p, colour) in zip(
        axes,
        (
            ("good: what is meant", honest, GOOD),
            ("caught: too sure", (3 * honest).log_softmax(1), CAUGHT),
            ("missed: knows nothing", ignorant, MISSED),
        ),
        strict=True,
    ):
        found = scores(log_p, y, "figure")
        bins = found["reliability"]
        place.plot([0.5, 1], [0.5, 1], color=FAINT, lw=1)
        place.plot([b["confidence"] for b in bins], [b["accuracy"] for b in bins], "o-", ms=4, color=colour)
        place.set(xlim=(0.45, 1.02), ylim=(0.45, 1.02), xlabel="said", ylabel="right", box_aspect=1)
        place.set_title(
            f"{title}\ncalibration error {found['calibration_error']['value']:.3f}", fontsize=8.5, color=INK
        )
    return figure


def panels(count: int) -> tuple[Figure, Any]:
    figure = Figure(figsize=(2.5 * count, 2.7), dpi=110, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, count)


FIGURES: dict[str, Callable[[], Figure]] = {
    "likelihood": likelihood,
    **{name: lambda name=name: strip(name) for name in SHOWN},
    "train_on_synthetic": synthetic,
    "sharpness": sharp,
    "calibration": calibration,
}


def table() -> str:
    """Every metric on every cloud, in Markdown."""
    head = "| | " + " | ".join(clouds()) + " |\n|---|" + "---|" * len(clouds()) + "\n"
    lines = []
    for name, (title, *_) in SHOWN.items():
        of = of_ring(name)
        lines.append(f"| {title} | " + " | ".join(f"{of(x):.3g}" for x in clouds().values()) + " |\n")
    return head + "".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=FIGURES, action="append", help="one picture; can be repeated")
    args = parser.parse_args()
    for name in args.only or FIGURES:
        save(FIGURES[name](), DOCS / "assets" / f"metric-{name}.png")
    if not args.only:
        between(DOCS / "metrics.md", "cheats", table())


if __name__ == "__main__":
    main()
