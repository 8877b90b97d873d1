"""Pictures of series: windows side by side, and a forecast that fans out from its past."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from pangen.evaluation.forecast import quantile

LINE, FAN, SOFT = "#33506b", "#c44e52", "#777777"
MOST = 24
"""Windows in a picture, and steps on its time axis that are named, at most."""


def lines(windows: Tensor) -> Image.Image:
    """Windows `(N, C, T)`, a small plot for each, on one scale for each column."""
    windows = windows[:MOST].double()
    n, columns, _ = windows.shape
    across = max(min(n, round(math.sqrt(n * 1.6))), 1)
    down = math.ceil(n / across)
    figure = Figure(figsize=(1.8 * across, 1.1 * down), dpi=100, layout="constrained")
    cells = figure.subplots(down, across, squeeze=False, sharex=True, sharey=columns == 1).ravel()
    scale = windows.std((0, 2), keepdim=True).clamp(min=1e-12) if columns > 1 else 1.0
    for cell, window in zip(cells, windows / scale, strict=False):
        cell.plot(window.T.numpy(), lw=0.8, color=LINE if columns == 1 else None)
        _quiet(cell, 5)
    for cell in cells[n:]:
        cell.set_visible(False)
    return _image(figure)


def fan(past: Tensor, paths: Tensor, columns: Sequence[str], times: Sequence[str]) -> Image.Image:
    """The past `(C, t)`, and of what follows `(paths, C, horizon)` the median and 80 and 95 % intervals.

    Args:
        times: the first and the last of the past and the last of the future.
    """
    C, t, horizon = len(past), past.shape[1], paths.shape[2]
    figure = Figure(figsize=(8, 2.2 * C + 0.6), dpi=120, layout="constrained")
    future = range(t, t + horizon)
    for i, axes in enumerate(figure.subplots(C, 1, squeeze=False, sharex=True)[:, 0]):
        axes.plot(range(t), past[i].numpy(), color=LINE, lw=1.2)
        for level, alpha in ((0.95, 0.18), (0.8, 0.3)):
            ends = [quantile(paths[:, i], (1 + sign * level) / 2).numpy() for sign in (-1, 1)]
            axes.fill_between(future, *ends, color=FAN, alpha=alpha, lw=0, label=f"{level:.0%}")
        axes.plot(future, quantile(paths[:, i], 0.5).numpy(), color=FAN, lw=1.2, label="median")
        axes.set_ylabel(columns[i], fontsize=8)
        axes.set_xticks([0, t - 1, t + horizon - 1], times)
        _quiet(axes, 7)
        if i == 0:
            axes.legend(fontsize=7, frameon=False, loc="upper left", ncols=3)
    return _image(figure)


def _quiet(axes: Axes, size: int) -> None:
    axes.tick_params(labelsize=size, length=2, color=SOFT, labelcolor=SOFT)
    for spine in axes.spines.values():
        spine.set_color("#cccccc")


def _image(figure: Figure) -> Image.Image:
    FigureCanvasAgg(figure)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return Image.open(io.BytesIO(file.getvalue())).convert("RGB")
