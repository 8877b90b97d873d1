"""Runs that a benchmark keeps under `runs/`, so that the same command goes on with what was interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pangen
from pangen.files import read_json
from pangen.folder import CARD
from pangen.run import Run


def trained(model: str, data: Any, out: str | Path, **how: Any) -> Run:
    """The run in `runs/OUT`: trained now, gone on with, or loaded if it is complete; `how` is what `pangen.fit` takes."""
    how = {"device": "cpu", **how}
    folder = Path("runs") / out
    card = folder / CARD
    if card.exists() and read_json(card)["state"] == "complete":
        return pangen.load_run(folder, device=how["device"])
    if folder.exists():
        how = {k: v for k, v in how.items() if k in ("conditional", "codec", "device")} | {"resume": True}
    run = pangen.fit(model, data, out=folder, **how)
    if run.card["state"] != "complete":
        raise SystemExit(f"{folder} was interrupted; the same command goes on.")
    return run
