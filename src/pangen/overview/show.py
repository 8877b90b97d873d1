"""One run at a glance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pangen.errors import PangenError
from pangen.files import read_object
from pangen.folder import CARD, RECIPE
from pangen.overview.runs import curve, look, measure_of, metrics


def show(run: str | Path) -> dict[str, Any]:
    """State, recipe, curves and card of a run folder, also while it trains, as one JSON-able object.

    The fields of `pangen.runs`, and `recipe`; `curves`: by name the steps and values of the validation score and of
    each player's loss; `trouble` of the data; `warnings` of the training; `card`, empty before the first checkpoint.

    Args:
        run: its folder.

    Raises:
        PangenError: there is no such folder, or its recipe cannot be read.
    """
    folder = Path(run)
    if not folder.is_dir():
        raise PangenError(f"there is no run folder '{run}'; `pangen runs` lists those in runs.")
    recipe, rows = read_object(folder / RECIPE), metrics(folder)
    card = read_object(folder / CARD) if (folder / CARD).exists() else {}
    players = dict.fromkeys(
        name for row in rows for name, value in row.items()
        if isinstance(value, float) and "/" not in name and " " not in name and name != "seconds"
    )  # fmt: skip
    names = [name for name in (measure_of(rows), *players) if name]
    return {
        **look(folder),
        "recipe": recipe,
        "curves": {name: curve(rows, name) for name in names},
        "trouble": card.get("trouble", []),
        "warnings": card.get("warnings", []),
        "card": card,
    }
