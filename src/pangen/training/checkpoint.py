"""The state of a training as one safetensors file: no pickle, written at once or not at all, the one before kept."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Ge
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from pangen.errors import PangenError, StorageError
from pangen.files import read_tensors, write_tensors
from pangen.folder import BEFORE, CHECKPOINT, PARTS, PARTS_BEFORE
from pangen.run import load_weights
from pangen.training.loop import Best, State
from pangen.training.parts import read_parts, write_parts
from pangen.training.scale import Scale


@dataclass(frozen=True)
class Facts:
    """What a checkpoint says beside its tensors; what older ones did not say has a default."""

    step: Annotated[int, Ge(0)]
    seconds: float
    best: dict[str, float] | None
    scores: list[tuple[int, float]]
    watched: list[dict[str, float]]
    saving: float = 0.0
    measure: str = "score"
    scales: dict[str, Scale] = field(default_factory=dict)


def save_checkpoint(run: Path, state: State) -> None:
    """Write weights, averages, best weights and optimizer moments into a run's folder.

    Where a training is spread over its processes, each writes what it holds.
    """
    tensors = _held(state)
    tensors |= {f"best/{k}": v for k, v in state.best.weights.items()}
    for player, optimizer in state.optimizers.items():
        for index, weights in enumerate(state.players[player]):
            moments = optimizer.state.get(weights, {}).items()
            tensors |= {f"optimizer/{player}/{index}/{k}": v for k, v in moments if v is not None}
    best = {"step": state.best.step, "score": state.best.score} if state.best.weights else None
    facts = Facts(
        state.step, state.seconds, best, state.scores, state.watched, state.saving, state.measure, state.scales
    )  # fmt: skip
    if state.build is not None:
        write_parts(run / PARTS, run / PARTS_BEFORE, tensors, asdict(facts))
        return
    if (run / CHECKPOINT).exists():
        try:
            os.replace(run / CHECKPOINT, run / BEFORE)
        except OSError as error:
            raise StorageError(run / BEFORE, error) from None
    write_tensors(run / CHECKPOINT, tensors, asdict(facts))


def _held(state: State) -> dict[str, Tensor]:
    """What a state has from its start."""
    tensors = {f"model/{k}": v for k, v in state.model.state_dict().items()}
    if state.average is not None:
        tensors |= {f"average/{k}": v for k, v in state.average.state_dict().items()}
    return tensors | {f"power/{s}/{k}": v for s, mine in state.powers.items() for k, v in mine.items()}


def resume_state(run: Path, state: State) -> list[str]:
    """Bring a freshly started state to the latest whole checkpoint of a run, if it has any; returns warnings."""
    names = (CHECKPOINT, BEFORE) if state.build is None else (PARTS, PARTS_BEFORE)
    found = [run / name for name in names if (run / name).exists()]
    for path in found:
        try:
            _fill(state, path)
        except PangenError as error:
            if path == found[-1]:
                raise
            damage = f"{error} Training went on from the state before."
        else:
            return [] if path == found[0] else [damage]
    return []


def _fill(state: State, path: Path) -> None:
    tensors, facts = read_tensors(path) if state.build is None else read_parts(path, _places(state))
    try:
        _take(state, tensors, TypeAdapter(Facts).validate_python(facts), path)
    except ValidationError as error:
        first = error.errors()[0]
        what = ".".join(map(str, first["loc"]))
        raise PangenError(
            f"{path} says of {what} what cannot be ({first['msg']}): the run is damaged."
        ) from None
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise PangenError(f"{path} does not fit its recipe ({error!r}): the run is damaged.") from None


def _places(state: State) -> Callable[[str, torch.Size], Tensor]:
    """Where the tensors of a checkpoint go: each process has what it holds of them."""
    held = _held(state) | {f"best/{k}": x for k, x in state.judged.state_dict().items()}
    for player, weights in state.players.items():
        held |= {f"optimizer/{player}/{index}": w for index, w in enumerate(weights)}

    def place(name: str, shape: torch.Size) -> Tensor:
        like = held[name.rpartition("/")[0] if name.startswith("optimizer/") else name].detach()
        return torch.empty_like(like) if like.shape == shape else torch.empty(shape)

    return place


def _take(state: State, tensors: dict[str, Tensor], facts: Facts, path: Path) -> None:
    parts: dict[str, dict] = {"model": {}, "average": {}, "power": {}, "best": {}, "optimizer": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition("/")
        parts[part][rest] = tensor
    load_weights(state.model, parts["model"], path)
    if state.average is not None:
        load_weights(state.average, parts["average"], path)
    for sigma_rel, mine in state.powers.items():
        for name in mine:
            mine[name].copy_(parts["power"][f"{sigma_rel}/{name}"])
    for player, optimizer in state.optimizers.items():
        moments: dict[int, dict] = {}
        order = [w for group in optimizer.param_groups for w in group["params"]]
        places = {w: index for index, w in enumerate(order)}
        for name, tensor in parts["optimizer"].items():
            owner, index, key = name.split("/")
            if owner == player:
                parameter = state.players[player][int(index)]
                moments.setdefault(places[parameter], {})[key] = _laid_out(tensor, parameter)
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    state.step, state.seconds, state.saving = facts.step, facts.seconds, facts.saving
    state.scores, state.watched, state.measure = facts.scores, facts.watched, facts.measure
    state.scales |= {player: facts.scales[player] for player in state.scales.keys() & facts.scales}
    if facts.best:
        if state.build is None:
            load_weights(copy.deepcopy(state.judged), parts["best"], path)  # refuses what does not fit
        state.best = Best(facts.best["score"], int(facts.best["step"]), parts["best"])


def _laid_out(moment: Tensor, parameter: Tensor) -> Tensor:
    """In memory as the parameter is: a fused optimizer walks through both without a look at their strides."""
    return torch.empty_like(parameter).copy_(moment) if moment.shape == parameter.shape else moment
