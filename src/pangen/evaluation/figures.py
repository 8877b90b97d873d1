"""Figures of a comparison as inline SVG that takes the colours of the page it stands in."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
import matplotlib.ticker
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK, FAINT = "#010203", "#040506"
"""Stand-ins that become the page's own text colour and its faint line colour."""
FAMILIES = {
    "classical": "#8a8f98",
    "energy": "#c44e52",
    "latent": "#dd8452",
    "adversarial": "#937860",
    "flow": "#4c72b0",
    "autoregressive": "#55a868",
    "diffusion": "#8172b3",
    "consistency": "#d66ba0",
}
OTHER = "#64b5cd"
ALONE = "svg { color: #222; --line: #ccc; background: #fff; font-family: sans-serif }"
"""What a page would say of a figure that stands in none."""


class Point(NamedTuple):
    """One model in a scatter plot, with the ends of its vertical interval."""

    label: str
    family: str
    x: float
    y: float
    low: float
    high: float


class Level(NamedTuple):
    """A horizontal line across a scatter plot."""

    label: str
    y: float


class Line(NamedTuple):
    """Measurements in their order, with the ends of their vertical intervals; an x for each panel, by its label."""

    label: str
    x: dict[str, list[float]]
    y: list[float]
    intervals: list[list[float]]


def colour(family: str) -> str:
    return FAMILIES.get(family, OTHER)


def trade_off(
    points: Sequence[Point], levels: Sequence[Level], xlabel: str, ylabel: str, *, log_y: bool
) -> str:
    """Quality against sampling time, on a logarithmic time axis."""
    figure, axes = _figure(5.4, 3.9)
    axes.set_xscale("log")
    if points:  # before anything is drawn: a single time leaves nothing to scale by
        span = max(p.x for p in points) / min(p.x for p in points)
        axes.set_xlim(
            min(p.x for p in points) / span**0.06 / 1.6, max(p.x for p in points) * span**0.22 * 2.6
        )
    heights = [p.y for p in points] + [level.y for level in levels]
    if log_y and min(heights) > 0 and max(heights) > 3 * min(heights):
        axes.set_yscale("log")
    for p in points:
        low, high = max(p.y - p.low, 0), max(p.high - p.y, 0)
        if log_y:
            low = min(low, p.y * 0.9)
        axes.errorbar(p.x, p.y, yerr=[[low], [high]], fmt="o", ms=6, lw=1, color=colour(p.family), alpha=0.95)
    for level in levels:
        axes.axhline(level.y, color=INK, lw=0.8, ls=(0, (4, 3)), alpha=0.6)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    for i, level in enumerate(levels):  # at alternate ends: yardsticks can lie close together
        side, shift = ("right", -2) if i % 2 == 0 else ("left", 2)
        axes.annotate(
            level.label, (1 - i % 2, level.y), xycoords=("axes fraction", "data"), xytext=(shift, 3),
            textcoords="offset points", ha=side, fontsize=7.5, color=INK, alpha=0.75,
        )  # fmt: skip
    _plain_ticks(axes.xaxis)
    if axes.get_yscale() == "log":
        _plain_ticks(axes.yaxis)
    _label(figure, axes, points)
    return _svg(figure, f"{xlabel} {ylabel}")


def curve(
    steps: Sequence[float], scores: Sequence[float], best: float | None, ylabel: str, family: str, name: str
) -> str:
    """A learning curve on the validation split, its best step marked."""
    figure, axes = _figure(3.4, 1.5)
    axes.plot(steps, scores, color=colour(family), lw=1.6)
    if best is not None and best in steps:
        axes.plot(best, scores[list(steps).index(best)], "o", color=colour(family), ms=5)
    axes.set_ylabel(ylabel, fontsize=7.5)
    axes.set_xlabel("step", fontsize=7.5)
    return _svg(figure, f"curve {name}")


def bars(heights: Sequence[float], ylabel: str, xlabel: str, family: str, name: str) -> str:
    """Numbers in their order."""
    figure, axes = _figure(3.4, 1.3)
    axes.bar(range(1, len(heights) + 1), heights, color=colour(family), width=0.8)
    axes.set_ylabel(ylabel, fontsize=7.5)
    axes.set_xlabel(xlabel, fontsize=7.5)
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    return _svg(figure, f"bars {name}")


def lines(drawn: Sequence[Line], level: float, level_label: str, ylabel: str) -> str:
    """Side by side, the same measurements against each x, all axes logarithmic."""
    labels = list(drawn[0].x) if drawn else [""]
    figure, panels = _figure(5.0 * len(labels), 4.2, len(labels))
    for axes, label in zip(panels, labels, strict=True):
        for i, line in enumerate(drawn):
            low, high = zip(*line.intervals, strict=True)
            # an interval that reaches 0 has no end on a logarithmic axis
            below = [min(max(y - a, 0), 0.9 * y) for y, a in zip(line.y, low, strict=True)]
            above = [max(b - y, 0) for y, b in zip(line.y, high, strict=True)]
            axes.errorbar(
                line.x[label], line.y, yerr=[below, above], fmt="o-", ms=4, lw=1.3, elinewidth=0.8, color=f"C{i % 10}",
                label=line.label,
            )  # fmt: skip
        if level > 0:
            axes.axhline(level, color=INK, lw=0.8, ls=(0, (4, 3)), alpha=0.6, label=level_label)
        axes.set(xscale="log", yscale="log", xlabel=label)
        _plain_ticks(axes.xaxis)
        _plain_ticks(axes.yaxis)
    panels[0].set_ylabel(ylabel)
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8, frameon=False,
        labelcolor=INK,
    )  # fmt: skip
    return _svg(figure, f"lines {ylabel}")


def standalone(svg: str) -> str:
    """A figure as a file of its own."""
    head, end, rest = svg.partition(">")
    return f"{head}{end}<style>{ALONE}</style>{rest}"


def _figure(width: float, height: float, panels: int = 0) -> tuple[Figure, Any]:
    """A figure and its axes, or the list of those of some panels."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    figure.patch.set_alpha(0)
    found = [figure.add_subplot(1, max(panels, 1), i + 1) for i in range(max(panels, 1))]
    for axes in found:
        _dress(axes)
    return figure, found if panels else found[0]


def _dress(axes: Any) -> None:
    axes.patch.set_alpha(0)
    axes.tick_params(which="both", labelsize=8, color=FAINT, labelcolor=INK)
    axes.grid(color=FAINT, lw=0.5)
    axes.set_axisbelow(True)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)


def _plain_ticks(axis: Any) -> None:
    """Plain numbers at 1, 2 and 5 times the powers of ten of a logarithmic axis."""

    def text(value: float, _: int) -> str:
        return f"{value:g}" if f"{value:e}"[0] in "125" else ""

    axis.set_major_formatter(matplotlib.ticker.FuncFormatter(text))
    low, high = axis.get_view_interval()
    axis.set_minor_formatter(
        matplotlib.ticker.FuncFormatter(text) if high < 100 * low else matplotlib.ticker.NullFormatter()
    )


def _label(figure: Figure, axes: Any, points: Sequence[Point]) -> None:
    """Names to the right of their points, moved up or down until none covers another."""
    figure.draw_without_rendering()
    places = [axes.transData.transform((p.x, p.y)) for p in points]
    taken = [(x - 5.0, y, 10.0) for x, y in places]
    for p in sorted(points, key=lambda p: (p.x, p.y)):
        left, middle = axes.transData.transform((p.x, p.y))
        left += 7
        reach = 6.0 * len(p.label) + 10
        offsets = [d * s for d in range(0, 90, 3) for s in (1, -1)]
        free = (o for o in offsets if all(
            abs(middle + o - y) > 10 or left > x + w or x > left + reach for x, y, w in taken
        ))  # fmt: skip
        shift = next(free, 0)
        taken.append((left, middle + shift, reach))
        axes.annotate(
            p.label, (p.x, p.y), xytext=(7, shift * 72 / figure.dpi), textcoords="offset points",
            va="center", fontsize=8, color=INK,
        )  # fmt: skip


def _svg(figure: Figure, salt: str) -> str:
    file = io.StringIO()
    # text stays text, so that it takes the page's font; ids differ between figures of one page
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(file, format="svg", metadata={"Date": None}, transparent=True)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    return text.replace(INK, "currentColor").replace(FAINT, "var(--line)").replace("DejaVu Sans", "inherit")
