"""Killed and resumed is undisturbed, bit for bit: every model, and all that its training carries from step to step."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cases import ONE_EACH, Case

from pangen.files import read_tensors
from pangen.folder import CHECKPOINT, WEIGHTS
from pangen.training import fit, fit_recipe
from pangen.training.averages import SNAPSHOTS
from pangen.training.checkpoint import save_checkpoint

STEPS, SAVED, KILLED = 4, 2, 3
SETTINGS = {"ema": 0.5, "snapshots": 2, "validations": 2, "validation_examples": 8, "batch": 16}


class Kill(BaseException):
    """As sudden as a signal: nothing is saved on the way out."""


def train(case: Case, folder: Path, until: int, *, resume: bool = False) -> None:
    """So far and no further."""

    def stop(event: Any) -> None:
        if event.step == until:
            raise Kill

    recipe = case.recipe(steps=STEPS, **SETTINGS)
    with suppress(Kill):
        fit_recipe(recipe, case.data, case.codec, path=folder, resume=resume, report=stop)


def left(folder: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The bits of all tensors of a run, and the facts of its checkpoint, times aside."""
    snapshots = sorted((folder / SNAPSHOTS).iterdir())
    tensors = {
        f"{path.name}/{name}": tensor.numpy().tobytes()
        for path in (folder / CHECKPOINT, folder / WEIGHTS, *snapshots)
        for name, tensor in read_tensors(path)[0].items()
    }
    facts = read_tensors(folder / CHECKPOINT)[1]
    return tensors, {name: value for name, value in facts.items() if name not in ("seconds", "saving")}


@pytest.mark.parametrize("case", [c for c in ONE_EACH if "closed_form" not in c.entry.capabilities], ids=str)
def test_killed_and_resumed_is_undisturbed(case, tmp_path, monkeypatch):
    """Weights, averages, moments, chains, codebooks, schedules, noise, place in the data, scores, what was watched."""
    monkeypatch.setattr(fit, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(fit, "CHECKPOINT_SHARE", float("inf"))
    train(case, tmp_path / "whole", STEPS)
    with monkeypatch.context() as late:
        late.setattr(
            fit, "save_checkpoint", lambda run, state: state.step <= SAVED and save_checkpoint(run, state)
        )
        train(case, tmp_path / "killed", KILLED)  # whose last step is lost
    train(case, tmp_path / "killed", STEPS, resume=True)
    (whole, facts), (resumed, again) = left(tmp_path / "whole"), left(tmp_path / "killed")
    assert facts["step"] == STEPS
    assert whole.keys() == resumed.keys()
    assert not [name for name in whole if whole[name] != resumed[name]]
    assert facts == again
