"""docs/errata.md and its pictures, from the functions that the tests run.

python tests/errata/page.py
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bounds
import games
import noise
import sequences
import torch
from mistake import MISTAKES, Damage, Mistake

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "errata.md"
INTRODUCTION = """# Famous mistakes

Notes on generative models hand these on again and again. For each: what is wrong, the damage as a number, what is right, and
that number beside it. All of it is measured by the tests in `tests/errata`; `python tests/errata/page.py` writes this page from them.
"""
WRONG, RIGHT, INK = "#c44e52", "#4c72b0", "#333333"


def printed(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return "0" if abs(value) < 1e-6 else f"{value:.3g}"


def row(damage: Damage) -> str:
    return f"| {damage.measure} | {printed(damage.wrong)} | {printed(damage.right)} |"


def section(mistake: Mistake) -> str:
    """Its explanation, its picture where there is one, and its numbers."""
    lines = [line.strip() for line in (mistake.measure.__doc__ or "").strip().splitlines()]
    picture = [f"![{mistake.title}](assets/{name(mistake.number)})", ""] if mistake.number in PICTURES else []
    table = ["| measured | wrong | right |", "|---|---|---|", *map(row, mistake.measure())]
    return "\n".join([f"## {mistake.number}. {mistake.title}", "", *lines, "", *picture, *table, ""])


def numbers(text: str) -> dict[int, list[list[str]]]:
    """The table's rows in each section of the page."""
    found = {}
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        rows = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("| ")]
        found[int(part.partition(".")[0])] = rows[1:]
    return found


def name(number: int) -> str:
    return f"errata-{number}.png"


# -- pictures ---------------------------------------------------------------------------------------


def squeezed(axes: Any) -> None:
    logits = torch.linspace(-6, 6, 49).tolist()
    for loss, colour, label in ((games.twice, WRONG, "sigmoid twice"), (games.once, RIGHT, "logits")):
        axes[0].plot(logits, [float(loss(torch.tensor(at))) for at in logits], color=colour, label=label)
        axes[1].plot(logits, [games.slope(loss, at) for at in logits], color=colour)
    axes[0].set(xlabel="logit of a real example", ylabel="loss", ylim=(0, 4))
    axes[1].set(xlabel="logit of a real example", ylabel="size of its slope")
    axes[0].legend(frameon=False)


def masses(axes: Any) -> None:
    means = torch.linspace(0.001, 0.999, 199, dtype=torch.float64)
    axes[0].plot(means, bounds.mass_of_cross_entropy(means), color=WRONG, label="exp(-cross entropy)")
    axes[0].axhline(1, color=RIGHT, label="a likelihood of grey levels")
    axes[0].set(xlabel="mean", ylabel="all probability", ylim=(0, 1.1))
    axes[0].legend(frameon=False, loc="center")


def fleeing(axes: Any) -> None:
    for sign, colour, label in ((-1.0, WRONG, "error - KL"), (1.0, RIGHT, "error + KL")):
        axes[0].plot(bounds.posterior_after(200, sign), color=colour, label=label)
    axes[0].set(xlabel="step", ylabel="KL in nats", yscale="log")
    axes[0].legend(frameon=False)


def leaks(axes: Any) -> None:
    for place, masked, title in zip(axes, (False, True), ("no mask", "causal mask"), strict=True):
        place.imshow(sequences.influence_of_time(masked).sqrt(), cmap="Greys", vmin=0)
        place.set(title=title, xlabel="token that changes", ylabel="output that moves", xticks=[], yticks=[])


def variances(axes: Any) -> None:
    steps = range(0, 1001, 20)
    for kept, colour, label in ((1.0, WRONG, "x + 0.43 e"), ((1 - 0.43**2) ** 0.5, RIGHT, "variance kept")):
        axes[0].plot(steps, [noise.variance_after(T, kept) for T in steps], color=colour, label=label)
    axes[0].set(xlabel="steps", ylabel="variance", yscale="log")
    axes[0].legend(frameon=False)


PICTURES: dict[int, tuple[int, Callable[[Any], None]]] = {
    1: (2, squeezed), 5: (1, masses), 6: (1, fleeing), 11: (2, leaks), 20: (1, variances),
}  # fmt: skip
"""How many panels, and what draws them."""


def draw(number: int) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels, paint = PICTURES[number]
    figure = Figure(figsize=(3.6 * panels, 2.4), dpi=110, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    paint(axes)
    for place in axes:
        place.spines[["top", "right"]].set_visible(False)
        place.tick_params(labelsize=8, color=INK)
        place.xaxis.label.set_size(9)
        place.yaxis.label.set_size(9)
        place.title.set_size(9)
    figure.savefig(DOCS / "assets" / name(number))


def main() -> None:
    for number in PICTURES:
        draw(number)
    PAGE.write_text("\n".join([INTRODUCTION, *(section(MISTAKES[n]) for n in sorted(MISTAKES))]))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
