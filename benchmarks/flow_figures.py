"""The figures of `docs/flows.md`: a grid that is bent, temperatures, and paths between real digits.

python benchmarks/flow_figures.py
python benchmarks/flow_figures.py --only grid --budget 25
"""

from __future__ import annotations

import argparse
import io
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

import pangen
from pangen.evaluation.figures import FAMILIES

ASSETS = Path(__file__).parents[1] / "docs" / "assets"
INK, FAINT, PAPER = "#333333", "#b9bec6", "#ffffff"
TINTS = LinearSegmentedColormap.from_list("flow", [FAMILIES["flow"], "#9a8fb5", FAMILIES["latent"]])
"""From one side of the noise to the other."""
TEMPERATURES = (0.5, 0.7, 0.85, 1.0)
PAIRS = ((1, 7), (3, 8), (4, 9), (0, 6))
"""Digits at the ends of the paths."""


def grid(budget: float) -> Figure:
    """Lines of a regular grid in z, between some blocks of RealNVP, and in x beside the data."""
    data = pangen.load_data("moons")
    run = pangen.fit("realnvp", data, budget=budget, device="cpu", conditional=False)
    blocks = list(reversed(run.model.flow.transform.parts))
    lines, points = _lines(2.4, 13, 300), torch.randn(600, 2, generator=torch.Generator().manual_seed(0))
    states = [(lines.view(-1, 2), points)]
    with torch.no_grad():
        for block in blocks:
            states.append(tuple(block.inverse(z) for z in states[-1]))
    last = len(blocks)
    shown = (0, last // 3, 2 * last // 3, last)
    figure, axes = _figure(9.2, 2.1, 1, len(shown) + 1)
    for k, place in zip(shown, axes[0, :-1], strict=True):
        title = {0: "noise z", last: "x = f\u207b\u00b9(z)"}.get(k, f"after {k} of {last} blocks")
        bent, moved = states[k]
        tints = TINTS((lines[..., 1].numpy() / 2.4 + 1) / 2)
        bent = bent.view(*lines.shape).numpy()
        pieces = np.stack([bent[:, :-1], bent[:, 1:]], 2).reshape(-1, 2, 2)
        place.add_collection(LineCollection(pieces, colors=tints[:, 1:].reshape(-1, 4), lw=0.7, zorder=2))
        place.scatter(*moved.numpy().T, s=1.2, color=INK, alpha=0.35, lw=0, zorder=3)
        _frame(place, title, torch.cat([states[k][0], moved]))
    x = run.codec.encode(data.train.x[:1500]).x
    axes[0, -1].scatter(*x.numpy().T, s=1.4, color=INK, alpha=0.5, lw=0)
    _frame(axes[0, -1], "data", torch.cat(states[last]))
    return figure


def temperature(budget: float) -> Figure:
    """Samples of some digits at each temperature, from the same noise."""
    run = pangen.fit("realnvp", "digits", budget=budget, device="cpu")
    y = torch.tensor([0, 2, 4, 7, 9]).repeat_interleave(4)
    rows = [run.sample(len(y), y, seed=1, temperature=t) for t in TEMPERATURES]
    return _table(rows, [f"T = {t:g}" for t in TEMPERATURES])


def interpolation(budget: float) -> Figure:
    """Spherical paths between the codes of real test digits; the ends are the digits themselves."""
    data = pangen.load_data("digits")
    run = pangen.fit("realnvp", data, budget=budget, device="cpu", conditional=False)
    rows = []
    for a, b in PAIRS:
        ends = torch.stack([data.test.x[data.test.y == c][0] for c in (a, b)])
        with torch.no_grad():
            z = run.model.encode(run.codec.encode(ends, generator=torch.Generator().manual_seed(0)).x)
            path = run.model.decode(torch.stack([_arc(*z, t) for t in torch.linspace(0, 1, 11)]))
        rows.append(run.codec.decode(path))
        assert torch.equal(rows[-1][[0, -1]], ends)
    return _table(rows, [f"{a} to {b}" for a, b in PAIRS], marked=(0, 10))


def _lines(reach: float, count: int, points: int) -> Tensor:
    """Lines along either axis of a square, `(2 count, points, 2)`."""
    along, across = torch.linspace(-reach, reach, points), torch.linspace(-reach, reach, count)
    level = torch.stack(torch.meshgrid(across, along, indexing="ij"), -1)
    return torch.cat([level, level.flip(-1)])


def _arc(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """From a to b at constant angular speed, its length changing evenly: half way, codes are as long as codes are."""
    angle = torch.arccos(torch.cosine_similarity(a, b, 0))
    turn = (torch.sin((1 - t) * angle) * a / a.norm() + torch.sin(t * angle) * b / b.norm()) / torch.sin(
        angle
    )
    return turn * torch.lerp(a.norm(), b.norm(), t)


def _figure(width: float, height: float, rows: int, columns: int) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), dpi=140, layout="constrained", facecolor=PAPER)
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _frame(place: Any, title: str, points: Tensor) -> None:
    """Room for the points, and no more ink than a title."""
    low, high = points.amin(0), points.amax(0)
    margin = 0.05 * (high - low)
    (left, bottom), (right, top) = (low - margin).tolist(), (high + margin).tolist()
    place.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[], box_aspect=1)
    place.set_title(title, fontsize=8.5, color=INK)
    for spine in place.spines.values():
        spine.set_color(FAINT)
        spine.set_linewidth(0.6)


def _table(rows: list[Tensor], names: list[str], marked: tuple[int, ...] = ()) -> Figure:
    """Images in rows with names; those in the marked columns, which are real, in a frame."""
    columns = len(rows[0])
    figure, axes = _figure(0.42 * columns + 0.7, 0.43 * len(rows), len(rows), columns)
    figure.get_layout_engine().set(w_pad=0.012, h_pad=0.012, wspace=0.01, hspace=0.01)
    for row, name, places in zip(rows, names, axes, strict=True):
        for k, (image, place) in enumerate(zip(row, places, strict=True)):
            place.imshow(image[0].numpy(), cmap="gray_r", vmin=0, vmax=16, interpolation="nearest")
            place.set(xticks=[], yticks=[])
            for spine in place.spines.values():
                spine.set_color(FAMILIES["flow"] if k in marked else FAINT)
                spine.set_linewidth(1.6 if k in marked else 0.4)
        places[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9, color=INK, labelpad=6)
    return figure


FIGURES: dict[str, Callable[[float], Figure]] = {
    "grid": grid, "temperature": temperature, "interpolation": interpolation,
}  # fmt: skip


def save(figure: Figure, path: Path) -> None:
    """A PNG of few colours."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    Image.open(io.BytesIO(file.getvalue())).convert("RGB").quantize(128).save(path, optimize=True)
    print(f"{path}: {math.ceil(path.stat().st_size / 1000)} kB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=FIGURES, action="append", help="one figure; can be repeated")
    parser.add_argument("--budget", type=float, default=40.0, help="seconds of training for each")
    args = parser.parse_args()
    for name in args.only or FIGURES:
        save(FIGURES[name](args.budget), ASSETS / f"flow-{name}.png")


if __name__ == "__main__":
    main()
