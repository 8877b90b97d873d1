"""The state of a training as one safetensors file: no pickle, written at once or not at all."""

from __future__ import annotations

from pathlib import Path

from pangen.errors import PangenError
from pangen.files import read_tensors, write_tensors
from pangen.run import load_weights
from pangen.training.loop import Best, State


def save_checkpoint(path: Path, state: State) -> None:
    """Write weights, averages, best weights and optimizer moments."""
    tensors = {f"model/{k}": v for k, v in state.model.state_dict().items()}
    if state.average is not None:
        tensors |= {f"average/{k}": v for k, v in state.average.state_dict().items()}
    tensors |= {f"power/{s}/{k}": v for s, mine in state.powers.items() for k, v in mine.items()}
    tensors |= {f"best/{k}": v for k, v in state.best.weights.items()}
    for player, optimizer in state.optimizers.items():
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{player}/{index}/{k}": v for k, v in moments.items() if v is not None}
    best = {"step": state.best.step, "score": state.best.score} if state.best.weights else None
    facts = {"step": state.step, "seconds": state.seconds, "best": best}
    write_tensors(path, tensors, facts | {"scores": state.scores, "watched": state.watched})


def load_checkpoint(path: Path, state: State) -> None:
    """Bring a freshly started state to where the checkpoint was written."""
    tensors, facts = read_tensors(path)
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
        for name, tensor in parts["optimizer"].items():
            owner, index, key = name.split("/")
            if owner == player:
                moments.setdefault(int(index), {})[key] = tensor
        try:
            optimizer.load_state_dict(
                {"state": moments, "param_groups": optimizer.state_dict()["param_groups"]}
            )
        except (ValueError, KeyError) as error:
            raise PangenError(f"{path} does not fit its recipe ({error}): the run is damaged.") from None
    state.step, state.seconds, state.watched = facts["step"], facts["seconds"], facts["watched"]
    state.scores = [(step, score) for step, score in facts["scores"]]
    if facts["best"]:
        state.best = Best(facts["best"]["score"], facts["best"]["step"], parts["best"])
